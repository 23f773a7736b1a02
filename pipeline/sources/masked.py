"""Regions that nobody may see, blanked before anything is shown or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clesr.pipeline.frame import Corrupt, Frame, Image, Outage
from clesr.pipeline.prepare import Roi
from clesr.pipeline.source import Source, SourceWrapper


class Masked(SourceWrapper):
    """``source`` with ``regions`` of every frame black.

    Raises UsageError, on reading too, where a region leaves the frame: then nothing of that frame gets out.
    """

    _source: Source

    def __init__(self, source: Source, regions: Sequence[Roi]) -> None:
        self.info = source.info
        self._source, self._regions = source, tuple(regions)
        if source.info.shape is not None:
            for region in self._regions:
                region.check(source.info.shape, "--mask")

    def read(self, timeout: float) -> Frame | Corrupt | Outage | None:
        item = self._source.read(timeout)
        self.info = self._source.info
        if not isinstance(item, Frame):
            return item
        return replace(item, image=blank(item.image, self._regions))


def blank(image: Image, regions: Sequence[Roi]) -> Image:
    """A copy of ``image`` with ``regions`` black. Raises UsageError where one leaves it."""
    blanked = image.copy()
    for region in regions:
        region.check((image.shape[0], image.shape[1]), "--mask")
        region.cut(blanked)[...] = 0
    return blanked
