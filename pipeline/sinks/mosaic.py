"""``mosaic:FILE.ome.tif``: the frames joined into maps, each of which becomes a file."""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Event

import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import UsageError
from clesr.engines.common.files import MOST_NUMBERS, NEW, NewFile, new_file, numbered, split_suffix, writing
from clesr.engines.common.text import shown
from clesr.engines.view import field_of_view
from clesr.pipeline.frame import Image, Outcome, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.mosaic.mosaic import Mosaic
from clesr.pipeline.mosaic.ome import PixelSize, write_map
from clesr.pipeline.mosaic.tissue_map import TissueMap
from clesr.pipeline.sinks.registry import DEFAULTS, SinkOptions
from clesr.pipeline.sinks.stills import OME_SUFFIXES

REFRESH = 16  # frames after which the field of view is looked for again
TOLD = 5  # files that the summary names
SCHEME = "mosaic:"

log = SafeLogger(logging.getLogger(__name__))


class MosaicFile:
    """Draws results on a ``mosaic`` and writes each map when it ends: the first to FILE, others to ``FILE.2.ome.tif``
    and so on, under names that are free. ``save`` writes the one that grows, as it is.

    Takes the newest result only, and spends at most ``share`` of its thread's time on drawing; all of them for 1.
    Raises UsageError for a name that does not end in ``.ome.tif``, SinkError where it may not be written.
    """

    def __init__(
        self, address: str, options: SinkOptions = DEFAULTS, *, share: float = 0.3, clock: Clock = SYSTEM
    ) -> None:
        self.path = Path(address.removeprefix(SCHEME))
        if not split_suffix(self.path)[0] or split_suffix(self.path)[1].lower() not in OME_SUFFIXES:
            raise UsageError(f"a map is a file that ends in {OME_SUFFIXES[0]}, not {shown(str(self.path))!r}")
        with writing(self.path):
            NewFile(self.path, options.rule).discard()  # shows now whether the folder takes files
        self.name = str(self.path)
        self.policy = Policy.DROP_OLDEST if share < 1 else Policy.BLOCK
        self.mosaic = Mosaic(self._write, limit_mb=options.mosaic_memory)
        self.frames = 0  # looked at
        self._options, self._share, self._clock = options, share, clock
        self._free_ns: int | None = None
        self._origin: float | None = None
        self._view: NDArray[np.bool_] | None = None
        self._size: PixelSize | None = None
        self._files: list[str] = []
        self._written: tuple[TissueMap, int] | None = None
        self._wanted = Event()
        self._said: str | None = None

    def save(self) -> None:
        """Write the map that grows as it is when the next result comes, and go on. Any thread."""
        self._wanted.set()

    def write(self, result: Result) -> None:
        begun_ns = self._clock.now_ns()
        if self._wanted.is_set():
            self._wanted.clear()
            self.mosaic.save()
        if self._free_ns is not None and begun_ns < self._free_ns:
            return
        frame = result.frame
        pts = None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
        seconds = frame.time_ns / 1e9 if pts is None else pts
        failed = result.outcome is Outcome.FAILED
        self.draw(result.image, frame.number, seconds, scale=result.scale, failed=failed)
        now_ns = self._clock.now_ns()
        if self._share < 1:
            self._free_ns = now_ns + int((now_ns - begun_ns) * (1 / self._share - 1))

    def draw(self, image: Image, number: int, seconds: float, *, scale: int, failed: bool) -> None:
        """Draw the SR ``image`` of frame ``number``, of any origin of ``seconds``, unless its engine ``failed``."""
        if (pixel_um := self._options.pixel_um) is not None:
            side = pixel_um / scale
            self._size = PixelSize(side, side / float(self._options.pixel_aspect))
        self._origin = seconds if self._origin is None else self._origin
        if failed:
            self.mosaic.fail(number, seconds - self._origin)
        else:
            if self._view is None or self._view.shape != image.shape or self.frames % REFRESH == 0:
                self._view = field_of_view(image)
            self.mosaic.add(image, number, seconds - self._origin, self._view)
        self.frames += 1

    def close(self) -> str | None:
        if self._said is None:
            self._said = f"{self.path}: no map was written"
            self.mosaic.end()
            if self._files:
                more = [f"and {len(self._files) - TOLD} more maps"] * (len(self._files) > TOLD)
                self._said = "; ".join([*self._files[:TOLD], *more])
        return self._said

    def _write(self, tissue: TissueMap) -> None:
        if (state := (tissue, len(tissue.frames))) == self._written:
            return
        path, rule = self.path, self._options.rule
        for number in range(2, MOST_NUMBERS):
            if not self._files and path == self.path and rule.allows(path):
                break
            path, rule = numbered(self.path, number), NEW
            if rule.allows(path):
                break
        with new_file(path, rule) as temporary:
            height, width = write_map(temporary, tissue, self.mosaic.maps, self._size)
        self._written = state
        self._files.append(f"{path}: a map of {tissue.count} frames, {width}x{height}")
