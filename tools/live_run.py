"""A run: its source, engine, sinks and recorder opened, its pipelines run side by side, what came of each reported."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from clesr.engines.common.clock import ASSUMED_FPS
from clesr.engines.common.errors import ClesrError, RecordingError, UsageError
from clesr.engines.common.files import WriteRule, contains
from clesr.engines.common.text import presentable
from clesr.engines.isolation.engine import IsolatedOpener
from clesr.engines.memory import share_arenas
from clesr.engines.opener import EngineOpener
from clesr.pipeline.chaos.faulty import FaultySink, FaultySource, faulty_disk, faulty_engine
from clesr.pipeline.chaos.plan import FaultPlan, parse_plan
from clesr.pipeline.controls import Action, Controlled, assign_keys
from clesr.pipeline.engine_stage import EngineStage
from clesr.pipeline.live_engine import OpenEngine
from clesr.pipeline.messages import naming
from clesr.pipeline.metrics.server import MetricsServer
from clesr.pipeline.operator.control_socket import ControlSocket
from clesr.pipeline.operator.operator import DicomWriter, Operator
from clesr.pipeline.operator.registry import all_actions
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.session.folder import make_folder
from clesr.pipeline.session.manifest import RecorderSettings
from clesr.pipeline.session.sessions import SessionListing
from clesr.pipeline.settings import LiveSettings, recorded
from clesr.pipeline.sharing import choose_sharing, shared
from clesr.pipeline.sink import Sink
from clesr.pipeline.sinks.browser.door import Door, given_token
from clesr.pipeline.sinks.browser.site import Site
from clesr.pipeline.sinks.mosaic import MosaicFile
from clesr.pipeline.sinks.placement import WindowPlacement
from clesr.pipeline.sinks.registry import open_sink
from clesr.pipeline.source import Source
from clesr.pipeline.sources.masked import Masked
from clesr.pipeline.sources.registry import open_source
from clesr.pipeline.sources.reopening import Reopening
from clesr.tools.common.runs import make_recorder, report, run_pipelines
from clesr.tools.common.systemd import told_to_systemd
from clesr.tools.common.windows import announce, close_windows, open_windows

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stream:
    """A source and its sinks, open, and what the user wants of them; ``site`` is the run's page in the browser."""

    settings: LiveSettings
    source: Source
    sinks: list[Sink]
    plan: FaultPlan | None = None
    site: Site | None = None
    made_folder: bool = False  # for its recordings

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
        self.clear()

    def clear(self) -> None:
        """Leave no empty folder behind that was made for it."""
        if self.made_folder and self.settings.record is not None:
            with suppress(OSError):
                Path(self.settings.record).rmdir()


def open_streams(
    all_settings: Sequence[LiveSettings], places: Sequence[WindowPlacement] = ()
) -> list[Stream]:
    """Every source and its sinks, windows at their ``places``; where one does not open, the others are closed and it
    raises what that raises."""
    rule = write_rule(all_settings)
    check_outputs(all_settings, rule)
    streams: list[Stream] = []
    places, count = places or open_windows(all_settings), len(all_settings)
    site = _site(all_settings)
    with ExitStack() as opened:
        opened.callback(close_windows, places)
        for settings, place in zip(all_settings, places, strict=True):
            plan = parse_plan(settings.chaos) if settings.chaos else None
            with _naming(settings, count), _errors_named(settings, count):
                source = _open_source(settings, plan)
                new = settings.record is not None and not Path(settings.record).exists()
                streams.append(Stream(settings, source, [], plan, site, new))
                opened.callback(streams[-1].close)
                if settings.record is not None:
                    make_folder(Path(settings.record))
                _open_sinks(streams[-1], place, rule)
            what = f"{settings.model} x{settings.scale}"
            announce([place], f"{presentable(settings.source)} is open", f"building the engine: {what}")
        opened.pop_all()
    return streams


def _open_source(settings: LiveSettings, plan: FaultPlan | None) -> Source:
    """The source of a stream; a live one is opened again when it fails."""

    def opened() -> Source:
        source: Source = open_source(
            settings.source, pace=settings.pace, loop=settings.loop, **settings.reading()
        )
        if settings.mask:
            source = Masked(source, settings.mask)
        if plan is not None:
            source = FaultySource(source, plan)
        return source

    source = opened()
    return Reopening(source, opened) if source.info.live else source


def _site(all_settings: Sequence[LiveSettings]) -> Site | None:
    """Where the browser's page is, where one is wanted, with the sessions of the folder in which this run records."""
    if all(each.display != "browser" for each in all_settings):
        return None
    first = all_settings[0]
    records = next((Path(each.record).parent for each in all_settings if each.record is not None), Path())
    door = Door(
        listen=first.listen,
        token=given_token(first.token_file),
        certificate=first.tls_certificate,
        key=first.tls_key,
    )
    return Site(door, SessionListing(records if first.sessions is None else Path(first.sessions)))


