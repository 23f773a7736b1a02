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
    around, kept = surroundings(image, part, scale, (KERNEL, KERNEL), KERNEL)
    return degrade(image[around], scale)[kept]


def surroundings(
    image: NDArray[Level], part: tuple[slice, slice], scale: int, before: tuple[int, int], after: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """``part`` of ``image`` with so many LR pixels ``before`` (rows, columns) and ``after`` it as there are, and where
    in the LR image of that the part's own lies."""
    around, kept = [], []
    for inside, length, wanted in zip(part, image.shape, before, strict=True):
        lead = min(wanted, inside.start // scale)
        trail = min(after, (length - inside.stop) // scale)
        around.append(slice(inside.start - lead * scale, inside.stop + trail * scale))
        kept.append(slice(lead, lead + (inside.stop - inside.start) // scale))
    return (around[0], around[1]), (kept[0], kept[1])


def halve(image: NDArray[Level]) -> NDArray[Level]:
    """``image`` shrunk by two: finer structure for its pixels than the original has."""
    return degrade(crop_to_multiple(image, 2), 2)
