"""The settings of a run: the one statement of each option. Command line, environment, settings files and help come from
these fields (tools/common/options.py), and what cannot work is refused here, wherever it came from.

Nothing heavy is imported, so that ``--help`` is quick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from clesr.engines.common.errors import UsageError
from clesr.engines.common.numbers import shortened
from clesr.engines.models.registry import SCALES

if TYPE_CHECKING:
    from clesr.pipeline.prepare import IntensityWindow, Prepare, Roi
    from clesr.pipeline.source import Pace, SourceInfo

VIDEO_CODECS = ("auto", "h264", "h264-lossless", "hevc", "hevc10", "hevc12", "ffv1")
TEMPORAL = ("auto", "off")
DAMAGED = ("show", "drop")
RANGES = ("auto", "full", "limited")
PROCESSORS = ("auto", "cpu", "gpu")  # what decodes or encodes video
NO_CORES = "none"  # in place of a calibration: the pattern stays
PATIENCE_FPS = 2.0  # frames/s that DenseNet must reach to be taken by "auto" where nobody waits live
MOSAIC_MB = 256.0  # of memory for a map
PIECE = 1000  # frames of a video that are computed and, after a loss, computed again together
# Of the help, in order.
PANELS = (
    "Source", "Input", "Up-scaling", "Output", "Browser", "Recording", "Control", "Stopping", "Testing", "Archive",
)  # fmt: skip


class Recorded(IntEnum):
    """How far a session keeps an option of the run that made it: ``STATED`` in session.json, taken over by
    `clesr render` (``RENDERED``), or by `clesr replay` as well (``REPLAYED``)."""

    NO, STATED, RENDERED, REPLAYED = range(4)


NO, STATED, RENDERED, REPLAYED = Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """How a field is said. ``default`` is what the help shows; ``choices`` are all values that are allowed, ``minimum``
    and ``maximum`` bounds; ``above_zero`` is checked when settings are made. ``parse`` makes the field's value of a
    text. ``per_stream``: once for each stream of a command line, a field of each has one, or
    several where it is a tuple. ``negative``
    is for a flag that can be put off as well, ``nargs`` for a tuple of so many values that are given together.
    ``names`` are other spellings of the option, which is named as its field. ``recorded`` is how far sessions keep it;
    it is then part of what an archive's results are known by as well."""

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
    negative: bool = False
    nargs: int = 1
    names: tuple[str, ...] = ()
    recorded: Recorded = NO


def setting(default: Any, help: str, metavar: str | None = None, **option: Any) -> Any:
    """A field of a settings dataclass that is an option as well, with its ``Option``. Its type is ``bool`` for a flag,
    ``int``, ``float``, ``str``, or a tuple for what may be repeated. A ``default`` of ``...`` (an Ellipsis) is none:
    the user must give the option."""
    if default is ...:
        default, option["required"] = MISSING, True
    stated = Option(help=help, metavar=metavar, default=None if default is MISSING else default, **option)
    parse = stated.parse
    if parse is not None and isinstance(default, str):
        return field(default_factory=lambda: parse(default), metadata={"option": stated})
    return field(default=default, metadata={"option": stated})


AssumedNoise = float | None  # None: as estimated


def overwriting(panel: str | None = None) -> Any:
    """The field ``overwrite`` of what writes files."""
    help = "Replace files that exist under the names of the outputs. Inputs and sessions are never replaced."
    return setting(False, help, panel=panel)


def mosaic_memory(panel: str | None = None) -> Any:
    """The field ``mosaic_memory`` of what joins frames into maps."""
    help = "Memory for a map, in MB; one that needs more ends, and another begins."
    return setting(MOSAIC_MB, help, "MB", panel=panel, minimum=16.0, maximum=1e6)


_source, _input, _upscaling, _output, _browser, _recording, _control, _stopping, _testing, _archive = (
    partial(setting, panel=panel) for panel in PANELS
)


def option_name(name: str) -> str:
    """The option of the field ``name``."""
    return f"--{name.replace('_', '-')}"


