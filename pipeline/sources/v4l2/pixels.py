"""What the bytes in a camera's buffer mean: V4L2 pixel formats to gray images.

Sources: the V4L2 "Image Formats" chapter of the Linux media documentation; ITU-T T.81 for Motion-JPEG.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from clesr.engines.common.errors import UsageError
from clesr.engines.common.limits import decoder_pixels, most_pixels
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.images.header import BadHeader, jpeg_shape

S = TypeVar("S", np.uint8, np.uint16)
Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """A V4L2 pixel format that carries gray. ``name`` as the user writes it, ``fourcc`` as V4L2 does;
    ``bits`` are the gray bits of a sample, which lies ``step`` bytes after its left neighbour."""

    name: str
    fourcc: str
    bits: int
    step: int

    @property
    def code(self) -> int:
        return int.from_bytes(self.fourcc.encode(), "little")


# Best first: the most gray levels, then the fewest bytes a pixel, and compressed last.
FORMATS = (
    PixelFormat("Y16", "Y16 ", 16, 2),
    PixelFormat("Y12", "Y12 ", 12, 2),
    PixelFormat("Y10", "Y10 ", 10, 2),
    PixelFormat("GREY", "GREY", 8, 1),
    PixelFormat("NV12", "NV12", 8, 1),
    PixelFormat("YUYV", "YUYV", 8, 2),
    PixelFormat("MJPG", "MJPG", 8, 0),
)


def find_format(name: str) -> PixelFormat:
    """The format called ``name`` in any case, MJPEG for MJPG. Raises UsageError for one that clesr cannot read."""
    formats = {known.name: known for known in FORMATS}
    wanted = name.strip().upper().replace("MJPEG", "MJPG")
    if wanted not in formats:
        raise UsageError(
            f"pixel format {name!r} is not one that clesr reads; give one of {', '.join(formats)}"
        )
    return formats[wanted]


class Damaged(ValueError):
    """A buffer that holds no whole image; the message is the reason in one line."""


class BufferDecoder:
    """Gray images out of buffers of one format: ``size`` (width, height), ``stride`` bytes from line to line.

    Luma is taken as the camera gives it, without stretching limited-range YUV.
    """

    def __init__(self, pixel_format: PixelFormat, size: tuple[int, int], stride: int) -> None:
        self.format, self.size = pixel_format, size
        self.stride = max(stride, size[0] * pixel_format.step)
        self._jpeg = open_jpeg(size) if pixel_format.name == "MJPG" else None

    def decode(self, data: Buffer) -> Image:
        """(H, W) uint8, or uint16 with 10- and 12-bit samples shifted to the top; a copy of the caller's own.

        Raises Damaged where the buffer is too short, or no whole JPEG image of this size.
        """
        if self._jpeg is not None:
            return decode_jpeg(self._jpeg, data, self.size)
        if self.format.bits == 8:
            return self._samples(data, np.dtype(np.uint8)).copy()
        image = np.empty(self.size[::-1], np.uint16)
        np.left_shift(self._samples(data, np.dtype("<u2")), 16 - self.format.bits, out=image)
        return image

    def _samples(self, data: Buffer, kind: np.dtype[S]) -> NDArray[S]:
        width, height = self.size
        needed = self.stride * (height - 1) + self.format.step * (width - 1) + kind.itemsize
        if len(data) < needed:
            raise Damaged(f"{len(data)} bytes came, {width}x{height} {self.format.name} has {needed}")
        return np.ndarray((height, width), kind, data, strides=(self.stride, self.format.step))


def open_jpeg(size: tuple[int, int] | None = None) -> VideoCodecContext:
    """FFmpeg's Motion-JPEG decoder, told to refuse what it would otherwise paint over, and images larger than ``size``.

    It knows the Huffman tables that cameras leave out. One thread: more would hold frames back.
    """
    context = VideoCodecContext.create("mjpeg", "r")
    context.thread_count = 1
    pixels = decoder_pixels(size) if size else most_pixels(None)
    context.options = {"err_detect": "explode+bitstream+buffer", "max_pixels": str(pixels)}
    return context


def decode_jpeg(context: VideoCodecContext, data: Buffer, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The luma of one JPEG image, (H, W); ``size`` is (width, height). Raises Damaged."""
    jpeg = bytes(data).rstrip(b"\0")  # drivers fill up with zeros
    if not jpeg.startswith(b"\xff\xd8"):
        raise Damaged("not a JPEG image: it does not begin with FF D8")
    if not jpeg.endswith(b"\xff\xd9"):
        raise Damaged("the JPEG image is cut off: it does not end with FF D9")
    try:
        height, width = jpeg_shape(jpeg)
    except BadHeader as error:
        raise Damaged(f"the JPEG image {error}") from None
    if (width, height) != size:
        raise Damaged(f"the JPEG image is {width}x{height}, not {size[0]}x{size[1]}")
    try:
        frames = context.decode(av.Packet(jpeg))
    except av.FFmpegError as error:
        raise Damaged(f"the JPEG image does not decode: {error.strerror}") from error
    if not frames:
        raise Damaged("the JPEG image holds no picture")
    frame = frames[0]
    if (frame.width, frame.height) != size:
        raise Damaged(f"the JPEG image is {frame.width}x{frame.height}, not {size[0]}x{size[1]}")
    if not frame.format.name.startswith(("yuv", "gray")):
        return frame.to_ndarray(format="gray").astype(np.uint8, copy=False)
    plane = frame.planes[0]
    return np.ndarray((size[1], size[0]), np.uint8, memoryview(plane), strides=(plane.line_size, 1)).copy()
