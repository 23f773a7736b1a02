"""`clesr live`: up-scale while the examination runs."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from clesr.pipeline.config import LiveSettings
from clesr.pipeline.prepare import Prepare, Roi, Window
from clesr.pipeline.runner import Limits, Pipeline
from clesr.pipeline.session.writer import make_folder
from clesr.pipeline.sinks import Sink, open_sink
from clesr.pipeline.sources import Source, open_source
from clesr.pipeline.sources.masked import Masked
from clesr.pipeline.sources.pacing import parse_pace
from clesr.pipeline.stats import State
from clesr.tools import recording
from clesr.tools.console import following, print_summary, tell
from clesr.tools.options import (
    codec_option,
    consistent_option,
    engine_options,
    general_options,
    input_options,
)
from clesr.tools.stream import EngineOpener, draining_on_signals, write_summary

MODEL_HELP = (
    "densenet (the paper's network), fast, bicubic, bilinear, nearest, a .safetensors file, or auto: densenet where "
    "a short trial holds the source's frame rate, else fast."
)


@click.command()
@click.option_panel("Source", options=["--source", "--roi", "--window", "--pace", "--loop"])
@click.option_panel(
    "Up-scaling",
    options=["--scale", "--model", "--engine", "--device", "--precision", "--threads", "--consistent"],
)
@click.option_panel(
    "Output", options=["--display", "--overlay", "--output", "--codec", "--send", "--summary"]
)
@click.option_panel("Recording", options=[*recording.OPTIONS])
@click.option_panel("Stopping", options=["--seconds", "--frames"])
@click.option(
    "--source",
    required=True,
    metavar="ADDRESS",
    help="/dev/video0, a video, .mkt or TIFF file, a folder of images, zmq+tcp://HOST:PORT, rtsp://..., or demo: "
    "for a simulated endomicroscope.",
)
@input_options()
@click.option(
    "--pace",
    metavar="RATE",
    default="original",
    show_default=True,
    help="Speed of recorded input: original, max, or a number of frames/s.",
)
@click.option("--loop", is_flag=True, help="Start recorded input again at its end.")
@engine_options(MODEL_HELP)
@consistent_option()
@click.option(
    "--display",
    type=click.Choice(["window", "none"]),
    default="window",
    show_default=True,
    help="Where to show the image; q in the window quits.",
)
@click.option(
    "--overlay",
    type=click.Choice(["fidelity"]),
    help="Colour the image in the window where, shrunk again, it differs from the measured one; f switches.",
)
@click.option("--output", metavar="FILE", help="Also write a video: .mkv, .mp4, .mov or .avi.")
@codec_option()
@click.option(
    "--send",
    metavar="ADDRESS",
    help="Also send: zmq+tcp://*:5555 (ZeroMQ), igtl://*:18944 (3D Slicer).",
)
@recording.recording_options()
@click.option("--summary", metavar="FILE", help="Write the closing figures as JSON.")
@click.option("--seconds", type=float, metavar="S", help="Stop after so many seconds.")
@click.option("--frames", type=int, metavar="N", help="Stop after so many captured frames.")
@general_options()
def live(summary: str | None, **options: object) -> None:
    """Up-scale live: a camera, a recording or a network stream to a window, a video file or the network.

    Live sources never wait: frames that the engine cannot take in time are counted as stale. Recorded input
    loses nothing: on a slow machine it plays later than its own pace. Ctrl-C finishes what was
    captured and ends; twice stops at once.

    Examples:

    - `clesr-live --source /dev/video0`
    - `clesr-live --source /dev/video0 --record examination --pixel-size 1.2`
    - `clesr-live --source /dev/video0 --record findings --retro 20`
    - `clesr-live --source '/dev/video0?format=GREY&exposure=200' --scale 2`
    - `clesr-live --source recording.mpeg --roi 160,200,256,256 --output sr.mkv`
    - `clesr-live --source 'demo:?fps=12&size=256' --display none --seconds 10 --output demo.mp4`
    - `clesr-live --source zmq+tcp://scanner:5555 --send 'zmq+tcp://*:5556' --display none`
    """
    settings = _settings(options)
    opener = EngineOpener(
        scale=settings.scale,
        model=settings.model,
        engine=settings.engine,
        device=settings.device,
        precision=settings.precision,
        threads=settings.threads,
        fps=None,
    )
    source: Source = open_source(settings.source, pace=settings.pace, loop=settings.loop)
    opener.fps = _rate(settings, source) or opener.fps
    try:
        if settings.masks:
            source = Masked(source, settings.masks)
        if settings.record is not None:
            make_folder(Path(settings.record))
        sinks = _open_sinks(settings, source)
    except BaseException:
        source.close()
        raise
    run_live(settings, source, opener, sinks, summary)


def run_live(
    settings: LiveSettings, source: Source, opener: EngineOpener, sinks: list[Sink], summary_file: str | None
) -> None:
    """Run to the end, print what came of it, and write it to ``summary_file``; raises what broke."""
    prepare = Prepare(roi=settings.roi, window=settings.window)
    recorder = recording.make_recorder(settings, source.info, prepare)
    recordings = recording.Recordings(recorder, settings.record, sinks)
    pipeline = Pipeline(
        source,
        opener,
        sinks,
        scale=settings.scale,
        prepare=prepare,
        consistent=settings.consistent,
        recorder=recorder,
        limits=settings.limits,
        tell=tell,
    )
    if settings.record is not None and settings.retro is None:
        recordings.toggle()
    total = settings.limits.frames or (None if settings.loop else source.info.frames)
    try:
        with draining_on_signals(pipeline), recordings.on_signal(), following(pipeline.status, "live", total):
            pipeline.run()
    finally:
        summary = pipeline.summary()
        if summary.captured:
            print_summary(summary)
        elif summary.state is State.STOPPED:
            tell(f"no frame came from {summary.source}")
        if summary_file:
            write_summary(summary_file, summary)


def _settings(options: dict[str, object]) -> LiveSettings:
    """The command's options as settings."""
    text = {name: str(value) for name, value in options.items() if value is not None}
    frames, seconds = options.pop("frames"), options.pop("seconds")
    assert isinstance(frames, int | None)
    assert isinstance(seconds, float | None)
    masks = options.pop("mask")
    assert isinstance(masks, tuple | list)
    options |= {
        "scale": int(text["scale"]),
        "roi": Roi.parse(text["roi"]) if "roi" in text else None,
        "window": Window.parse(text["window"]),
        "pace": parse_pace(text["pace"]),
        "limits": Limits(frames, seconds),
        "masks": tuple(Roi.parse(mask, "--mask") for mask in masks),
    }
    return LiveSettings(**options)  # type: ignore[arg-type]  # click has checked the types


def _rate(settings: LiveSettings, source: Source) -> float | None:
    return settings.pace if isinstance(settings.pace, float) else source.info.fps


def _open_sinks(settings: LiveSettings, source: Source) -> list[Sink]:
    addresses = [settings.output, settings.send, settings.display if settings.display != "none" else None]
    opened: list[Sink] = []
    try:
        for address in addresses:
            if address is not None:
                sink = open_sink(
                    address,
                    codec=settings.codec,
                    fps=_rate(settings, source),
                    overlay=settings.overlay,
                    pixel_um=settings.pixel_size,
                )
                opened.append(sink)
    except BaseException:
        for sink in opened:
            sink.close()
        raise
    return opened if opened or settings.record is not None else [open_sink("null")]
