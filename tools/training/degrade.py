"""How an HR image becomes the LR image that a coarser probe would have measured."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clesr.engines.resample import quantise, resize

Image = NDArray[np.uint8] | NDArray[np.uint16]


def crop_to_multiple(image: Image, scale: int) -> Image:
    """``image`` without the last rows and columns that do not fill an LR pixel."""
    height, width = (n - n % scale for n in image.shape)
    return image[:height, :width]


def degrade(image: Image, scale: int) -> Any:
    """The LR image of ``image`` (H, W), H and W multiples of ``scale``: antialiased bicubic, rounded."""
    height, width = (n // scale for n in image.shape)
    return quantise(resize(image, height, width), image.dtype)
