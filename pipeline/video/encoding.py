"""One video file: the choice of codec, and the writing of gray images by PyAV."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from clesr.engines.common.errors import SinkError, UsageError, on_error, told_as
from clesr.engines.common.files import WholeFile
from clesr.engines.common.processor import core_count
from clesr.pipeline.frame import Frame, Image, period_of
from clesr.pipeline.video.matroska import MatroskaOutput, leave_room

CODECS = ("auto", "h264", "h264-lossless", "hevc", "hevc10", "hevc12", "ffv1")
FORMATS = {".mkv": "matroska", ".mp4": "mp4", ".mov": "mov", ".avi": "avi"}  # FFmpeg's names
SUFFIXES = tuple(FORMATS)
CRF = {"libx264": 16, "libx265": 10}  # constant rate factor of the lossy codecs: 50 dB on SR images and more
FULL_RANGE = 2  # AVCOL_RANGE_JPEG: gray 0 and 255 are 0 and 255 in the file
KEYFRAME_S = 2.0
FINEST = 1_000_000  # ticks a second for capture times, where the container has no grid of its own
_LIBRARIES = {"h264": "libx264", "h264-lossless": "libx264", "ffv1": "ffv1"}
_NOT_IN = {".avi": ("h264", "h264-lossless", "hevc", "hevc10", "hevc12"), ".mov": ("ffv1",)}
# Matroska writes a cluster a second, so that a killed process loses no more; MP4 and QuickTime files stay
# readable in fragments until the end turns them into plain ones.
_CONTAINER = {
    ".mkv": {"cluster_time_limit": "1000"},
    ".mp4": {"movflags": "hybrid_fragmented"},
    ".mov": {"movflags": "hybrid_fragmented"},
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """How images of one kind are encoded; ``shift`` drops the low bits that ``pixels`` has no room for. ``hardware``
    where the encoder is a graphics card's."""

    name: str
    library: str
    pixels: str
    shift: int
    options: Mapping[str, str]
    hardware: bool = False


class EncoderFailed(Exception):
    """The encoder of a graphics card gave up: the processor's may go on."""


def check_codec(codec: str, suffix: str) -> None:
    """Raises UsageError where no image can go into a ``suffix`` file by ``codec``, SinkError where PyAV's
    FFmpeg was built without the encoder."""
    if suffix not in SUFFIXES:
        raise UsageError(f"a video file ends in {', '.join(SUFFIXES)}, not in {suffix or 'nothing'}")
    if codec not in CODECS:
        raise UsageError(f"codec {codec!r} is not one of {', '.join(CODECS)}")
    if codec in _NOT_IN.get(suffix, ()):
        raise UsageError(f"{codec} cannot go into {suffix}; choose a name that ends in .mkv, or codec auto")
    if codec != "auto":
        _check_library(_LIBRARIES.get(codec, "libx265"))


def choose_encoding(
    codec: str, suffix: str, dtype: np.dtype[np.generic], shape: tuple[int, int], *, crf: int | None = None
) -> Encoding:
    """The encoding of (H, W) images of ``dtype`` (uint8, uint16) in a ``suffix`` file.

    ``auto`` loses nothing in .mkv and .avi: FFV1 for 16 bits, and in .avi; for 8 bits in .mkv
    lossless H.264, which takes half the time of FFV1 and less. In .mp4 and .mov it is H.264 in the form that
    every player knows, for 16 bits FFV1 (.mp4). Raises UsageError where bits would be lost unasked,
    SinkError where the encoder is missing.
    """
    deep = dtype.itemsize > 1
    if codec == "auto":
        flat = "h264-lossless" if suffix == ".mkv" else "h264"
        codec = "ffv1" if deep or suffix == ".avi" else flat
    if codec == "ffv1" and suffix == ".mov":
        raise UsageError(
            "16-bit images cannot go into .mov unchanged; choose .mkv, or codec hevc10 or hevc12"
        )
    if deep and codec in ("h264", "h264-lossless", "hevc"):
        raise UsageError(
            f"{codec} keeps 8 of the images' 16 bits; choose codec ffv1 (.mkv), hevc10 or hevc12"
        )
    library = _LIBRARIES.get(codec, "libx265")
    _check_library(library)
    return Encoding(
        codec, library, *_pixels(codec, suffix, deep, shape), _options(codec, library, deep, shape, crf)
    )


def _pixels(codec: str, suffix: str, deep: bool, shape: tuple[int, int]) -> tuple[str, int]:
    if deep:
        return {"ffv1": ("gray16le", 0), "hevc10": ("gray10le", 6), "hevc12": ("gray12le", 4)}[codec]
    even = shape[0] % 2 == 0 and shape[1] % 2 == 0
    # Browsers and hardware decoders know no monochrome H.264, and 4:2:0 has no odd sizes.
    common = suffix in (".mp4", ".mov") and codec not in ("ffv1", "h264-lossless") and even
    return ("yuv420p" if common else "gray"), 0


def _options(codec: str, library: str, deep: bool, shape: tuple[int, int], crf: int | None) -> dict[str, str]:
    if library == "ffv1":
        slices = "1" if min(shape) == 1 else "4"  # two by two, which a line of pixels cannot be cut into
        # Rice coding is up to twice as fast as range coding, which FFV1 demands above 8 bits.
        coder = "1" if deep else "0"
        return {"level": "3", "slices": slices, "slicecrc": "1", "context": "0", "coder": coder}
    options = {"preset": "ultrafast", "tune": "zerolatency"}
    if library == "libx265":
        options["x265-params"] = f"log-level=none:pools={encoder_threads()}"
    if codec == "h264-lossless":
        return options | {"qp": "0"}
    return options | {"crf": str(CRF[library] if crf is None else crf)}


