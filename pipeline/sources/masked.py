"""Regions that nobody may see, blanked before anything is shown or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.prepare import Roi
from clesr.pipeline.source import Source


class Masked:
    """``source`` with ``regions`` of every frame black.

    Raises UsageError, on reading too, where a region leaves the frame: then nothing of that frame gets out.
    """

    def __init__(self, source: Source, regions: Sequence[Roi]) -> None:
        self.info = source.info
        self._source, self._regions = source, tuple(regions)
        if source.info.shape is not None:
            self._check(source.info.shape)

    def read(self, timeout: float) -> Frame | Corrupt | None:
        item = self._source.read(timeout)
        self.info = self._source.info
        if not isinstance(item, Frame):
            return item
        self._check((item.image.shape[0], item.image.shape[1]))
        image = item.image.copy()
        for region in self._regions:
            region.cut(image)[...] = 0
        return replace(item, image=image)

    def close(self) -> None:
        self._source.close()

    def _check(self, shape: tuple[int, int]) -> None:
        for region in self._regions:
            region.check(shape, "--mask")
