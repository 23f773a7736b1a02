"""A run: its source, engine, sinks and recorder opened, its pipelines run side by side, what came of each reported."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from clesr.engines.common.errors import ClesrError, UsageError
from clesr.engines.common.files import WriteRule, contains, write_json
from clesr.engines.opener import ASSUMED_FPS, EngineOpener
from clesr.pipeline.engine_stage import EngineStage
from clesr.pipeline.live_engine import OpenEngine
from clesr.pipeline.messages import naming
from clesr.pipeline.pipeline import Limits, Pipeline, run_together
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.session.folder import make_folder
from clesr.pipeline.session.manifest import RecorderSettings
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.settings import LiveSettings
from clesr.pipeline.sharing import choose_sharing, shared
from clesr.pipeline.sink import Sink
from clesr.pipeline.sinks.placement import TITLE, Keyboard, WindowPlacement
from clesr.pipeline.sinks.registry import open_sink
from clesr.pipeline.sinks.window.window import DisplayWindow
from clesr.pipeline.source import Source, SourceInfo
from clesr.pipeline.sources.masked import Masked
from clesr.pipeline.sources.registry import open_source
from clesr.pipeline.status import State, Summary
from clesr.tools.common.signals import draining_on_signals, on_signals
from clesr.tools.common.summary import following, print_summary

log = logging.getLogger(__name__)

# Of the settings, what a session says of itself as it was given.
RECORDED = ("denoise", "temporal", "consistent", "model", "engine", "device", "precision", "threads")


@dataclass(frozen=True, slots=True)
class Stream:
    """A source and its sinks, open, and what the user wants of them."""

    settings: LiveSettings
    source: Source
    sinks: list[Sink]

    @property
    def fps(self) -> float | None:
        """Frames a second that come, None where the source cannot tell."""
        pace = self.settings.pace
        return pace if isinstance(pace, float) else self.source.info.fps

    @property
    def frames(self) -> int | None:
        """How many frames will come, None where nobody knows."""
        return self.settings.frames or (None if self.settings.loop else self.source.info.frames)

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()
        self.source.close()


def open_streams(all_settings: Sequence[LiveSettings]) -> list[Stream]:
    """Every source and its sinks; where one does not open, the others are closed and it raises what that raises."""
    rule = write_rule(all_settings)
    check_outputs(all_settings, rule)
    streams: list[Stream] = []
    keyboard, count = Keyboard(), len(all_settings)
    with ExitStack() as opened:
        for index, settings in enumerate(all_settings):
            with _naming(settings, count):
                source = open_source(
                    settings.source, pace=settings.pace, loop=settings.loop, decode=settings.decode
                )
            if settings.mask:
                source = Masked(source, settings.mask)
            streams.append(Stream(settings, source, []))
            opened.callback(streams[-1].close)
            if settings.record is not None:
                make_folder(Path(settings.record))
            title = f"{TITLE}: {settings.stream}" if count > 1 else TITLE
            _open_sinks(streams[-1], WindowPlacement(title, index, count, keyboard), rule)
        opened.pop_all()
    return streams


def write_rule(all_settings: Sequence[LiveSettings]) -> WriteRule:
    """What the run may replace."""
    inputs = [name for settings in all_settings for name in (settings.source, settings.model)]
    return WriteRule.of(any(settings.overwrite for settings in all_settings), *inputs)


def check_outputs(all_settings: Sequence[LiveSettings], rule: WriteRule) -> None:
    """Raises ClesrError where a file may not be written, or would lie in a session that is recorded."""
    files = [Path(name) for s in all_settings for name in (s.output, s.summary) if name is not None]
    for settings in all_settings:
        for file in files:
            if settings.record is not None and contains(Path(settings.record), file):
                raise UsageError(f"{file} would lie in the session {settings.record}; give a name outside it")
    rule.check_all(*files)


def _open_sinks(stream: Stream, place: WindowPlacement, rule: WriteRule) -> None:
    settings = stream.settings
    display = settings.display if settings.display != "none" else None
    for address in (settings.output, settings.send, display):
        if address is not None:
            sink = open_sink(
                address,
                codec=settings.codec,
                fps=stream.fps,
                place=place,
                overlay=settings.overlay,
                pixel_um=settings.pixel_size,
                encode=settings.encode,
                rule=rule,
            )
            stream.sinks.append(sink)
    if not stream.sinks and settings.record is None:
        stream.sinks.append(open_sink("null"))


def run_live(all_settings: Sequence[LiveSettings], streams: Sequence[Stream] | None = None) -> None:
    """Open ``streams``, which have engine and scale in common, where they are not open yet, and run them to their ends;
    print what came of each and write it to its summary file. Raises what broke, after the other streams have ended."""
    opener = EngineOpener.of(all_settings[0], ASSUMED_FPS)
    streams = open_streams(all_settings) if streams is None else streams
    with ExitStack() as opened:
        for stream in streams:
            opened.callback(stream.close)
        factory = _choose_engines(streams, opener, all_settings[0].share)
        pipelines, recordings = zip(
            *(_pipeline(stream, factory, len(streams)) for stream in streams), strict=True
        )
        opened.pop_all()
    rule = write_rule(all_settings)
    several = len(streams) > 1
    runs = {
        (stream.settings.stream if several else "live"): (pipeline, stream.frames)
        for pipeline, stream in zip(pipelines, streams, strict=True)
    }
    unwritten: dict[str, ClesrError] = {}
    try:
        run_pipelines(runs, recordings)
    finally:
        for (label, (pipeline, _)), settings in zip(runs.items(), all_settings, strict=True):
            if several:
                log.info("")
                log.info(f"{label}:")
            try:
                report(pipeline.summary(), settings.summary, rule)
            except ClesrError as error:  # the summaries of the others are still to come
                log.error(str(error))
                unwritten[label] = error
    _raise_broken({label: pipeline.error or unwritten.get(label) for label, (pipeline, _) in runs.items()})


def run_pipelines(
    runs: Mapping[str, tuple[Pipeline, int | None]], recordings: Sequence[Recordings] = ()
) -> list[int]:
    """Run pipelines, each under its label with the number of its frames, to their ends, with progress shown and signals
    heeded, which are returned. What broke stands in ``Pipeline.error``."""
    pipelines = [pipeline for pipeline, _ in runs.values()]

    def toggle(_number: int) -> None:
        for each in recordings:
            each.toggle()

    def say_end(ended: Pipeline) -> None:
        going = [label for label, (pipeline, _) in runs.items() if pipeline.busy]
        if going:
            label = next(label for label, (pipeline, _) in runs.items() if pipeline is ended)
            log.info(
                f"{label}: {ended.error or 'ended'}; {', '.join(going)} still run{'s' * (len(going) == 1)}"
            )

    with (
        draining_on_signals(*pipelines) as signals,
        on_signals(toggle, [signal.SIGUSR1] if recordings else []),
        following(runs),
    ):
        run_together(pipelines, say_end)
    return signals


def _raise_broken(errors: Mapping[str, Exception | None]) -> None:
    """Raise what broke, of all the streams."""
    broken = {label: error for label, error in errors.items() if error is not None}
    if not broken:
        return
    first = next(iter(broken.values()))
    if len(errors) == 1:
        raise first
    what = "; ".join(f"{label}: {error}" for label, error in broken.items())
    raise ClesrError(f"{len(broken)} of {len(errors)} streams broke: {what}") from first


def report(summary: Summary, file: str | None, rule: WriteRule) -> None:
    """Print ``summary``, and write it to ``file``."""
    if summary.captured:
        print_summary(summary)
    elif summary.state is State.STOPPED:
        log.warning(f"no frame came from {summary.source}")
    if file:
        write_json(Path(file), summary.as_json(), rule)


def _pipeline(stream: Stream, factory: OpenEngine | EngineStage, count: int) -> tuple[Pipeline, Recordings]:
    """The stream at work, and its recordings, the first of them begun where it is wanted from the start."""
    settings = stream.settings
    prepare = settings.prepare(live=stream.source.info.live)
    with _naming(settings, count):
        recorder = make_recorder(settings, stream.source.info, prepare)
        pipeline = Pipeline(
            stream.source,
            factory,
            stream.sinks,
            scale=settings.scale,
            prepare=prepare,
            consistent=settings.consistent,
            recorder=recorder,
            limits=Limits(settings.frames, settings.seconds),
        )
    recordings = Recordings(pipeline, settings.record, settings.stream if count > 1 else None, stream.sinks)
    if settings.record is not None and settings.retro is None:
        recordings.toggle()
    return pipeline, recordings


def _naming(settings: LiveSettings, count: int) -> AbstractContextManager[None]:
    """What is made in the block has its messages under the stream's name where there are several."""
    return naming(settings.stream if count > 1 else "")


