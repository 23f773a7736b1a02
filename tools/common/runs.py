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
from clesr.pipeline.status import SinkState, State, Summary
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
    pipelines = [pipeline for pipeline, _ in runs.values()]

    def toggle(_number: int) -> None:
        for each in toggles:
            each()

    def say_end(ended: Pipeline) -> None:
        going = {label: pipeline for label, (pipeline, _) in runs.items() if pipeline.busy}
        if going:
            label = next(label for label, (pipeline, _) in runs.items() if pipeline is ended)
            hand_on(label, ended, max(going.values(), key=is_seen))
            log.info(
                f"{label}: {ended.error or 'ended'}; {', '.join(going)} still run{'s' * (len(going) == 1)}"
            )

    with (
        draining_on_signals(*pipelines) as signals,
        on_signals(toggle, [signal.SIGUSR1] if toggles else []),
        following(runs),
    ):
        run_together(pipelines, say_end)
    return signals


def is_seen(pipeline: Pipeline) -> bool:
    """Whether a window or page shows this stream, and is to stay."""
    sinks = pipeline.status().sinks
    views = [sinks[name] for name in ("window", "browser") if name in sinks]
    return not pipeline.ending and any(view.state is not SinkState.BROKEN for view in views)


def hand_on(label: str, ended: Pipeline, going: Pipeline) -> None:
    """Have what nobody has acknowledged of the stream ``label``, whose view ends with it, seen in that of ``going``."""
    for alarm in reversed(ended.alarms.waiting):
        going.alarms.add(f"{label}: {alarm}")
    reason = "" if ended.error is None else first_line(ended.error)
    if reason and not any(reason in alarm for alarm in (*ended.alarms.waiting, *ended.alarms.acknowledged)):
        going.alarms.add(f"{label}: STREAM ENDED: {reason}")


def report(summary: Summary, file: str | None, rule: WriteRule) -> None:
    """Print ``summary``, and write it to ``file``."""
    if summary.captured:
        print_summary(summary)
    elif summary.state is State.STOPPED:
        log.warning(f"no frame came from {summary.source}")
    if file:
        write_json(Path(file), summary.as_json(), rule)