def write_rule(all_settings: Sequence[LiveSettings]) -> WriteRule:
    """What the run may replace."""
    inputs = [name for settings in all_settings for name in (settings.source, settings.model, settings.cores)]
    return WriteRule.of(any(settings.overwrite for settings in all_settings), *inputs)


def check_outputs(all_settings: Sequence[LiveSettings], rule: WriteRule) -> None:
    """Raises ClesrError where a file may not be written, or would lie in a session that is recorded."""
    files = [Path(name) for s in all_settings for name in (s.output, s.mosaic, s.summary) if name is not None]
    for settings in all_settings:
        for file in files:
            if settings.record is not None and contains(Path(settings.record), file):
                raise UsageError(f"{file} would lie in the session {settings.record}; give a name outside it")
    rule.check_all(*files)


def _open_sinks(stream: Stream, place: WindowPlacement, rule: WriteRule) -> None:
    settings = stream.settings
    display = settings.display if settings.display != "none" else None
    mosaic = f"mosaic:{settings.mosaic}" if settings.mosaic is not None else None
    for address in (settings.output, mosaic, *settings.send, display):
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
                pixel_aspect=stream.source.info.pixel_aspect,
                mosaic_memory=settings.mosaic_memory,
                site=stream.site,
                live=stream.source.info.live,
            )
            stream.sinks.append(sink)
    if not stream.sinks and settings.record is None:
        stream.sinks.append(open_sink("null"))


def run_live(
    all_settings: Sequence[LiveSettings],
    streams: Sequence[Stream] | None = None,
    *,
    write_dicom: DicomWriter | None = None,
    places: Sequence[WindowPlacement] = (),
) -> None:
    """Open ``streams``, which have engine and scale in common, where they are not open yet, and run them to their ends;
    print what came of each and write it to its summary file. ``write_dicom`` writes stills as DICOM; windows
    stand at their ``places``. Raises what broke, after the other streams have ended."""
    share_arenas()
    actions = tuple(all_actions())
    for settings in all_settings:
        assign_keys(actions, dict(settings.key))
    opener = (IsolatedOpener if all_settings[0].isolate else EngineOpener).of(all_settings[0], ASSUMED_FPS)
    streams = open_streams(all_settings, places) if streams is None else streams
    with ExitStack() as opened:
        for stream in streams:
            opened.callback(stream.close)
        plan = streams[0].plan
        if plan is not None:
            opener.wrap = partial(faulty_engine, plan=plan)
        address = all_settings[0].control
        control = ControlSocket(address) if address is not None else None
        if control is not None:
            opened.callback(control.close)
        factory = _choose_engines(streams, opener, all_settings[0].share)
        pipelines = [_pipeline(stream, factory, len(streams)) for stream in streams]
        opened.pop_all()
    _run_streams(streams, pipelines, actions, control, write_dicom)


def _run_streams(
    streams: Sequence[Stream],
    pipelines: Sequence[Pipeline],
    actions: Sequence[Action[Operator]],
    control: ControlSocket | None,
    write_dicom: DicomWriter | None,
) -> None:
    """Give the ``pipelines`` of ``streams`` into the hands of their users, run them, tell what came of each. Raises
    what broke."""
    all_settings, operators = [stream.settings for stream in streams], list[Operator]()
    rule = write_rule(all_settings)
    several = len(streams) > 1
    runs = {
        (stream.settings.stream if several else "live"): (pipeline, stream.frames)
        for pipeline, stream in zip(pipelines, streams, strict=True)
    }
    unwritten: dict[str, ClesrError] = {}
    try:
        for stream, pipeline in zip(streams, pipelines, strict=True):
            operators.append(_operator(pipeline, stream, len(streams), actions, write_dicom))
        for operator in operators:
            operator.others = [each for each in operators if each is not operator]
        if control is not None:
            control.serve(
                {label: (op.controls, op.pipeline.status) for label, op in zip(runs, operators, strict=True)}
            )
        with ExitStack() as around:
            if streams[0].plan is not None:
                around.enter_context(faulty_disk(streams[0].plan))
            if all_settings[0].metrics:
                around.enter_context(
                    MetricsServer(all_settings[0].metrics, {n: p for n, (p, _) in runs.items()})
                )
            around.enter_context(told_to_systemd(pipelines))
            run_pipelines(runs, [operator.recordings.toggle for operator in operators])
    finally:
        for pipeline in pipelines:
            pipeline.finish()
        if control is not None:
            control.close()
        for operator in operators:
            operator.close()
        for stream in streams:
            stream.clear()
        for (label, (pipeline, _)), settings in zip(runs.items(), all_settings, strict=True):
            if several:
                log.info("")
                log.info(f"{label}:")
            try:
                with naming(label if several else ""):
                    report(pipeline.summary(), settings.summary, rule)
            except ClesrError as error:  # the summaries of the others are still to come
                log.error(str(error))
                unwritten[label] = error
    _raise_broken({label: pipeline.error or unwritten.get(label) for label, (pipeline, _) in runs.items()})


