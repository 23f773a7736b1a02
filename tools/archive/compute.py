"""One piece of a recording through the live path, into a file."""

from __future__ import annotations

from pathlib import Path

from clesr.engines.common.errors import EngineError
from clesr.pipeline.frame import Outcome
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.sinks.stills import StillFile
from clesr.pipeline.status import Summary
from clesr.tools.archive.engines import EngineShelf
from clesr.tools.archive.messages import Plan
from clesr.tools.archive.pieces import Part, PieceFile, Strict
from clesr.tools.archive.recording import open_part
from clesr.tools.archive.settings import Settings


class Stopped(Exception):
    """``stop`` was called while a piece was computed."""


class Computation:
    """Computes pieces, one at a time, with engines that stay open."""

    def __init__(self, settings: Settings, engines: EngineShelf) -> None:
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
        """From any thread: LR pixels of the present piece that are done."""
        pipeline, engine = self._pipeline, self.engines.shape
        return pipeline.ledger.captured * engine[0] * engine[1] if pipeline is not None else 0

    def run(self, plan: Plan, index: int, path: Path) -> Part:
        """Piece ``index`` of ``plan`` into the new ``path``. Raises Stopped, NotApart, OSError, ClesrError."""
        span = plan.seen.spans[index] if plan.seen.spans else None
        limit = self.settings.frames if span is None else None
        source = open_part(Path(plan.job.path), span)
        try:
            still = StillFile(path) if path.suffix != ".mkv" else None
            sink = Strict(still or self._video(plan, path))
        except BaseException:
            source.close()
            raise
        completed: list[bool] = []

        def on_end() -> None:
            completed.append(True)
            if still is not None:
                still.complete()

        said: list[str] = []
        pipeline = Pipeline(
            source,
            self.engines,
            [sink],
            scale=self.settings.scale,
            prepare=Prepare(roi=self.settings.roi, window=plan.seen.window),
            consistent=self.settings.consistent,
            limits=Limits(limit, None),
            tell=said.append,
            on_end=on_end,
        )
        if limit is not None and still is not None:
            still.complete()
        summary = self._run(pipeline, said)
        if self._stopped or not (completed or limit is not None):
            raise Stopped
        frames = summary.outcomes[Outcome.UPSCALED]
        note = next((line for line in said if "corrupt" in line), "")
        return Part(frames, summary.captured - frames, sink.shape, self.engines.described, note)

    def _video(self, plan: Plan, path: Path) -> PieceFile:
        return PieceFile(path, codec=self.settings.codec, fps=plan.seen.fps, origin=plan.seen.origin)

    def _run(self, pipeline: Pipeline, said: list[str]) -> Summary:
        self._pipeline = pipeline
        if self._stopped:
            pipeline.abort()
        try:
            return pipeline.run()
        except EngineError as error:
            self.engines.close()  # nobody knows what a failed engine gives next: the piece is tried again with another
            raise EngineError("; ".join([str(error), *(r for r in said if "engine failed" in r)])) from error
        finally:
            self._pipeline = None
