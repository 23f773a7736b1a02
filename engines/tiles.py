"""An image that does not fit into the device, in tiles that overlap.

All tiles have one shape, so one engine computes them. A tile's outer pixels, its halo, are thrown away where they
border on another tile: there the network has seen an edge that is not in the image. At the image's border tiles
end as the image does.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from clesr.engines.common.errors import EngineError
from clesr.engines.common.image import Image
from clesr.engines.engine import Engine
from clesr.engines.guidance import Guidance, guide
from clesr.engines.memory import free_memory, is_out_of_memory
from clesr.engines.results import collect_checked, submit
from clesr.engines.worker import WorkerEngine

log = logging.getLogger(__name__)
HALO = 32  # LR pixels; benchmarks/results/seams.json
SMALLEST = 64  # LR pixels a side of a tile without its halo: below, a tile is mostly halo


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis: ``start`` and ``stop`` of what it reads, ``first`` and ``last`` of what it gives."""

    start: int
    stop: int
    first: int
    last: int

    @property
    def read(self) -> slice:
        """Of the LR image."""
        return slice(self.start, self.stop)

    def given(self, scale: int) -> slice:
        """Of the SR image."""
        return slice(self.first * scale, self.last * scale)

    def kept(self, scale: int) -> slice:
        """Of the tile's SR image."""
        return slice((self.first - self.start) * scale, (self.last - self.start) * scale)


def spans(length: int, count: int, halo: int) -> list[Span]:
    """``length`` pixels in ``count`` tiles that read the same number of pixels each.

    What they give covers all pixels once, and lies ``halo`` or more from every edge that is not the image's.
    """
    core = -(-length // count)
    size = min(length, core + 2 * halo if count > 1 else core)
    found = []
    for first in range(0, length, core):
        start = min(max(0, first - halo), length - size)
        found.append(Span(start, start + size, first, min(first + core, length)))
    return found


@dataclass(frozen=True, slots=True)
class Grid:
    """``rows`` x ``columns`` tiles over an LR image of ``shape`` (H, W)."""

    shape: tuple[int, int]
    rows: int
    columns: int
    halo: int = HALO

    @property
    def tile(self) -> tuple[int, int]:
        """LR shape (H, W) of a tile with its halo."""
        down, right = (part[0] for part in self._parts())
        return down.stop - down.start, right.stop - right.start

    def tiles(self) -> list[tuple[Span, Span]]:
        """Row by row."""
        down, right = self._parts()
        return [(one, other) for one in down for other in right]

    def finer(self) -> Grid | None:
        """Tiles of half the size along their longer side; None where they would become too small."""
        height, width = self.shape[0] / self.rows, self.shape[1] / self.columns
        if max(height, width) < 2 * SMALLEST:
            return None
        return (
            replace(self, rows=2 * self.rows) if height > width else replace(self, columns=2 * self.columns)
        )

    def _parts(self) -> tuple[list[Span], list[Span]]:
        return spans(self.shape[0], self.rows, self.halo), spans(self.shape[1], self.columns, self.halo)

    def __str__(self) -> str:
        height, width = self.tile
        return f"{len(self.tiles())} tiles of {width}x{height} with a halo of {self.halo} pixels"


def open_fitting(open_one: Callable[[tuple[int, int]], Engine], shape: tuple[int, int]) -> Engine:
    """``open_one(shape)``, or where the memory does not suffice an engine in tiles, which is logged.

    Tiles are halved until they fit. Raises what ``open_one`` raises for another reason, and EngineError where the
    smallest tiles do not fit.
    """
    grid = Grid(shape, 1, 1)
    while True:
        try:
            engine = open_one(grid.tile)
            break
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            finer = grid.finer()
            if finer is None:
                raise EngineError(f"not even tiles fit into the memory: {error}") from error
            grid = finer
        free_memory()
    if grid.rows * grid.columns == 1:
        return engine
    log.info(
        f"{shape[1]}x{shape[0]} pixels are too many for the memory of {engine.info.device}: computed in {grid}"
    )
    return in_tiles(engine, grid)


def in_tiles(engine: Engine, grid: Grid) -> WorkerEngine:
    """``engine``, which is for ``grid.tile``, as an engine for ``grid.shape``. Closing it closes ``engine``."""
    if engine.info.lr_shape != grid.tile:
        raise ValueError(f"the engine is for {engine.info.lr_shape}, the tiles are {grid.tile}")
    info = replace(engine.info, lr_shape=grid.shape)
    return WorkerEngine(info, functools.partial(_compute, engine, grid), release=engine.close)


def _compute(engine: Engine, grid: Grid, lr: Image, guidance: Guidance | None = None) -> Image:
    """``lr`` through ``engine`` tile by tile, as many in flight as it takes; none is left there, whatever it raises."""
    if engine.info.levels and guidance is None:
        guidance = guide(lr)
    scale = engine.info.scale
    sr: Image = np.empty((lr.shape[0] * scale, lr.shape[1] * scale), lr.dtype)
    waiting: deque[tuple[Span, Span, Image]] = deque()

    def collect() -> None:
        down, right, part = waiting.popleft()
        tile = collect_checked(engine, part, scale)
        sr[down.given(scale), right.given(scale)] = tile[down.kept(scale), right.kept(scale)]

    try:
        for down, right in grid.tiles():
            if len(waiting) == engine.depth:
                collect()
            part = np.ascontiguousarray(lr[down.read, right.read])
            submit(engine, part, guidance and guidance.part(down.read, right.read))
            waiting.append((down, right, part))
        while waiting:
            collect()
    finally:
        while waiting:  # only after an error, which is the one that is raised
            with suppress(Exception):
                collect()
    return sr
