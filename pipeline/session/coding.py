"""Images to coded pictures, without a file: so that pictures can wait in memory before a recording begins."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame

from clesr.engines.common.errors import UsageError
from clesr.pipeline.frame import Image
from clesr.pipeline.session.format import SessionError, hash_bytes, hash_pixels
from clesr.pipeline.video.encoding import FULL_RANGE, Encoding, choose_encoding

CODECS = ("ffv1", "hevc")
TICK = Fraction(1, 1000)  # Matroska's clock
_START_CODE = re.compile(rb"\x00?\x00\x00\x01")  # ITU-T H.265, annex B
KEYFRAME_S = 1.0  # between two pictures that a lossy stream can be entered at


class Picture(NamedTuple):
    """A coded image: its bytes, the hashes of its pixels and, where the codec is lossy, of its bytes."""

    data: bytes
    ticks: int
    key: bool
    pixels: str
    coded: str | None


class Coder:
    """Codes (H, W) uint8 or uint16 images of one kind, one picture each at once.

    FFV1 makes every picture independent of the others, with checksums, so that damage stays where it is.
    HEVC is lossy: 8 bits of uint8, 12 of uint16. Raises UsageError for another codec, SinkError where PyAV lacks it.
    """

    def __init__(
        self, codec: str, shape: tuple[int, int], dtype: np.dtype[np.generic], *, fps: float, threads: int
    ) -> None:
        if codec not in CODECS:
            raise UsageError(f"codec {codec!r} is none of a session's; allowed are {', '.join(CODECS)}")
        if codec == "hevc" and dtype.itemsize > 1:
            codec = "hevc12"
        self.codec, self.shape, self.dtype, self.fps, self.threads = codec, shape, dtype, fps, threads
        self.encoding = choose_encoding(codec, ".mkv", dtype, shape)
        self.lossless = codec == "ffv1"
        context = av.CodecContext.create(self.encoding.library, "w")
        assert isinstance(context, VideoCodecContext)
        self._context = context
        configure(self._context, self)
        self._context.open()
        self._frame = VideoFrame(shape[1], shape[0], self.encoding.pixels)
        self._frame.color_range, self._frame.time_base = FULL_RANGE, TICK

    @property
    def header(self) -> bytes:
        """What a decoder must know before the first picture."""
        return self._context.extradata or b""

    def code(self, image: Image, ticks: int, *, key: bool = False) -> Picture:
        """``image`` as a picture shown at ``ticks`` milliseconds; ``key``: one that needs none before it.

        Raises SessionError, av.FFmpegError.
        """
        self._frame.make_writable()
        plane, (height, width) = self._frame.planes[0], self.shape
        rows = np.frombuffer(memoryview(plane), self.dtype).reshape(
            height, plane.line_size // self.dtype.itemsize
        )
        np.right_shift(image, self.encoding.shift, out=rows[:, :width])
        self._frame.pts = ticks
        self._frame.pict_type = PictureType.I if key else PictureType.NONE
        packets = self._context.encode(self._frame)
        if len(packets) != 1:
            raise SessionError(f"the {self.codec} encoder gave {len(packets)} pictures for one image")
        data = bytes(packets[0])
        coded = None if self.lossless else hash_bytes(as_in_matroska(data))
        return Picture(data, ticks, packets[0].is_keyframe, hash_pixels(image), coded)


def coder_for(image: Image, earlier: Coder | None, codec: str, *, fps: float, threads: int) -> Coder:
    """``earlier`` where it is for images like ``image``, else a new coder."""
    if earlier is not None and (earlier.shape, earlier.dtype) == (image.shape, image.dtype):
        return earlier
    return Coder(codec, (image.shape[0], image.shape[1]), image.dtype, fps=fps, threads=threads)


def as_in_matroska(data: bytes) -> bytes:
    """HEVC as it stands in a Matroska block: each unit behind its length (4 bytes), not behind a start code."""
    units = _START_CODE.split(data)[1:]
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def configure(context: VideoCodecContext, coder: Coder) -> None:
    """Give ``context`` the settings of ``coder``: two that have the same code alike."""
    encoding: Encoding = coder.encoding
    context.height, context.width = coder.shape
    context.pix_fmt, context.color_range = encoding.pixels, FULL_RANGE
    context.time_base = TICK
    context.framerate = Fraction(coder.fps).limit_denominator(1001)
    context.gop_size = 1 if coder.lossless else max(1, round(KEYFRAME_S * coder.fps))
    context.thread_count, context.thread_type = coder.threads, "SLICE"
    context.options = dict(encoding.options) | ({} if coder.lossless else {"forced-idr": "1"})
    context.flags |= av.codec.context.Flags.global_header


def raw_threads() -> int:
    """Threads that code raw images: at most four, as FFV1 has four slices."""
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
