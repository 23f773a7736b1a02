"""Regions that are blanked before anything is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from clesr.pipeline.errors import UsageError
from clesr.pipeline.frame import Image

MARGIN = 2  # pixels of the captured image around a region in SR images: what a network or bicubic carries over its edge


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle in pixels: corner, width, height."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Region:
        """``X,Y,W,H``; raises UsageError for anything else."""
        match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", text)
        if match is None or not (int(match[3]) and int(match[4])):
            raise UsageError(
                f"--mask {text!r} is not X,Y,W,H in whole pixels of the captured image, such as 0,0,120,20"
            )
        return cls(*(int(part) for part in match.groups()))

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.width},{self.height}"

    def inside(self, shape: tuple[int, ...]) -> bool:
        """Whether all of it lies in an image of ``shape`` (H, W)."""
        return self.x + self.width <= shape[1] and self.y + self.height <= shape[0]


def blank(image: Image, regions: Sequence[Region]) -> Image:
    """A copy of the captured ``image`` with ``regions`` black. Raises UsageError where one leaves the image."""
    blanked = image.copy()
    for region in regions:
        if not region.inside(image.shape):
            raise UsageError(
                f"--mask {region} leaves the image of {image.shape[1]}x{image.shape[0]} pixels; nothing was written"
            )
        blanked[region.y : region.y + region.height, region.x : region.x + region.width] = 0
    return blanked


def blank_derived(image: Image, regions: Sequence[Region], scale: int, origin: tuple[int, int]) -> Image:
    """A copy of the SR ``image`` with ``regions``, which are in pixels of the captured image, black, MARGIN around them too.

    ``origin`` (x, y) is the corner of the part of the captured image from which the SR image was made.
    """
    blanked = image.copy()
    for region in regions:
        left, top = region.x - origin[0] - MARGIN, region.y - origin[1] - MARGIN
        right, bottom = left + region.width + 2 * MARGIN, top + region.height + 2 * MARGIN
        rows, columns = (slice(max(0, a * scale), max(0, b * scale)) for a, b in ((top, bottom), (left, right)))
        blanked[rows, columns] = 0
    return blanked
