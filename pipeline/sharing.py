"""Whether several streams are faster through one engine or through several: a short trial on this machine."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from clesr.engines.common.clock import SYSTEM
from clesr.pipeline.engine_stage import EngineStage
from clesr.pipeline.frame import Frame
from clesr.pipeline.live_engine import LiveEngine, OpenEngine
from clesr.pipeline.messages import SafeLogger, naming
from clesr.pipeline.pipeline import Limits, Pipeline, run_together
from clesr.pipeline.source import SourceInfo

log = SafeLogger(logging.getLogger(__name__))
TRIAL_S = 0.7  # for each of the two ways
ENOUGH = 1.2  # times the sources' rate: then several engines need not be tried
GAIN = 1.1  # how much faster several must be, because they take more memory


class StillSource:
    """One image over and over, as fast as it is read."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.info = SourceInfo("trial", live=False, shape=shape)
        self._image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        self._number = -1

    def read(self, timeout: float) -> Frame:
        self._number += 1
        return Frame(self._image, self._number, SYSTEM.now_ns())

    def close(self) -> None:
        pass


def shared(open_engine: OpenEngine, scale: int, **options: Any) -> EngineStage:
    """What pipelines are given in place of ``open_engine`` to share its engines; ``options`` are LiveEngine's."""
    return EngineStage(partial(LiveEngine, open_engine, scale, SYSTEM, **options))


def choose_sharing(
    shapes: Sequence[tuple[int, int]], fps: float, scale: int, one: OpenEngine, several: OpenEngine
) -> bool:
    """Whether streams of LR ``shapes`` (H, W), together ``fps`` frames a second, had better share one engine of
    ``one`` for each shape than have an engine of ``several`` each. Says in one line what was measured.

    An engine that does not open decides for sharing: the run itself says why.
    """
    with naming(None):
        alone, problem = _rate(shapes, scale, shared(one, scale))
    if problem is not None:
        return True
    if alone >= ENOUGH * fps:
        log.info(
            f"streams: they take turns at one engine, {alone:.0f} frames/s of the {fps:.4g} that they give"
        )
        return True
    with naming(None):
        apart, problem = _rate(shapes, scale, several)
    better = problem is None and apart >= GAIN * alone
    figures = f"one does {alone:.1f} frames/s, {len(shapes)} do {problem or f'{apart:.1f}'}"
    log.info(
        f"streams: {'an engine each' if better else 'they take turns at one engine'} ({figures}, they give {fps:.4g})"
    )
    return not better


def _rate(
    shapes: Sequence[tuple[int, int]], scale: int, factory: OpenEngine | EngineStage
) -> tuple[float, BaseException | None]:
    """Frames a second of all streams together, and what broke."""
    pipelines = [
        Pipeline(StillSource(shape), factory, [], scale=scale, limits=Limits(seconds=TRIAL_S))
        for shape in shapes
    ]
    run_together(pipelines)
    problem = next((pipeline.error for pipeline in pipelines if pipeline.error is not None), None)
    return sum(pipeline.stats.rate.overall() for pipeline in pipelines), problem
