"""Several streams: side by side, and whether they are faster through one engine or through several."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from clesr.engines.common.clock import SYSTEM
from clesr.pipeline.engine_stage import EngineStage
from clesr.pipeline.frame import Frame
from clesr.pipeline.live_engine import LiveEngine, OpenEngine
from clesr.pipeline.messages import SafeLogger, naming
from clesr.pipeline.pipeline import Limits, Pipeline
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


def run_together(
    pipelines: Sequence[Pipeline],
    on_finish: Callable[[Pipeline], None] = lambda _pipeline: None,
    on_look: Callable[[Pipeline], None] = lambda _pipeline: None,
) -> None:
    """Run ``pipelines`` side by side to their ends; each is closed as soon as it has ended, whatever becomes of the
    others, and goes to ``on_finish``. ``Pipeline.error`` then says what broke. Each goes to ``on_look`` again and again
    while it runs, and once it has ended, before it is closed.

    All live ones together wait for their engines as long as one of them; none waits for the engine of a recorded one.
    """
    running, begun_ns = list(pipelines), SYSTEM.now_ns()
    hurried = {pipeline.engine_stage for pipeline in running if pipeline.source.info.live}

    def look() -> None:
        """While one of them is closed."""
        for each in running:
            with naming(each.stream):
                each.look()
                on_look(each)
                each.close_recording()

    try:
        for pipeline in running:
            waits = hurried and pipeline.engine_stage not in hurried
            if not waits:  # else its engine is opened for its first frame
                with naming(pipeline.stream):
                    pipeline.open((SYSTEM.now_ns() - begun_ns) / 1e9)
        for pipeline in running:
            with naming(pipeline.stream):
                pipeline.start()
        while running:
            for pipeline in list(running):
                with naming(pipeline.stream):
                    pipeline.look()
                    busy = pipeline.busy
                    on_look(pipeline)
                    if not busy:
                        running.remove(pipeline)
                        pipeline.finish(look)
                        on_finish(pipeline)
            for pipeline in running:
                pipeline.wait()
    finally:
        while running:
            pipeline = running.pop(0)
            with naming(pipeline.stream):
                pipeline.finish(look)


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
