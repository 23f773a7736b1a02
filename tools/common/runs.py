"""Pipelines run to their ends, and what is told of them."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clesr.engines.common.errors import first_line
from clesr.engines.common.files import NEW, WriteRule, write_json
from clesr.pipeline.live_engine import OpenEngine
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.session.manifest import RecorderSettings
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.settings import RunSettings
from clesr.pipeline.sharing import run_together
from clesr.pipeline.sink import Sink
from clesr.pipeline.source import Source, SourceInfo
from clesr.pipeline.status import State, Summary
from clesr.tools.common.signals import draining_on_signals, on_signals
from clesr.tools.common.summary import following, print_summary

log = logging.getLogger(__name__)


def make_recorder(source: SourceInfo, prepare: Prepare, scale: int, settings: RecorderSettings) -> Recorder:
    """The recorder of a run that enlarges what ``prepare`` makes of frames by ``scale``."""

    def sr_shape(raw: tuple[int, int]) -> tuple[int, int]:
        height, width = prepare.shape(raw)
        return height * scale, width * scale

    return Recorder(source, scale=scale, sr_shape=sr_shape, settings=settings)


def run_recorded(
    settings: RunSettings,
    source: Source,
    factory: OpenEngine,
    sinks: Sequence[Sink],
    label: str,
    *,
    frames: int | None = None,
    record: Path | None = None,
    prepare: Prepare | None = None,
    file: str | None = None,
    rule: WriteRule = NEW,
    **more: Any,
) -> tuple[bool, Summary]:
    """Take the recorded ``source``, or its first ``frames``, through the pipeline of ``settings``, and into a session
    in ``record``; whether that was interrupted, and what came of it, as ``report`` tells it. ``prepare`` is that of
    ``settings`` where it is None, ``more`` is for Pipeline. Raises what broke."""
    pipeline = Pipeline(
        source,
        factory,
        sinks,
        prepare=prepare or settings.prepare(source.info),
        limits=Limits(frames),
        **settings.computing() | more,
    )
    if record is not None:
        pipeline.start_recording(record)
    total = min(filter(None, (frames, source.info.frames)), default=None)
    try:
        interrupted = bool(run_pipelines({label: (pipeline, total)}))
    finally:
        report(pipeline.summary(), file, rule)
    if pipeline.error is not None:
        raise pipeline.error
    return interrupted, pipeline.summary()


def run_pipelines(
    runs: Mapping[str, tuple[Pipeline, int | None]], toggles: Sequence[Callable[[], object]] = ()
) -> list[int]:
    """Run pipelines, each under its label with the number of its frames, to their ends, with progress shown and signals
    heeded, which are returned. What broke stands in ``Pipeline.error``."""
    pipelines = {label: pipeline for label, (pipeline, _) in runs.items()}
    shown = [label for label, pipeline in pipelines.items() if pipeline.views]

    def toggle(_number: int) -> None:
        for each in toggles:
            each()

    def others(of: Pipeline) -> tuple[str, dict[str, Pipeline]]:
        """The label of ``of``, and the others that go on."""
        going = {label: each for label, each in pipelines.items() if each.busy and each is not of}
        return next(label for label, each in pipelines.items() if each is of), going

    def look(pipeline: Pipeline) -> None:
        """Have what nobody has acknowledged seen beside another stream, where its own is seen no more."""
        if (pipeline.busy and pipeline.views) or pipeline.alarms.handed_over:
            return
        label, going = others(pipeline)
        heir = max(going.values(), key=lambda each: (is_seen(each), any(each.views.values())), default=None)
        if heir is not None and (not pipeline.busy or (label in shown and is_seen(heir))):
            pipeline.alarms.hand_over(heir.alarms, label)

    def say_end(ended: Pipeline) -> None:
        label, going = others(ended)
        if going:
            if ended.ended_by is not None:
                ended.alarms.add(f"STREAM ENDED: {first_line(ended.ended_by)}")
            log.info(
                f"{label}: {ended.error or 'ended'}; {', '.join(going)} still run{'s' * (len(going) == 1)}"
            )

    with (
        draining_on_signals(*pipelines.values()) as signals,
        on_signals(toggle, [signal.SIGUSR1] if toggles else []),
        following(runs),
    ):
        run_together(list(pipelines.values()), say_end, look)
    return signals


def is_seen(pipeline: Pipeline) -> bool:
    """Whether a window or page shows this stream, and is to stay."""
    return any(pipeline.views.values()) and not pipeline.ending


def report(summary: Summary, file: str | None, rule: WriteRule) -> None:
    """Print ``summary``, and write it to ``file``."""
    if summary.captured:
        print_summary(summary)
    elif summary.state is State.STOPPED:
        log.warning(f"no frame came from {summary.source}")
    if file:
        write_json(Path(file), summary.as_json(), rule)
