"""Gray images of what readers of still images give."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.pipeline.frame import Image
from clesr.pipeline.sources.images.indexed import Unreadable


def gray(pixels: NDArray[Any], *, blue_first: bool) -> Image:
    """(H, W) of what a reader gave: (H, W), (H, W, 1 or 2), or (H, W, 3 or 4) colour without its alpha.

    Raises Unreadable.
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
        raise Unreadable(f"its pixels have the form {pixels.shape}, not that of an image")
    return unsigned(pixels)


def unsigned(pixels: NDArray[Any]) -> Image:
    """The same order of values, as uint8 or uint16 over the full range, C-contiguous. Raises Unreadable."""
    if pixels.dtype == np.bool_:
        return np.ascontiguousarray(pixels).astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind not in "ui" or pixels.dtype.itemsize > 2:
        raise Unreadable(f"it has {pixels.dtype} pixels; convert them to 8 or 16 bit integers first")
    bits = 8 * pixels.dtype.itemsize
    whole = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
    image: Image = whole.view(np.uint8 if bits == 8 else np.uint16)
    return image ^ image.dtype.type(1 << (bits - 1)) if pixels.dtype.kind == "i" else image
