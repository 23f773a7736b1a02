"""Recorded images that can be had by index: what Cellvizio files, TIFF stacks and folders share, and their gray."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import EndOfSource
from clesr.engines.common.parsing import one_line
from clesr.pipeline.frame import Corrupt, Frame, Image
from clesr.pipeline.source import SourceInfo


class UnreadableImage(Exception):
    """One image cannot be read; its text is the reason, in one line."""


class IndexedSource:
    """One frame an image, numbered by index, as fast as it is read. ``fps`` gives ``pts``, where known.

    ``image`` gives the image of an index, (H, W) uint8 or uint16, C-contiguous, and raises UnreadableImage; ``count``
    says how many there are, those that cannot be read among them. ``release`` gives files back.
    """

    def __init__(
        self,
        image: Callable[[int], Image],
        count: int,
        address: str,
        *,
        release: Callable[[], None] = lambda: None,
        clock: Clock = SYSTEM,
        fps: float | None = None,
        shape: tuple[int, int] | None = None,
    ) -> None:
        self.info = SourceInfo(address, live=False, fps=fps, shape=shape, frames=count)
        self._image, self._release, self._clock = image, release, clock
        self._time_base = 1 / Fraction(fps).limit_denominator(1000) if fps else None
        self._next, self._stop = 0, count
        self._lock = threading.Lock()

    def read(self, timeout: float) -> Frame | Corrupt | None:
        """The next image; ``timeout`` does not matter, a file never waits. Raises EndOfSource."""
        with self._lock:
            number = self._next
            if number >= self._stop:
                raise EndOfSource
            self._next += 1
            try:
                image = self._image(number)
                pts = number if self._time_base is not None else None
                return Frame(image, number, self._clock.now_ns(), pts, self._time_base)
            except UnreadableImage as error:
                return Corrupt(number, self._clock.now_ns(), str(error))
            except Exception as error:  # noqa: BLE001 - whatever a library meets in a damaged image
                return Corrupt(number, self._clock.now_ns(), f"cannot be read ({one_line(error)})")

    def restrict(self, start: int, stop: int) -> None:
        """Give images ``start`` to ``stop`` (exclusive) alone."""
        self._next, self._stop = start, min(stop, self._stop)
        self.info = replace(self.info, frames=stop - start)

    def close(self) -> None:
        with self._lock:
            self._next = self._stop
            self._release()


def gray(pixels: NDArray[Any], *, blue_first: bool) -> Image:
    """(H, W) of what a reader gave: (H, W), (H, W, 1 or 2), or (H, W, 3 or 4) colour without its alpha.

    Raises UnreadableImage.
    """
    if pixels.ndim == 3 and pixels.shape[2] in (1, 2):
        pixels = pixels[..., 0]
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        codes = (
            (cv2.COLOR_BGR2GRAY, cv2.COLOR_BGRA2GRAY)
            if blue_first
            else (cv2.COLOR_RGB2GRAY, cv2.COLOR_RGBA2GRAY)
        )
        return unsigned(cv2.cvtColor(unsigned(pixels), codes[pixels.shape[2] - 3]))
    if pixels.ndim != 2:
        raise UnreadableImage(f"its pixels have the form {pixels.shape}, not that of an image")
    return unsigned(pixels)


def unsigned(pixels: NDArray[Any]) -> Image:
    """The same order of values, as uint8 or uint16 over the full range, C-contiguous. Raises UnreadableImage."""
    if pixels.dtype == np.bool_:
        return np.ascontiguousarray(pixels).astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind not in "ui" or pixels.dtype.itemsize > 2:
        raise UnreadableImage(f"it has {pixels.dtype} pixels; convert them to 8 or 16 bit integers first")
    bits = 8 * pixels.dtype.itemsize
    whole = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
    image: Image = whole.view(np.uint8 if bits == 8 else np.uint16)
    return image ^ image.dtype.type(1 << (bits - 1)) if pixels.dtype.kind == "i" else image