def _raise_broken(errors: Mapping[str, BaseException | None]) -> None:
    """Raise what broke, of all the streams."""
    broken = {label: error for label, error in errors.items() if error is not None}
    if not broken:
        return
    first = next(iter(broken.values()))
    if len(errors) == 1:
        raise first
    what = "; ".join(f"{label}: {error}" for label, error in broken.items())
    recordings = all(isinstance(error, RecordingError) for error in broken.values())
    kind = RecordingError if recordings else ClesrError
    raise kind(f"{len(broken)} of {len(errors)} streams broke: {what}") from first


def _pipeline(stream: Stream, factory: OpenEngine | EngineStage, count: int) -> Pipeline:
    """The stream at work."""
    settings = stream.settings
    prepare = settings.prepare(stream.source.info)
    with _naming(settings, count):
        recorder = make_recorder(
            stream.source.info, prepare, settings.scale, _recorder_settings(settings, prepare)
        )
        return Pipeline(
            stream.source,
            factory,
            [FaultySink(sink, stream.plan) for sink in stream.sinks] if stream.plan else stream.sinks,
            prepare=prepare,
            recorder=recorder,
            limits=Limits(settings.frames, settings.seconds),
            drop_damaged=settings.damaged == "drop",
            pixel_um=settings.pixel_size,
            **settings.computing(),
        )


def _operator(
    pipeline: Pipeline,
    stream: Stream,
    count: int,
    actions: Sequence[Action[Operator]],
    write_dicom: DicomWriter | None,
) -> Operator:
    """The hand on ``pipeline``, given to all that a person can use; its first recording begun where it is wanted from
    the start."""
    settings = stream.settings
    with _naming(settings, count):
        operator = Operator(
            pipeline,
            settings,
            Path(settings.stills),
            stream=settings.stream if count > 1 else "",
            actions=actions,
            maps=next((sink for sink in stream.sinks if isinstance(sink, MosaicFile)), None),
            write_dicom=write_dicom,
        )
    for sink in stream.sinks:
        if isinstance(sink, Controlled):
            sink.controls = operator.controls
    if settings.record is not None and settings.retro is None:
        operator.recordings.toggle()
    elif settings.retro is not None:
        places = {"window": "key r in the window, or ", "browser": "key r on the page, or "}
        key = places.get(settings.display, "")
        log.info(
            f"not recording yet: {key}`kill -USR1 {os.getpid()}` begins, with the {settings.retro:g} s before"
        )
    return operator


@contextmanager
def _errors_named(settings: LiveSettings, count: int) -> Iterator[None]:
    """What the block raises says which of several streams it is of."""
    try:
        yield
    except ClesrError as error:
        if count > 1:
            error.args = (f"{settings.stream}: {error}",)
        raise


def _naming(settings: LiveSettings, count: int) -> AbstractContextManager[None]:
    """What is made in the block has its messages under the stream's name where there are several."""
    return naming(settings.stream if count > 1 else "")


def _choose_engines(streams: Sequence[Stream], opener: EngineOpener, share: str) -> OpenEngine | EngineStage:
    """What the pipelines get their engines from; sets the rate that ``opener`` must hold."""
    opener.fps = sum(stream.fps or ASSUMED_FPS for stream in streams)
    if len(streams) == 1:
        return opener
    each = opener.sharing_cores(len(streams))
    live = {stream.source.info.live for stream in streams}
    if share == "auto" and len(live) > 1:
        return each  # a replay waits for its engine, a live stream goes on without
    if share == "auto" and live == {True}:
        one = True  # a trial would hold up their first images, and what is recorded of them
    elif share == "auto":
        shapes = [_lr_shape(stream) for stream in streams]
        known = [shape for shape in shapes if shape is not None]
        one = len(known) < len(shapes) or choose_sharing(known, opener.fps, opener.scale, opener, each)
    else:
        one = share == "one"
    computing = streams[0].settings.computing()
    return shared(opener, hurried=live == {True}, **computing) if one else each


def _lr_shape(stream: Stream) -> tuple[int, int] | None:
    """(H, W) of what the engine will read; None where it is not known, or the run itself will say why not."""
    shape = stream.source.info.shape
    try:
        return stream.settings.prepare().shape(shape) if shape is not None else None
    except UsageError:
        return None


def _recorder_settings(settings: LiveSettings, prepare: Prepare) -> RecorderSettings:
    return RecorderSettings(
        codec=settings.record_codec,
        retro_s=settings.retro or 0.0,
        pixel_um=settings.pixel_size,
        settings={
            **recorded(settings),
            "window": str(prepare.window),
            "cores": None if prepare.cores is None else prepare.cores.name,
            "masks": [str(mask) for mask in settings.mask],
        },
    )
