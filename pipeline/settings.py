"""The settings of a run: the one statement of each option. Command line, environment, settings files and help come from
these fields (tools/common/options.py), and what cannot work is refused here, wherever it came from.

Nothing heavy is imported, so that ``--help`` is quick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from clesr.engines.common.errors import UsageError

if TYPE_CHECKING:
    from clesr.pipeline.prepare import Roi, Window
    from clesr.pipeline.sources.pacing import Pace

SCALES = (2, 4, 8)
VIDEO_CODECS = ("auto", "h264", "h264-lossless", "hevc", "hevc10", "hevc12", "ffv1")
PROCESSORS = ("auto", "cpu", "gpu")  # what decodes or encodes video
PATIENCE_FPS = 2.0  # frames/s that DenseNet must reach to be taken by "auto" where nobody waits live
PIECE = 1000  # frames of a video that are computed and, after a loss, computed again together
PANELS = (
    "Source",
    "Input",
    "Up-scaling",
    "Output",
    "Recording",
    "Stopping",
    "Archive",
)  # of the help, in order


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """How a field is said. ``default`` is what the help shows; ``choices`` are all values that are allowed, ``minimum``
    and ``maximum`` bounds; ``above_zero`` is checked when settings are made. ``parse`` makes the field's value of a
    text. ``per_stream``: once for each stream of a command line, a field of each has one. ``names`` are other
    spellings."""

    help: str
    panel: str | None = None
    metavar: str | None = None
    default: Any = None
    required: bool = False
    choices: tuple[Any, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    above_zero: bool = False
    parse: Callable[[str], Any] | None = None
    per_stream: bool = False
    names: tuple[str, ...] = ()


def setting(default: Any = MISSING, **option: Any) -> Any:
    """A field of a settings dataclass that is an option as well, with its ``Option``; one without ``default`` must be
    given. Its type is ``bool`` for a flag, ``int``, ``float``, ``str``, or a tuple for what may be repeated."""
    stated = Option(default=None if default is MISSING else default, required=default is MISSING, **option)
    parse = stated.parse
    if parse is not None and isinstance(default, str):
        text = default
        return field(default_factory=lambda: parse(text), metadata={"option": stated})
    return field(default=default, metadata={"option": stated})


def option_name(name: str) -> str:
    """The option of the field ``name``."""
    return f"--{name.replace('_', '-')}"


def _roi(text: str) -> Roi:
    from clesr.pipeline.prepare import Roi

    return Roi.parse(text)


def _mask(text: str) -> Roi:
    from clesr.pipeline.prepare import Roi

    return Roi.parse(text, "--mask")


def _window(text: str) -> Window:
    from clesr.pipeline.prepare import Window

    return Window.parse(text)


def _pace(text: str) -> Pace:
    from clesr.pipeline.sources.pacing import parse_pace

    return parse_pace(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What computes. Raises UsageError for what cannot work on any machine."""

    scale: int = setting(4, panel="Up-scaling", choices=SCALES, help="Factor by which width and height grow.")
    model: str = setting(
        "auto",
        panel="Up-scaling",
        metavar="NAME|FILE",
        help="densenet (the paper's network), fast, bicubic, bilinear, nearest, a .safetensors file, or auto: densenet "
        "where a short trial holds the source's frame rate, else fast.",
    )
    engine: str = setting(
        "auto",
        panel="Up-scaling",
        metavar="NAME",
        help="What computes: tensorrt, cuda, openvino, torch, or auto for the fastest that passes its self-test.",
    )
    device: str | None = setting(
        None,
        panel="Up-scaling",
        metavar="NAME",
        help="Device of the engine: cpu, cuda (NVIDIA) or gpu (Intel).",
    )
    precision: str | None = setting(
        None,
        panel="Up-scaling",
        metavar="NAME",
        help="fp32, bf16, fp16 or fp8, where the device has it.",
    )
    threads: int | None = setting(
        None,
        panel="Up-scaling",
        metavar="N",
        above_zero=True,
        help="Processor threads of the engine.  [default: all]",
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            value, option = getattr(self, each.name), each.metadata.get("option")
            if option is not None and option.above_zero and value is not None and not value > 0:
                raise UsageError(f"{option_name(each.name)} {value} is not positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings(EngineSettings):
    """What every run that reads and writes images has in common."""

    consistent: bool = setting(
        False,
        panel="Up-scaling",
        help="Correct each image so that, shrunk again, it equals the measured one.",
    )
    roi: Roi | None = setting(
        None,
        panel="Input",
        metavar="X,Y,W,H",
        parse=_roi,
        help="Use only this rectangle of the frame, in pixels: corner, width, height.",
    )
    window: Window = setting(
        "auto",
        panel="Input",
        metavar="LEVELS",
        parse=_window,
        help="Grey levels stretched to black..white: full, percentile, LOW,HIGH, or auto (full for 8 bit, percentile "
        "for 16 bit).",
    )
    decode: str = setting(
        "auto",
        panel="Input",
        choices=PROCESSORS,
        help="What decodes video: cpu, gpu (a graphics card where one gives the very same pictures), or auto: gpu for "
        "large pictures.",
    )
    overwrite: bool = setting(
        False,
        panel="Output",
        help="Replace files that exist under the names of the outputs. Inputs and sessions are never replaced.",
    )
    codec: str = setting(
        "auto",
        panel="Output",
        metavar="CODEC",
        choices=VIDEO_CODECS,
        help=f"Codec of the video: {', '.join(VIDEO_CODECS)}; ffv1 and h264-lossless lose nothing.",
    )
    encode: str = setting(
        "auto",
        panel="Output",
        choices=PROCESSORS,
        help="What encodes H.264 and HEVC: cpu, gpu (a graphics card where a trial comes back faithfully), or auto: "
        "gpu for large images.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings(RunSettings):
    """A stream of a live run; ``stream`` is its name where there are several."""

    stream: str = ""
    source: str = setting(
        panel="Source",
        metavar="[NAME=]ADDRESS",
        per_stream=True,
        help="/dev/video0, a video, .mkt or TIFF file, a folder of images, zmq+tcp://HOST:PORT, rtsp://..., or demo: "
        "for a simulated endomicroscope. Once for each stream.",
    )
    pace: Pace = setting(
        "original",
        panel="Source",
        metavar="RATE",
        parse=_pace,
        help="Speed of recorded input: original, max, or a number of frames/s.",
    )
    loop: bool = setting(False, panel="Source", help="Start recorded input again at its end.")
    share: str = setting(
        "auto",
        panel="Source",
        choices=("auto", "one", "several"),
        help="Several streams take turns at one engine (one for each frame size), have several, or auto: what a short "
        "trial shows to be faster.",
    )
    display: str = setting(
        "window",
        panel="Output",
        choices=("window", "none"),
        help="Where to show the image; q in the window quits.",
    )
    overlay: str | None = setting(
        None,
        panel="Output",
        choices=("fidelity",),
        help="Colour the image in the window where, shrunk again, it differs from the measured one; f switches.",
    )
    output: str | None = setting(
        None,
        panel="Output",
        metavar="FILE",
        per_stream=True,
        help="Also write a video: .mkv, .mp4, .mov or .avi. For several streams: once each, or with {stream} in it.",
    )
    send: str | None = setting(
        None,
        panel="Output",
        metavar="ADDRESS",
        per_stream=True,
        help="Also send: zmq+tcp://*:5555 (ZeroMQ), igtl://*:18944 (3D Slicer).",
    )
    summary: str | None = setting(
        None,
        panel="Output",
        metavar="FILE",
        per_stream=True,
        help="Write the closing figures as JSON.",
    )
    record: str | None = setting(
        None,
        panel="Recording",
        metavar="DIR",
        per_stream=True,
        help="Record a session into this new folder: raw and up-scaled frames, lossless, with proof that none is "
        "missing. Key r and SIGUSR1 end it and begin others.",
    )
    record_codec: str = setting(
        "ffv1",
        panel="Recording",
        choices=("ffv1", "hevc"),
        help="Codec of the up-scaled frames; hevc is smaller and lossy. Raw is always ffv1.",
    )
    retro: float | None = setting(
        None,
        panel="Recording",
        metavar="S",
        help="Do not record at once: key r or SIGUSR1 begins, and the recording contains the S seconds before.",
    )
    pixel_size: float | None = setting(
        None,
        panel="Recording",
        metavar="UM",
        above_zero=True,
        help="Micrometres of a captured pixel, for recordings and 3D Slicer.",
    )
    mask: tuple[Roi, ...] = setting(
        (),
        panel="Recording",
        metavar="X,Y,W,H",
        parse=_mask,
        help="Blank this rectangle of each captured frame before it is shown or written. May be repeated.",
    )
    seconds: float | None = setting(
        None, panel="Stopping", metavar="S", above_zero=True, help="Stop after so many seconds."
    )
    frames: int | None = setting(
        None, panel="Stopping", metavar="N", above_zero=True, help="Stop after so many captured frames."
    )

    def __post_init__(self) -> None:
        EngineSettings.__post_init__(self)
        if self.retro is not None and not self.retro >= 0:
            raise UsageError(
                f"--retro {self.retro} is negative; give seconds, or 0 to record from the key press on"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleSettings(RunSettings):
    """`clesr upscale`: recorded files to files."""

    model: str = setting(
        "auto",
        panel="Up-scaling",
        metavar="NAME|FILE",
        help="densenet, fast, bicubic, bilinear, nearest, a .safetensors file, or auto: densenet where a short trial "
        f"does {PATIENCE_FPS:g} frames/s, else fast.",
    )
    output: str = setting(
        panel="Output",
        metavar="FILE|FOLDER",
        names=("--out", "-o"),
        help="A file for one input, a folder for more.",
    )
    frames: int | None = setting(
        None,
        panel="Input",
        metavar="N",
        above_zero=True,
        help="Only the first N frames of each input.",
    )
    summary: str | None = setting(
        None,
        panel="Output",
        metavar="FILE",
        help="Write the closing figures of the last input as JSON.",
    )
    cluster: str | None = setting(
        None,
        panel="Archive",
        metavar="ADDRESS",
        help="Share an archive's work on Ray: local (this machine), auto, or HOST:PORT. All machines must see both "
        "folders under the same paths.",
    )
    workers: int | None = setting(
        None,
        panel="Archive",
        metavar="N",
        minimum=1,
        help="Engines on the cluster at most.  [default: as many as fit]",
    )
    gpus: float = setting(
        1.0,
        panel="Archive",
        metavar="SHARE",
        minimum=0,
        maximum=8,
        above_zero=True,
        help="GPUs of one engine on the cluster, where it has any; 0.5 puts two engines on each.",
    )
    piece: int = setting(
        PIECE,
        panel="Archive",
        metavar="FRAMES",
        minimum=1,
        help="Length of the pieces of long videos: what is computed again when a worker is lost.",
    )
    reread: bool = setting(
        False,
        panel="Archive",
        help="Compare the whole content of finished inputs, not only size and time of change.",
    )