def _choose_engines(streams: Sequence[Stream], opener: EngineOpener, share: str) -> OpenEngine | EngineStage:
    """What the pipelines get their engines from; sets the rate that ``opener`` must hold."""
    opener.fps = sum(stream.fps or ASSUMED_FPS for stream in streams)
    if len(streams) == 1:
        return opener
    each = opener.sharing_cores(len(streams))
    if share == "auto":
        shapes = [_lr_shape(stream) for stream in streams]
        known = [shape for shape in shapes if shape is not None]
        one = len(known) < len(shapes) or choose_sharing(known, opener.fps, opener.scale, opener, each)
    else:
        one = share == "one"
    consistent = streams[0].settings.consistent
    return shared(opener, opener.scale, consistent=consistent) if one else each


def _lr_shape(stream: Stream) -> tuple[int, int] | None:
    """(H, W) of what the engine will read; None where it is not known, or the run itself will say why not."""
    shape = stream.source.info.shape
    try:
        return stream.settings.prepare().shape(shape) if shape is not None else None
    except UsageError:
        return None


def make_recorder(settings: LiveSettings, source: SourceInfo, prepare: Prepare) -> Recorder:
    """The recorder of a stream."""
    return Recorder(
        source,
        scale=settings.scale,
        sr_shape=lambda raw: scaled(prepare.shape(raw), settings.scale),
        settings=RecorderSettings(
            codec=settings.record_codec,
            retro_s=settings.retro or 0.0,
            pixel_um=settings.pixel_size,
            settings={
                "roi": None if settings.roi is None else str(settings.roi),
                "window": str(settings.window),
                "masks": [str(mask) for mask in settings.mask],
                **{name: getattr(settings, name) for name in RECORDED},
            },
        ),
    )


class Recordings:
    """Begins and ends the recordings of a stream, each in a folder of its own: ``first``, then ``first-2`` and so on;
    without ``first`` named by the time and ``stream``."""

    def __init__(
        self, pipeline: Pipeline, first: str | None, stream: str | None = None, sinks: Iterable[Sink] = ()
    ) -> None:
        self._pipeline, self._stream = pipeline, stream
        self._first = Path(first) if first is not None else None
        for sink in sinks:
            if isinstance(sink, DisplayWindow):
                sink.actions["r"] = self.toggle

    def toggle(self) -> None:
        """End the recording, or begin one. Any thread; never waits for the disk."""
        recorder = self._pipeline.recorder
        if recorder is not None and recorder.recording:
            recorder.stop()
            return
        folder = self._first or Path(
            "-".join(filter(None, ("clesr", datetime.now().strftime("%Y%m%d-%H%M%S"), self._stream)))
        )
        self._pipeline.start_recording(folder, or_next=True)


def scaled(shape: tuple[int, int], scale: int) -> tuple[int, int]:
    return shape[0] * scale, shape[1] * scale
