"""`clesr live`: up-scale while the examination runs."""

from __future__ import annotations

import rich_click as click

from clesr.pipeline.pipeline import Limits
from clesr.pipeline.prepare import Roi, Window
from clesr.pipeline.settings import LiveSettings
from clesr.pipeline.sharing import SHARE
from clesr.pipeline.sources.pacing import parse_pace
from clesr.tools import recording
from clesr.tools.naming import Repeated, name_streams, spread
from clesr.tools.options import (
    codec_option,
    consistent_option,
    decode_option,
    encode_option,
    engine_options,
    general_options,
    input_options,
    overwrite_option,
)
from clesr.tools.streams import engine_opener, open_streams, run_live

MODEL_HELP = (
    "densenet (the paper's network), fast, bicubic, bilinear, nearest, a .safetensors file, or auto: densenet where "
    "a short trial holds the source's frame rate, else fast."
)


@click.command()
@click.option_panel(
    "Source", options=["--source", "--roi", "--window", "--pace", "--loop", "--decode", "--share"]
)
@click.option_panel(
    "Up-scaling",
    options=["--scale", "--model", "--engine", "--device", "--precision", "--threads", "--consistent"],
)
@click.option_panel(
    "Output",
    options=[
        "--display",
        "--overlay",
        "--output",
        "--overwrite",
        "--codec",
        "--encode",
        "--send",
        "--summary",
    ],
)
@click.option_panel("Recording", options=[*recording.OPTIONS])
@click.option_panel("Stopping", options=["--seconds", "--frames"])
@click.option(
    "--source",
    required=True,
    multiple=True,
    type=Repeated(),
    metavar="[NAME=]ADDRESS",
    help="/dev/video0, a video, .mkt or TIFF file, a folder of images, zmq+tcp://HOST:PORT, rtsp://..., or demo: "
    "for a simulated endomicroscope. Once for each stream.",
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
@decode_option()
@click.option(
    "--share",
    type=click.Choice(SHARE),
    default="auto",
    show_default=True,
    help="Several streams take turns at one engine (one for each frame size), have several, or auto: what a short "
    "trial shows to be faster.",
)
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
@click.option(
    "--output",
    multiple=True,
    type=Repeated(),
    metavar="FILE",
    help="Also write a video: .mkv, .mp4, .mov or .avi. For several streams: once each, or with {stream} in it.",
)
@overwrite_option()
@codec_option()
@encode_option()
@click.option(
    "--send",
    multiple=True,
    type=Repeated(),
    metavar="ADDRESS",
    help="Also send: zmq+tcp://*:5555 (ZeroMQ), igtl://*:18944 (3D Slicer).",
)
@recording.recording_options()
@click.option(
    "--summary",
    multiple=True,
    type=Repeated(),
    metavar="FILE",
    help="Write the closing figures as JSON.",
)
@click.option("--seconds", type=float, metavar="S", help="Stop after so many seconds.")
@click.option("--frames", type=int, metavar="N", help="Stop after so many captured frames.")
@general_options()
def live(
    source: tuple[str, ...],
    output: tuple[str, ...],
    send: tuple[str, ...],
    record: tuple[str, ...],
    summary: tuple[str, ...],
    share: str,
    **options: object,
) -> None:
    """Up-scale live: a camera, a recording or a network stream to a window, a video file or the network.

    Live sources never wait: frames that the engine cannot take in time are counted as stale. Recorded input
    loses nothing: on a slow machine it plays later than its own pace. Ctrl-C finishes what was
    captured and ends; twice stops at once.

    With --source given more than once each stream has its own outcomes, latency, outputs and window; one that
    ends or breaks does not stop the others.

    Examples:

    - `clesr-live --source /dev/video0`
    - `clesr-live --source /dev/video0 --record examination --pixel-size 1.2`
    - `clesr-live --source /dev/video0 --record findings --retro 20`
    - `clesr-live --source '/dev/video0?format=GREY&exposure=200' --scale 2`
    - `clesr-live --source recording.mpeg --roi 160,200,256,256 --output sr.mkv`
    - `clesr-live --source 'demo:?fps=12&size=256' --display none --seconds 10 --output demo.mp4`
    - `clesr-live --source zmq+tcp://scanner:5555 --send 'zmq+tcp://*:5556' --display none`
    - `clesr-live --source left=/dev/video0 --source right=/dev/video2 --output '{stream}.mkv'`
    """
    streams = name_streams(source)
    outputs = {"output": output, "send": send, "record": record, "summary": summary}
    own = [spread(f"--{option}", values, list(streams)) for option, values in outputs.items()]
    all_settings = [
        _settings({**options, "stream": name, "source": address} | dict(zip(outputs, values, strict=True)))
        for (name, address), *values in zip(streams.items(), *own, strict=True)
    ]
    opener = engine_opener(all_settings[0])
    run_live(open_streams(all_settings), opener, share)


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