def _check_library(library: str) -> None:
    words = (
        f"the installed PyAV has no {library} encoder; choose another codec, or take PyAV's own wheel: "
        "pip install --force-reinstall --only-binary :all: av"
    )
    with told_as(SinkError, words, av.codec.codec.UnknownCodecError):
        av.Codec(library, "w")


def choose_tick(suffix: str, frame: Frame, fps: float) -> Fraction:
    """Seconds of one step of the file's clock: the finest that the container keeps.

    Matroska has milliseconds, AVI a fixed rate; MP4 and QuickTime take the recording's own
    time base, so that its times stay exact, and microseconds for capture times.
    """
    if suffix == ".mkv":
        return Fraction(1, 1000)
    if suffix == ".avi":
        return period_of(fps)
    if frame.time_base is not None and frame.time_base.denominator <= FINEST:
        return Fraction(1, frame.time_base.denominator)
    return Fraction(1, FINEST)


def encoder_threads() -> int:
    """A quarter of the cores, at most four, so that encoding never takes the engine's."""
    cores = core_count()
    return max(1, min(4, cores // 4))


class VideoWriter:
    """Gray images of one size and dtype into one file.

    ``container`` and ``metadata`` are options and tags of the container, ``pixel_aspect`` is the width of a pixel over
    its height; without the first it is written
    so that a killed process leaves what can be read.

    Every method raises av.FFmpegError, which is an OSError where the disk is the reason; ``write`` raises EncoderFailed
    where a card's encoder is. ``inside`` counts the images that were written but are not in the file yet.
    """

    def __init__(
        self,
        path: Path,
        encoding: Encoding,
        shape: tuple[int, int],
        *,
        tick: Fraction,
        fps: float,
        container: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        height, width = shape
        self.encoding, self.shape, self.frames = encoding, shape, 0
        self.inside = 0
        self._closed = False
        own = _CONTAINER.get(path.suffix, {}) if container is None else container
        options = {"fflags": "bitexact", **own}  # else Matroska files have random numbers, no two the same
        # Given the name only, PyAV writes header and end itself and holds the interpreter's lock meanwhile: a disk that
        # does not answer would stop every thread.
        matroska = path.suffix.lower() == ".mkv"
        self._file = MatroskaOutput(path, pixel_aspect) if matroska else WholeFile(str(path), "w")
        with on_error(self._file.close):
            self._container = av.open(self._file, "w", format=FORMATS[path.suffix.lower()], options=options)
        self._container.metadata.update(metadata or {})
        rate = 1 / period_of(fps)
        stream = self._container.add_stream(encoding.library, rate=rate, options=dict(encoding.options))
        assert isinstance(stream, VideoStream)
        self._stream = stream
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, encoding.pixels
        context = self._stream.codec_context
        context.time_base = self._stream.time_base = tick
        context.color_range = FULL_RANGE
        if matroska:
            leave_room(stream)
        if pixel_aspect != 1:
            context.sample_aspect_ratio = pixel_aspect
        context.gop_size = max(1, round(KEYFRAME_S * fps))
        context.thread_count, context.thread_type = encoder_threads(), "SLICE"
        if encoding.library == "libx265" and path.suffix in (".mp4", ".mov"):
            context.codec_tag = "hvc1"  # QuickTime knows no hev1
        self._picture = VideoFrame(width, height, encoding.pixels)
        self._picture.color_range = FULL_RANGE
        self._picture.time_base = tick
        self._picture.duration = max(1, round(1 / (rate * tick)))
        for chroma in self._picture.planes[1:]:
            np.frombuffer(memoryview(chroma), np.uint8)[:] = 128

    def write(self, image: Image, ticks: int) -> None:
        """Encode ``image``, to be shown at ``ticks`` of the file's clock."""
        self._picture.make_writable()
        plane, (height, width) = self._picture.planes[0], self.shape
        rows = np.frombuffer(memoryview(plane), image.dtype).reshape(
            height, plane.line_size // image.itemsize
        )
        np.right_shift(image, self.encoding.shift, out=rows[:, :width])
        self._picture.pts = ticks
        self.frames += 1
        self.inside += 1
        self._encode(self._picture)

    def close(self) -> None:
        """Write what the encoder still has, and the index. A card that fails at it keeps ``inside`` images; it may be
        called again."""
        if self._closed:
            return
        self._closed = True
        with self._file, self._container:
            if self.frames:
                with contextlib.suppress(EncoderFailed):
                    self._encode(None)

    def _encode(self, picture: VideoFrame | None) -> None:
        try:
            packets = self._stream.encode(picture)
        except av.FFmpegError as error:
            if self.encoding.hardware:
                raise EncoderFailed(error.strerror or str(error)) from error
            raise
        self.inside -= len(packets)
        self._container.mux(packets)


def is_readable(path: Path) -> bool:
    """Whether the first frame of ``path`` decodes."""
    try:
        with av.open(str(path)) as container:
            return next(container.decode(video=0), None) is not None
    except (av.FFmpegError, OSError, IndexError):
        return False
