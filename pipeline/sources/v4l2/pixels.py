"""What the bytes in a camera's buffer mean: V4L2 pixel formats to gray images.

Sources: the V4L2 "Image Formats" chapter of the Linux media documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from clesr.engines.common.errors import WHY, UsageError, told_as
from clesr.engines.common.limits import decoder_pixels
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.v4l2.jpeg import Buffer, Damaged, decode_jpeg, open_jpeg
from clesr.pipeline.video.luma import full_range, luma

S = TypeVar("S", np.uint8, np.uint16)
_BIG_ENDIAN = 1 << 31  # in a pixel format's code


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """A V4L2 pixel format that carries gray or colour. ``name`` as the user writes it, ``fourcc`` as V4L2 does;
    ``bits`` are those of a sample, which lies ``step`` bytes after its left neighbour, the first ``offset`` bytes
    from the begin of a line. ``step`` is 0 where the bytes are coded, ``kind`` says by what, or what else is
    special."""

    name: str
    fourcc: str
    bits: int
    step: int
    offset: int = 0
    kind: str = ""

    @property
    def code(self) -> int:
        code = int.from_bytes(self.fourcc.encode(), "little")
        return code | _BIG_ENDIAN if self.kind == "big-endian" else code

    @property
    def coloured(self) -> bool:
        """Whether samples are red, green and blue, which have the full range always."""
        return self.kind in ("bgr", "rgb")

    def line(self, width: int) -> int:
        """The least bytes of a line of ``width`` pixels."""
        return width * self.bits // 8 if self.kind == "packed" else width * self.step


_PLANAR = ("GREY", "NV12", "NV21", "YU12", "YV12", "NM12", "NM21", "YM12", "YM21", "NV16", "422P")
# Best first: the most gray levels, then the fewest bytes a pixel, and compressed last.
FORMATS = (
    PixelFormat("Y16", "Y16 ", 16, 2),
    PixelFormat("Y16_BE", "Y16 ", 16, 2, kind="big-endian"),
    PixelFormat("Y14", "Y14 ", 14, 2),
    PixelFormat("Y12", "Y12 ", 12, 2),
    PixelFormat("Y12P", "Y12P", 12, 2, kind="packed"),
    PixelFormat("Y10", "Y10 ", 10, 2),
    PixelFormat("Y10P", "Y10P", 10, 2, kind="packed"),
    *(PixelFormat(name, name, 8, 1) for name in _PLANAR),
    PixelFormat("YUYV", "YUYV", 8, 2),
    PixelFormat("UYVY", "UYVY", 8, 2, 1),
    PixelFormat("YVYU", "YVYU", 8, 2),
    PixelFormat("VYUY", "VYUY", 8, 2, 1),
    PixelFormat("BGR3", "BGR3", 8, 3, kind="bgr"),
    PixelFormat("RGB3", "RGB3", 8, 3, kind="rgb"),
    PixelFormat("MJPG", "MJPG", 8, 0, kind="mjpeg"),
    PixelFormat("JPEG", "JPEG", 8, 0, kind="mjpeg"),
    PixelFormat("H264", "H264", 8, 0, kind="h264"),
)
ALSO = {
    "MJPEG": "MJPG",
    "I420": "YU12",
    "IYUV": "YU12",
    "YUY2": "YUYV",
    "Y800": "GREY",
    "BGR24": "BGR3",
    "RGB24": "RGB3",
}
_LEVELS = {1: "full", 2: "limited"}  # V4L2_QUANTIZATION_FULL_RANGE, _LIM_RANGE


def find_format(name: str) -> PixelFormat:
    """The format called ``name`` in any case, or by one of the names in ALSO. Raises UsageError for one that clesr
    cannot read."""
    formats = {known.name: known for known in FORMATS}
    wanted = name.strip().upper()
    wanted = ALSO.get(wanted, wanted)
    if wanted not in formats:
        raise UsageError(
            f"pixel format {name!r} is not one that clesr reads; give one of {', '.join(formats)}"
        )
    return formats[wanted]


def stated_levels(quantization: int, asked: str = "auto") -> str:
    """How grey levels are meant: as ``asked`` (full, limited), or with ``auto`` as the format's ``quantization`` says.
    ``auto`` where that says nothing: drivers of cameras leave it out whatever they send."""
    return asked if asked != "auto" else _LEVELS.get(quantization, "auto")


class BufferDecoder:
    """Gray images out of buffers of one format: ``size`` (width, height), ``stride`` bytes from line to line.

    Luma of ``limited`` range is stretched where ``levels`` says so, else taken as the camera gives it.
    """

    def __init__(
        self, pixel_format: PixelFormat, size: tuple[int, int], stride: int, levels: str = "auto"
    ) -> None:
        self.format, self.size = pixel_format, size
        self.stride = max(stride, pixel_format.line(size[0]))
        self._levels = levels
        self._jpeg = open_jpeg(size) if pixel_format.kind == "mjpeg" else None
        self._video = _open_video(size) if pixel_format.kind == "h264" else None

    def decode(self, data: Buffer) -> Image:
        """(H, W) uint8, or uint16 with samples of 10 to 14 bits shifted to the top; a copy of the caller's own.

        Raises Damaged where the buffer is too short, or no whole coded image of this size.
        """
        if self._video is not None:
            return self._decode_video(self._video, data)
        image = self._image(data)
        limited = self._levels == "limited" and not self.format.coloured
        return full_range(image, self.format.bits) if limited else image

    def _image(self, data: Buffer) -> Image:
        known = self.format
        if self._jpeg is not None:
            return decode_jpeg(self._jpeg, data, self.size)
        if known.coloured:
            pixels = self._view(data, np.dtype(np.uint8), (3,), (1,))
            code = cv2.COLOR_BGR2GRAY if known.kind == "bgr" else cv2.COLOR_RGB2GRAY
            return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), code), np.uint8)
        if known.kind == "packed":
            return self._unpacked(data)
        if known.bits == 8:
            return self._view(data, np.dtype(np.uint8)).copy()
        samples = self._view(data, np.dtype(">u2" if known.kind == "big-endian" else "<u2"))
        image = np.empty(self.size[::-1], np.uint16)
        np.left_shift(samples, 16 - known.bits, out=image)
        return image

    def _view(
        self, data: Buffer, kind: np.dtype[S], parts: tuple[int, ...] = (), steps: tuple[int, ...] = ()
    ) -> NDArray[S]:
        """The samples, (H, W) or with their ``parts`` (H, W, parts)."""
        width, height = self.size
        last = max(parts, default=1) * kind.itemsize
        self._check(data, self.format.offset + self.format.step * (width - 1) + last)
        strides = (self.stride, self.format.step, *steps)
        return np.ndarray((height, width, *parts), kind, data, self.format.offset, strides)

    def _check(self, data: Buffer, line: int) -> None:
        """Raises Damaged where ``data`` is too short, with ``line`` bytes in the last line."""
        width, height = self.size
        needed = self.stride * (height - 1) + line
        if len(data) < needed:
            raise Damaged(f"{len(data)} bytes came, {width}x{height} {self.format.name} has {needed}")

    def _unpacked(self, data: Buffer) -> Image:
        """Samples of 10 or 12 bits without gaps (MIPI CSI-2): the high bits of 4 or 2, then the low bits of these."""
        (width, height), bits = self.size, self.format.bits
        group = 8 // (bits - 8)
        line = -(-width // group) * (group + 1)
        self._check(data, self.format.line(width))
        filled = np.zeros((height, max(line, self.stride)), np.uint8)
        have = np.frombuffer(data, np.uint8, min(len(data), self.stride * height))
        rows = np.pad(have, (0, self.stride * height - len(have))).reshape(height, self.stride)
        filled[:, : self.stride] = rows
        groups = filled[:, :line].reshape(height, -1, group + 1).astype(np.uint16)
        shifts = np.arange(group, dtype=np.uint16) * (bits - 8)
        low = (groups[:, :, group:] >> shifts) & ((1 << (bits - 8)) - 1)
        samples = groups[:, :, :group] << (bits - 8) | low
        return np.ascontiguousarray(samples.reshape(height, -1)[:, :width] << (16 - bits), np.uint16)

    def _decode_video(self, context: VideoCodecContext, data: Buffer) -> Image:
        if not len(data):
            raise Damaged("an empty buffer holds no H.264 picture")  # and would end the decoder
        with told_as(Damaged, f"the H.264 picture does not decode: {WHY}", av.FFmpegError):
            frames = context.decode(av.Packet(bytes(data)))
        if not frames:
            raise Damaged("no H.264 picture yet: the stream has not come to a key frame")
        frame = frames[-1]
        if frame.is_corrupt:
            raise Damaged("damaged: part of the H.264 picture is made up by the decoder")
        if (frame.width, frame.height) != self.size:
            raise Damaged(
                f"the H.264 picture is {frame.width}x{frame.height}, not {self.size[0]}x{self.size[1]}"
            )
        return luma(frame, self._levels)


def _open_video(size: tuple[int, int]) -> VideoCodecContext:
    """FFmpeg's H.264 decoder for a stream without pictures that are sent ahead: none is held back."""
    context = VideoCodecContext.create("h264", "r")
    context.thread_count = 1
    context.flags |= av.codec.context.Flags.low_delay
    context.options = {"max_pixels": str(decoder_pixels(size)), "err_detect": "explode"}
    return context
