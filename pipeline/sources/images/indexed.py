"""Recorded images that can be had by index: what Cellvizio files, TIFF stacks and folders share."""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Protocol

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import EndOfSource
from clesr.engines.common.parsing import one_line
from clesr.pipeline.frame import Corrupt, Frame, Image
from clesr.pipeline.sources.base import SourceInfo


class Unreadable(Exception):
    """One image cannot be read; its text is the reason, in one line."""


class Images(Protocol):
    """An opened recording."""

    def __len__(self) -> int:
        """How many images, those that cannot be read among them."""

    def image(self, index: int) -> Image:
        """(H, W) uint8 or uint16, C-contiguous. Raises Unreadable."""

    def close(self) -> None:
        """Give files back."""


class IndexedSource:
    """One frame an image, numbered by index, as fast as it is read. ``fps`` gives ``pts``, where known."""

    def __init__(
        self,
        images: Images,
        address: str,
        *,
        clock: Clock = SYSTEM,
        fps: float | None = None,
        shape: tuple[int, int] | None = None,
    ) -> None:
        self.info = SourceInfo(address, live=False, fps=fps, shape=shape, frames=len(images))
        self._images, self._clock = images, clock
        self._time_base = 1 / Fraction(fps).limit_denominator(1000) if fps else None
        self._next = 0
        self._lock = threading.Lock()

    def read(self, timeout: float) -> Frame | Corrupt | None:
        """The next image; ``timeout`` does not matter, a file never waits. Raises EndOfSource."""
        with self._lock:
            number = self._next
            if number >= len(self._images):
                raise EndOfSource
            self._next += 1
            try:
                image = self._images.image(number)
                pts = number if self._time_base is not None else None
                return Frame(image, number, self._clock.now_ns(), pts, self._time_base)
            except Unreadable as error:
                return Corrupt(number, self._clock.now_ns(), str(error))
            except Exception as error:  # noqa: BLE001 - whatever a library meets in a damaged image
                return Corrupt(number, self._clock.now_ns(), f"cannot be read ({one_line(error)})")

    def skip_to(self, number: int) -> None:
        """Go on with image ``number``."""
        with self._lock:
            self._next = number

    def close(self) -> None:
        with self._lock:
            self._next = len(self._images)
            self._images.close()
