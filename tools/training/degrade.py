"""How an HR image becomes the LR image that a coarser probe would have measured."""

from __future__ import annotations

from numpy.typing import NDArray

from clesr.engines.resample import Level, quantise, resize


def crop_to_multiple(image: NDArray[Level], scale: int) -> NDArray[Level]:
    """``image`` without the last rows and columns that do not fill an LR pixel."""
    height, width = (n - n % scale for n in image.shape)
    return image[:height, :width]


def degrade(image: NDArray[Level], scale: int) -> NDArray[Level]:
    """The LR image of ``image`` (H, W), H and W multiples of ``scale``: antialiased bicubic, rounded."""
    height, width = (n // scale for n in image.shape)
    return quantise(resize(image, height, width), image.dtype)
