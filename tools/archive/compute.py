"""One segment of a recording through the live path, into a file, by engines that stay open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from clesr.engines.common.errors import EngineError, on_error
from clesr.engines.engine import Engine
from clesr.engines.guidance import Guidance
from clesr.engines.opener import EngineOpener
from clesr.engines.results import submit
from clesr.pipeline.frame import Image, Outcome
from clesr.pipeline.messages import naming
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.settings import PATIENCE_FPS
from clesr.pipeline.sinks.stills import StillFile
from clesr.pipeline.status import Summary
from clesr.tools.archive.messages import SegmentPlan
from clesr.tools.archive.recording import open_range
from clesr.tools.archive.segments import FailFastSink, SegmentFile, SegmentInfo
from clesr.tools.archive.settings import Settings

OPEN_SIZES = 2  # whose engines stay open


class SegmentStopped(Exception):
    """``stop`` was called while a segment was computed."""


class EnginePool:
    """Lends engines by LR shape; called as a pipeline's OpenEngine. One at a time is lent."""

    def __init__(self, settings: Settings) -> None:
        self.opener = EngineOpener.of(settings, PATIENCE_FPS)
        self.shape = (0, 0)
        self.described = ""
        self._engines: OrderedDict[tuple[int, int], Engine] = OrderedDict()

    def __call__(self, shape: tuple[int, int]) -> Engine:
        if shape not in self._engines:
            while len(self._engines) >= OPEN_SIZES:
                self._engines.popitem(last=False)[1].close()
            self._engines[shape] = self.opener(shape)
        self._engines.move_to_end(shape)
        engine = self._engines[shape]
        self.shape, self.described = shape, str(engine.info)
        return LentEngine(engine, lambda: self._drop(shape))

    def close(self) -> None:
        while self._engines:
            self._engines.popitem()[1].close()

    def _drop(self, shape: tuple[int, int]) -> None:
        engine = self._engines.pop(shape, None)
        if engine is not None:
            engine.close()


class LentEngine:
    """``engine``, which closing gives back, or drops where it has failed or still holds frames."""

    def __init__(self, engine: Engine, drop: Callable[[], None]) -> None:
        self.info, self.depth = engine.info, engine.depth
        self._engine, self._drop = engine, drop
        self._in_flight = 0  # that of a failed engine never comes back to 0

    def submit(self, lr: Image, guidance: Guidance | None = None) -> None:
        self._in_flight += 1
        submit(self._engine, lr, guidance)

    def collect(self) -> Image:
        image = self._engine.collect()
        self._in_flight -= 1
        return image

    def close(self) -> None:
        if self._in_flight:
            self._drop()


class Computation:
    """Computes segments, one at a time, with engines that stay open."""

    def __init__(self, settings: Settings, engines: EnginePool) -> None:
        self.settings, self.engines = settings, engines
        self._pipeline: Pipeline | None = None
        self._stopped = False

    def stop(self) -> None:
        """From any thread: give up what is being computed."""
        self._stopped = True
        pipeline = self._pipeline
        if pipeline is not None:
            pipeline.abort()

    def progress(self) -> int:
        """From any thread: LR pixels of the present segment that are done."""
        pipeline, (height, width) = self._pipeline, self.engines.shape
        return pipeline.ledger.captured * height * width if pipeline is not None else 0

    def run(self, plan: SegmentPlan, index: int, path: Path) -> SegmentInfo:
        """Segment ``index`` of ``plan`` into the new ``path``. Raises SegmentStopped, NotApart, OSError, ClesrError."""
        scan, settings = plan.scan, self.settings.of(plan.file)
        span = scan.spans[index] if scan.spans else None
        limit = settings.frames if span is None else None
        source = open_range(plan.file.path, span, settings.source_options())
        with on_error(source.close):
            aspect, final = scan.pixel_aspect, Path(plan.file.target)
            still = StillFile(path, final=final, pixel_aspect=aspect) if path.suffix != ".mkv" else None
            video = SegmentFile(
                path, codec=settings.codec, fps=scan.fps, origin=scan.origin, pixel_aspect=aspect
            )
        sink = FailFastSink(still or video)
        completed = limit is not None

        def on_end() -> None:
            nonlocal completed
            completed = True
            if still is not None:
                still.complete()

        with naming(None):  # what is to be said of a file stands in the journal
            pipeline = Pipeline(
                source,
                self.engines,
                [sink],
                prepare=settings.prepare(window=scan.window, cores=settings.calibration()),
                limits=Limits(limit),
                on_end=on_end,
                **settings.computing(),
            )
        if limit is not None and still is not None:
            still.complete()
        summary = self._run(pipeline)
        if self._stopped or not completed:
            raise SegmentStopped
        frames = summary.outcomes[Outcome.UPSCALED]
        note = next((line for line in summary.notes if "corrupt" in line), "")
        return SegmentInfo(frames, summary.captured - frames, sink.shape, self.engines.described, note)

    def _run(self, pipeline: Pipeline) -> Summary:
        self._pipeline = pipeline
        if self._stopped:
            pipeline.abort()
        try:
            return pipeline.run()
        except EngineError:
            self.engines.close()  # nobody knows what a failed engine gives next: another one tries the segment again
            raise
        finally:
            self._pipeline = None
