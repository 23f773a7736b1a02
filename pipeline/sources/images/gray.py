"""Gray images of what files hold: values of any depth, sign and kind, and colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.pipeline.frame import Image
from clesr.pipeline.sources.images.unreadable import UnreadableImage

TOP = 65535


@dataclass(frozen=True, slots=True)
class Values:
    """What the numbers of a gray image mean. ``bits`` of each count where they are integers; ``inverted``
    where 0 is white. A value of the file becomes a grey level of the frame: 8 and 16 bits stay as they are, signed ones
    get half their range added, 9 to 15 bits move to the top, fewer are spread over 0..255. Floats and deeper integers
    have no such range: ``window``, in values of the file, says what becomes black and white."""

    dtype: np.dtype[Any]
    bits: int
    inverted: bool = False
    window: tuple[float, float] | None = None

    @property
    def ranged(self) -> bool:
        """Whether the numbers have a range of their own."""
        return self.dtype.kind in "uib" and self.dtype.itemsize <= 2

    def image(self, values: NDArray[Any]) -> Image:
        """(H, W) uint8 or uint16, C-contiguous, of ``values`` (H, W). Raises UnreadableImage."""
        if not self.ranged:
            return self._windowed(values)
        image = unsigned(values)
        top, whole = self._top, int(np.iinfo(image.dtype).max)
        if top < whole:  # bits that do not count may hold anything
            below = (whole - top) // 2 if self.dtype.kind == "i" else 0
            image = np.clip(image, below, below + top) - image.dtype.type(below)
        if self.inverted:
            image = (top - image).astype(image.dtype)
        return self._spread(image)

    def levels(self, low: float, high: float) -> tuple[float, float]:
        """The grey levels of the frame that the values ``low`` and ``high`` of the file become, in rising order."""
        if not self.ranged:
            return 0.0, float(TOP)
        shift = (self._top + 1) / 2 if self.dtype.kind == "i" else 0.0
        gain = 255.0 if self.dtype.kind == "b" else self._gain
        white = 1 if self.dtype.kind == "b" else self._top
        ends = [gain * (white - value - shift if self.inverted else value + shift) for value in (low, high)]
        return min(ends), max(ends)

    @property
    def _top(self) -> int:
        return 255 if self.dtype.kind == "b" else int((1 << min(self.bits, 8 * self.dtype.itemsize)) - 1)

    @property
    def _gain(self) -> float:
        top = self._top
        return 255 / top if top < 256 else float((TOP + 1) // (top + 1))

    def _spread(self, image: Image) -> Image:
        top, gain = self._top, self._gain
        if gain == 1:  # of 8 bits in a wider word too
            return np.ascontiguousarray(image, np.uint8 if top < 256 else np.uint16)
        if top < 256:
            table = np.rint(np.arange(top + 1) * gain).astype(np.uint8)
            return np.ascontiguousarray(table[image])
        return np.ascontiguousarray(image * np.uint16(gain), np.uint16)

    def _windowed(self, values: NDArray[Any]) -> Image:
        if self.dtype.kind not in "uif" or self.window is None:
            raise UnreadableImage(f"it has {self.dtype} pixels; {NEEDS_WINDOW}")
        low, high = self.window
        if self.inverted:
            low, high = high, low
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            share = (values.astype(np.float64) - low) / (high - low)
            share = np.nan_to_num(share, nan=0.0, posinf=1.0, neginf=0.0)
        return np.ascontiguousarray(np.rint(np.clip(share, 0, 1) * TOP).astype(np.uint16))


def windowed(image: Image, low: float, high: float) -> NDArray[np.uint16]:
    """``image`` with its grey levels ``low``..``high`` spread over all of uint16, the rest clipped."""
    levels = np.arange(int(np.iinfo(image.dtype).max) + 1)
    table = np.clip(np.rint((levels - low) * (TOP / (high - low))), 0, TOP).astype(np.uint16)
    return np.ascontiguousarray(table[image])


NEEDS_WINDOW = "say which of their values are black and white: --window LOW,HIGH"


def luma_of_colour(pixels: NDArray[Any], *, blue_first: bool) -> Image:
    """(H, W) of colour (H, W, 3 or more), of which what is behind the third sample is left out."""
    code = cv2.COLOR_BGR2GRAY if blue_first else cv2.COLOR_RGB2GRAY
    colour = np.ascontiguousarray(pixels[..., :3])
    return np.asarray(cv2.cvtColor(colour, code))


def gray(pixels: NDArray[Any], *, blue_first: bool) -> Image:
    """(H, W) of what a decoder of stills gave: (H, W), (H, W, 1 or 2), or (H, W, 3 or 4) colour without its alpha.

    Raises UnreadableImage.
    """
    if pixels.ndim == 3 and pixels.shape[2] in (1, 2):
        pixels = pixels[..., 0]
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        return luma_of_colour(unsigned(pixels), blue_first=blue_first)
    if pixels.ndim != 2:
        raise UnreadableImage(f"its pixels have the form {pixels.shape}, not that of an image")
    return unsigned(pixels)


def unsigned(pixels: NDArray[Any]) -> Image:
    """The same order of values, as uint8 or uint16 over the full range, C-contiguous. Raises UnreadableImage."""
    if pixels.dtype == np.bool_:
        return np.ascontiguousarray(pixels).astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind not in "ui" or pixels.dtype.itemsize > 2:
        raise UnreadableImage(f"it has {pixels.dtype} pixels; {NEEDS_WINDOW}")
    bits = 8 * pixels.dtype.itemsize
    whole = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
    image: Image = whole.view(np.uint8 if bits == 8 else np.uint16)
    return image ^ image.dtype.type(1 << (bits - 1)) if pixels.dtype.kind == "i" else image


def from_cmyk(pixels: NDArray[Any]) -> NDArray[Any]:
    """RGB (H, W, 3) of ink (H, W, 4 or more), in the same dtype, uint8 or uint16: without a profile, each ink takes its
    colour's light away."""
    top = int(np.iinfo(pixels.dtype).max)
    light = top - pixels[..., :4].astype(np.uint32)
    return np.asarray((light[..., :3] * light[..., 3:] + top // 2) // top, pixels.dtype)


def turned(image: Image, orientation: int) -> Image:
    """``image`` as it is to be seen where a file says by ``orientation`` 1 to 8 (TIFF 6.0, Exif) how it lies; one that
    is none of these leaves it."""
    if not 2 <= orientation <= 8:
        return image
    if orientation in (5, 6, 7, 8):
        image = image.T
    # What is left to be mirrored after that: rows, columns.
    rows, columns = {
        2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1),
    }[orientation]  # fmt: skip
    return np.ascontiguousarray(image[::rows, ::columns])


def turned_shape(shape: tuple[int, int], orientation: int) -> tuple[int, int]:
    return (shape[1], shape[0]) if 5 <= orientation <= 8 else shape