def recorded_options(settings: type, least: Recorded = STATED) -> dict[str, Option]:
    """The options of the dataclass ``settings`` that sessions keep at ``least`` so far, by name of field."""
    found = {each.name: each.metadata.get("option") for each in fields(settings)}
    return {name: option for name, option in found.items() if option is not None and option.recorded >= least}


def recorded(settings: Any) -> dict[str, Any]:
    """What a session says of ``settings``, as JSON: what else they hold are texts, from which they can be parsed."""
    values = {name: getattr(settings, name) for name in recorded_options(type(settings))}
    return {
        name: v if v is None or isinstance(v, str | int | float) else str(v) for name, v in values.items()
    }


def check_values(settings: Any) -> None:
    """Raise UsageError where an option of the dataclass ``settings`` must be above zero, or one of its choices."""
    for each in fields(settings):
        value, option = getattr(settings, each.name), each.metadata.get("option")
        if option is None or value is None or isinstance(value, tuple):
            continue
        if option.above_zero and not value > 0:
            raise UsageError(f"{option_name(each.name)} {value} is not positive")
        if option.choices and value not in option.choices:
            allowed = ", ".join(map(str, option.choices))
            raise UsageError(f"{option_name(each.name)} {value!r} is not one of {allowed}")


def _roi(text: str, option: str = "--roi") -> Roi:
    from clesr.pipeline.prepare import Roi

    return Roi.parse(text, option)


def _window(text: str) -> IntensityWindow:
    from clesr.pipeline.prepare import IntensityWindow

    return IntensityWindow.parse(text)


def _pace(text: str) -> Pace:
    from clesr.pipeline.source import parse_pace

    return parse_pace(text)


def _denoise(text: str) -> AssumedNoise:
    from clesr.pipeline.guide import parse_denoise

    return parse_denoise(text)


