"""How an HR image becomes the LR image that a coarser probe would have measured."""

from __future__ import annotations

from numpy.typing import NDArray

from clesr.engines.common.resample import Level, quantise, resize

KERNEL = 2  # LR pixels that the bicubic kernel reaches at each side


def crop_to_multiple(image: NDArray[Level], scale: int) -> NDArray[Level]:
    """``image`` without the last rows and columns that do not fill an LR pixel."""
    height, width = (n - n % scale for n in image.shape)
    return image[:height, :width]


def degrade(image: NDArray[Level], scale: int) -> NDArray[Level]:
    """The LR image of ``image`` (H, W), H and W multiples of ``scale``: antialiased bicubic, rounded."""
    height, width = (n // scale for n in image.shape)
    return quantise(resize(image, height, width), image.dtype)


def degrade_part(image: NDArray[Level], part: tuple[slice, slice], scale: int) -> NDArray[Level]:
    """The LR image of ``part`` of ``image``, as a probe whose pixels start where ``part`` does would have measured it:
    with what the kernel reads around it."""
    spans, kept = [], []
    for inside, length in zip(part, image.shape, strict=True):
        before = min(KERNEL, inside.start // scale)
        after = min(KERNEL, (length - inside.stop) // scale)
        spans.append(slice(inside.start - before * scale, inside.stop + after * scale))
        kept.append(slice(before, before + (inside.stop - inside.start) // scale))
    return degrade(image[spans[0], spans[1]], scale)[kept[0], kept[1]]
