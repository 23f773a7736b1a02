"""Regions that are blanked before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clesr.pipeline.frame import Image
from clesr.pipeline.prepare import Roi
from clesr.tools.export.clip import Still

MARGIN = 2  # pixels of the captured image around a region in SR images: what a network or bicubic carries over its edge


def blank_sr(regions: Sequence[Roi], scale: int, origin: tuple[int, int]) -> Callable[[Still], Image]:
    """An edit that makes ``regions`` of captured images, with MARGIN around them, black in the SR images.

    ``origin`` (x, y) is the corner of the part of the captured image from which the SR images were made.
    """

    def edit(still: Still) -> Image:
        blanked = still.image.copy()
        for region in regions:
            columns = _grown(region.x - origin[0], region.width, scale)
            blanked[_grown(region.y - origin[1], region.height, scale), columns] = 0
        return blanked

    return edit


def _grown(begin: int, size: int, scale: int) -> slice:
    return slice(max(0, begin - MARGIN) * scale, max(0, begin + size + MARGIN) * scale)