def parse_key(text: str) -> tuple[str, str]:
    """``ACTION=KEY``. Raises UsageError for another form; `assign_keys` says whether there is such an action."""
    action, found, key = text.partition("=")
    if not (action and found):
        raise UsageError(f"--key {shortened(text)} is not ACTION=KEY, such as still=s")
    return action, key


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What computes. Raises UsageError for what cannot work on any machine."""

    scale: int = _upscaling(4, "Factor by which width and height grow.", choices=SCALES)
    model: str = _upscaling(
        "auto",
        "densenet (the paper's network, for clean images), fast (for noisy ones too), bicubic, bilinear, nearest, a "
        ".safetensors file, or auto: the best of the first two that holds the source's frame rate in a short trial "
        f"(for files {PATIENCE_FPS:g} frames/s) and knows noise.",
        "NAME|FILE",
        recorded=REPLAYED,
    )
    engine: str = _upscaling(
        "auto",
        "What computes: tensorrt, cuda, openvino, torch, or auto for the fastest that passes its self-test.",
        "NAME",
        recorded=STATED,
    )
    device: str | None = _upscaling(
        None, "Device of the engine: cpu, cuda (NVIDIA) or gpu (Intel).", "NAME", recorded=STATED
    )
    precision: str | None = _upscaling(
        None, "fp32, bf16 or fp16, where the device has it.", "NAME", recorded=STATED
    )
    threads: int | None = _upscaling(
        None, "Processor threads of the engine.  [default: all]", "N", above_zero=True, recorded=RENDERED
    )

    def __post_init__(self) -> None:
        check_values(self)


@dataclass(frozen=True, kw_only=True)
class ReadingSettings:
    """How images, stacks, DICOM files and video are read. Without slots, so that other settings can have these too."""

    fps: float | None = _input(
        None,
        "Frames/s of a folder, stack or DICOM file, in place of what it states.  [default: 25 where it states none]",
        "N",
        minimum=0.001,
        maximum=10_000,
        recorded=STATED,
    )
    channel: int | None = _input(
        None,
        "Channel of a stack, counted from 0 (video tracks from 1).  [default: 0, told]",
        "N",
        minimum=0,
        recorded=STATED,
    )
    plane: int | None = _input(
        None,
        "Plane of depth (Z) of a stack, counted from 0.  [default: 0, or all where there is one time; told]",
        "N",
        minimum=0,
        recorded=STATED,
    )
    window: IntensityWindow = _input(
        "auto",
        "Grey levels stretched to black..white: full, percentile, LOW,HIGH in values of the file (which floats and "
        "32-bit integers need), or auto (the window that a DICOM file or session states, else full for 8 bit, "
        "percentile for 16 bit).",
        "LEVELS",
        parse=_window,
        recorded=REPLAYED,
    )

    track: int | None = _input(
        None,
        "Number of the video track, where a file has several, counted from 1 (channels from 0).  [default: the one it "
        "marks]",
        "N",
        minimum=1,
        recorded=STATED,
    )
    range: str = _input(
        "auto",
        "Grey levels of video: full (0 to 255), limited (16 to 235, which are stretched), or auto: as it says itself.",
        choices=RANGES,
        recorded=STATED,
    )
    deinterlace: bool = _input(
        False, "Make whole pictures of interlaced video, one of each two fields.", recorded=STATED
    )

    def reading(self) -> dict[str, Any]:
        """The arguments of ``open_source`` that these are."""
        fixed = (self.window.low, self.window.high) if self.window.mode == "fixed" else None
        return {
            "fps": self.fps,
            "channel": self.channel,
            "plane": self.plane,
            "window": fixed,
            "track": self.track,
            "levels": self.range,
            "deinterlace": self.deinterlace,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings(EngineSettings, ReadingSettings):
    """What every run that reads and writes images has in common."""

    denoise: AssumedNoise = _upscaling(
        "auto",
        "Noise of the frames in grey levels: auto estimates it, frame by frame; 0 takes them for clean.",
        "LEVEL",
        parse=_denoise,
        recorded=REPLAYED,
    )
    temporal: str = _upscaling(
        "auto",
        "Earlier frames of the same tissue help each image, where they can be found in it: auto, or off.",
        choices=TEMPORAL,
        recorded=REPLAYED,
    )
    consistent: bool = _upscaling(
        False, "Correct each image so that, shrunk again, it equals the measured one.", recorded=REPLAYED
    )
    cores: str | None = _input(
        None,
        "Remove the core pattern of a fibre bundle by the calibration of its probe, a file of `clesr calibrate`; none "
        "leaves it.  [default: none; of a session its own]",
        "FILE",
    )
    roi: Roi | None = _input(
        None,
        "Use only this rectangle of the frame, in pixels: corner, width, height.",
        "X,Y,W,H",
        parse=_roi,
        recorded=REPLAYED,
    )
    decode: str = _input(
        "auto",
        "What decodes video: cpu, gpu (a graphics card where one gives the very same pictures), or auto: gpu for "
        "large pictures.",
        choices=PROCESSORS,
    )
    overwrite: bool = overwriting("Output")
    codec: str = _output(
        "auto",
        f"Codec of the video: {', '.join(VIDEO_CODECS)}; ffv1 and h264-lossless lose nothing.",
        "CODEC",
        choices=VIDEO_CODECS,
    )
    encode: str = _output(
        "auto",
        "What encodes H.264 and HEVC: cpu, gpu (a graphics card where a trial comes back faithfully), or auto: "
        "gpu for large images.",
        choices=PROCESSORS,
    )

    def reading(self) -> dict[str, Any]:
        """The arguments of ``open_source`` that these are."""
        return {**ReadingSettings.reading(self), "decode": self.decode}

    def computing(self) -> dict[str, Any]:
        """The arguments of ``Pipeline``, and of ``LiveEngine``, that these are."""
        return {"scale": self.scale, "consistent": self.consistent}

    def prepare(
        self, source: SourceInfo | None = None, make: Callable[..., Prepare] | None = None, **known: Any
    ) -> Prepare:
        """What makes LR images of the frames of ``source``, which do not wait where it is live: a Prepare, or what
        ``make`` makes with the same arguments, of which those ``known`` stand already."""
        from clesr.pipeline.cores.calibration import load_cores
        from clesr.pipeline.guide import Guide
        from clesr.pipeline.prepare import Prepare
        from clesr.pipeline.temporal import StreamFusion

        if "cores" not in known:
            file = self.cores or (None if source is None else source.cores)
            known["cores"] = None if file is None or file == NO_CORES else load_cores(file)
        hurried = source is not None and source.live
        found = {
            "roi": self.roi,
            "window": self.window if source is None else self.window.or_stated(source.window),
            "guide": Guide(self.denoise),
            "temporal": StreamFusion(hurried=hurried) if self.temporal == "auto" else None,
        }
        return (make or Prepare)(**found | known)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings(RunSettings):
    """A stream of a live run; ``stream`` is its name where there are several."""

    stream: str = ""
    source: str = _source(
        ...,
        "/dev/video0, a video, .mkt or TIFF file, a folder of images, zmq+tcp://HOST:PORT, rtsp://..., or demo: "
        "for a simulated endomicroscope. Once for each stream.",
        "[NAME=]ADDRESS",
        per_stream=True,
    )
    pace: Pace = _source(
        "original", "Speed of recorded input: original, max, or a number of frames/s.", "RATE", parse=_pace
    )
    loop: bool = _source(False, "Start recorded input again at its end.")
    damaged: str = _source(
        "show",
        "Frames that build on a damaged picture, to the next that needs none before it: show (marked), or drop "
        "(counted as corrupt).",
        choices=DAMAGED,
    )
    share: str = _source(
        "auto",
        "Several streams take turns at one engine (one for each frame size), have several, or auto: one for live "
        "streams, what a short trial shows to be faster for recorded ones.",
        choices=("auto", "one", "several"),
    )
    display: str = _output(
        "window",
        "Where to show the image: window (q quits), browser (a page at the address that is told), or none.",
        choices=("window", "browser", "none"),
    )
    overlay: str | None = _output(
        None,
        "Colour the image in the window where, shrunk again, it differs from the measured one; f switches.",
        choices=("fidelity",),
    )
    output: str | None = _output(
        None,
        "Also write a video: .mkv, .mp4, .mov or .avi. For several streams: once each, or with {stream} in it.",
        "FILE",
        per_stream=True,
    )
    send: tuple[str, ...] = _output(
        (),
        "Also send: zmq+tcp://*:5555 (ZeroMQ), igtl://*:18944 (3D Slicer). May be repeated. With several streams: with "
        "{stream} in it for all, NAME= before it for one, else once each.",
        "[NAME=]ADDRESS",
        per_stream=True,
    )
    mosaic: str | None = _output(
        None,
        "Also join the frames into a map, and write it at the end as OME-TIFF (.ome.tif); key m writes it as it is.",
        "FILE",
        per_stream=True,
    )
    mosaic_memory: float = mosaic_memory("Output")
    summary: str | None = _output(None, "Write the closing figures as JSON.", "FILE", per_stream=True)
    listen: str | None = _browser(
        None,
        "Where the browser's page is. An address that other machines can reach needs a token, which is told.  "
        "[default: 127.0.0.1:8765, or a free port there]",
        "ADDRESS:PORT",
    )
    token_file: str | None = _browser(
        None,
        "Take the token from this file, or from CLESR_BROWSER_TOKEN.  [default: a new one for each run]",
        "FILE",
    )
    tls_certificate: str | None = _browser(None, "Encrypt with this certificate (PEM).", "FILE")
    tls_key: str | None = _browser(None, "Its key (PEM).  [default: it is in the certificate's file]", "FILE")
    sessions: str | None = _browser(
        None,
        "Folder whose recorded sessions the page lists.  [default: where this run records]",
        "DIR",
    )
    record: str | None = _recording(
        None,
        "Record a session into this new folder: raw and up-scaled frames, lossless, with proof that none is "
        "missing. Key r and SIGUSR1 end it and begin others.",
        "DIR",
        per_stream=True,
    )
    record_codec: str = _recording(
        "ffv1",
        "Codec of the up-scaled frames; hevc is smaller and lossy. Raw is always ffv1.",
        choices=("ffv1", "hevc"),
    )
    retro: float | None = _recording(
        None,
        "Do not record at once: key r or SIGUSR1 begins, and the recording contains the S seconds before.",
        "S",
    )
    pixel_size: float | None = _recording(
        None, "Micrometres of a captured pixel across, for recordings and 3D Slicer.", "UM", above_zero=True
    )
    mask: tuple[Roi, ...] = _recording(
        (),
        "Blank this rectangle of each captured frame before it is shown or written. May be repeated.",
        "X,Y,W,H",
        parse=partial(_roi, option="--mask"),
    )
    control: str | None = _control(
        None,
        "Take orders here: zmq+tcp://127.0.0.1:5557 or zmq+ipc://PATH; `clesr control` gives them. Any other address "
        "than this machine's own needs keys.",
        "ADDRESS",
    )
    key: tuple[tuple[str, str], ...] = _control(
        (),
        "Give an action another key, such as still=s; nothing after = for none. May be repeated; a table [keys] in the "
        "settings file does the same.",
        "ACTION=KEY",
        parse=parse_key,
    )
    stills: str = _control(".", "Write stills into this folder.", "FOLDER")
    seconds: float | None = _stopping(None, "Stop after so many seconds.", "S", above_zero=True)
    frames: int | None = _stopping(None, "Stop after so many captured frames.", "N", above_zero=True)
    metrics: str | None = _output(
        None,
        "Serve the figures of the run to Prometheus: HOST:PORT, or a port of this machine alone.",
        "HOST:PORT",
    )
    isolate: bool = _upscaling(
        False,
        "Run the engine in a process of its own, which is killed and started again where it hangs or crashes.",
    )
    chaos: str | None = _testing(
        None,
        "Faults on purpose: PLACE-FAULT@SECOND+LENGTH, several with commas, or every=SECONDS,seed=NUMBER by chance.",
        "FAULTS",
        recorded=STATED,
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

    output: str = _output(
        ..., "A file for one input, a folder for more.", "FILE|FOLDER", names=("--out", "-o")
    )
    frames: int | None = _input(None, "Only the first N frames of each input.", "N", above_zero=True)
    summary: str | None = _output(None, "Write the closing figures of the last input as JSON.", "FILE")
    cluster: str | None = _archive(
        None,
        "Share an archive's work on Ray: local (this machine), auto, or HOST:PORT. All machines must see both "
        "folders under the same paths.",
        "ADDRESS",
    )
    workers: int | None = _archive(
        None, "Engines on the cluster at most.  [default: as many as fit]", "N", minimum=1
    )
    gpus: float = _archive(
        1.0,
        "GPUs of one engine on the cluster, where it has any; 0.5 puts two engines on each.",
        "SHARE",
        maximum=8,
        above_zero=True,
    )
    piece: int = _archive(
        PIECE,
        "Length of the pieces of long videos: what is computed again when a worker is lost.",
        "FRAMES",
        minimum=1,
    )
    reread: bool = _archive(
        False, "Compare the whole content of finished inputs, not only size and time of change."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MosaicSettings(RunSettings):
    """`clesr mosaic`: a recording to maps."""

    output: str = _output(..., "The map, as OME-TIFF (.ome.tif).", "FILE", names=("--out", "-o"))
    mosaic_memory: float = mosaic_memory("Output")
    pixel_size: float | None = _output(
        None, "Micrometres of a captured pixel across.  [default: the session's]", "UM", above_zero=True
    )
    frames: int | None = _input(None, "Only the first N frames.", "N", above_zero=True)
    codec: str = "auto"  # no options here: no video is written
    encode: str = "auto"
