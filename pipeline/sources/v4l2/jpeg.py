"""Motion-JPEG as cameras send it: without tables, with bytes behind its end, in two fields (ITU-T T.81)."""

from __future__ import annotations

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from clesr.engines.common.errors import WHY, told_as
from clesr.engines.common.limits import decoder_pixels, most_pixels
from clesr.pipeline.sources.images.chunks import JPEG_END, BadHeader, jpeg_parts
from clesr.pipeline.sources.images.header import jpeg_shape

Buffer = bytes | bytearray | memoryview
_APP0 = 0xE0
_BEHIND = 64  # bytes
_LEAD = 16  # bytes in front of an image that are passed over


class Damaged(ValueError):
    """A buffer that holds no whole image; the message is the reason in one line."""


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
    """The luma of one JPEG image, (H, W), or of one in two fields; ``size`` is (width, height). What lies behind its
    end is nobody's. Raises Damaged."""
    jpeg = bytes(data)
    begin = jpeg.find(b"\xff\xd8", 0, _LEAD)
    if begin < 0 or jpeg[:begin].strip(b"\0"):
        raise Damaged("not a JPEG image: it does not begin with FF D8")
    end, upper = _walk(jpeg, begin)
    shape = _shape(jpeg[begin:end])
    if upper is not None and shape == (-(-size[1] // 2), size[0]) and shape[0] != size[1]:
        return _woven(context, jpeg, begin, end, size, upper=upper)
    return _decode(context, jpeg[begin:end], size)


def _woven(
    context: VideoCodecContext, jpeg: bytes, begin: int, end: int, size: tuple[int, int], *, upper: bool
) -> NDArray[np.uint8]:
    """Two fields, the ``upper`` or the lower lines first."""
    width, height = size
    image = np.empty((height, width), np.uint8)
    for first_line in (0, 1) if upper else (1, 0):
        begin = jpeg.find(b"\xff\xd8", begin)
        if begin < 0:
            raise Damaged("the JPEG image has one of its two fields")
        end, _ = _walk(jpeg, begin)
        lines = image[first_line::2]
        lines[:] = _decode(context, jpeg[begin:end], (width, lines.shape[0]))
        begin = end
    return image


def _walk(jpeg: bytes, begin: int) -> tuple[int, bool | None]:
    """Where the image that begins at ``begin`` ends, or the data; and whether it is the upper field of two, None where
    it does not say that it is one (AVI1)."""
    upper: bool | None = None
    for marker, at, end in jpeg_parts(jpeg, begin + 2):
        if marker == JPEG_END:
            return end, upper
        if marker == _APP0 and jpeg[at : at + 4] == b"AVI1":
            upper = {b"\1": True, b"\2": False}.get(jpeg[at + 4 : at + 5])
    return len(jpeg), upper


def _shape(jpeg: bytes) -> tuple[int, int]:
    with told_as(Damaged, f"the JPEG image {WHY}", BadHeader):
        return jpeg_shape(jpeg)


def _decode(context: VideoCodecContext, jpeg: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = _shape(jpeg)
    if (width, height) != size:
        raise Damaged(f"the JPEG image is {width}x{height}, not {size[0]}x{size[1]}")
    if jpeg.endswith(b"\xff\xd9"):
        return _luma(context, jpeg, size)
    # Without an end nothing tells whether all is there. Where it is, it does not matter what comes behind.
    with told_as(Damaged, f"the JPEG image is cut off: {WHY}", Damaged):
        one, other = (
            _luma(context, jpeg + behind * _BEHIND + b"\xff\xd9", size) for behind in (b"\0", b"\xaa")
        )
    if not np.array_equal(one, other):
        raise Damaged("the JPEG image is cut off")
    return one


def _luma(context: VideoCodecContext, jpeg: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    with told_as(Damaged, f"the JPEG image does not decode: {WHY}", av.FFmpegError):
        frames = context.decode(av.Packet(jpeg))
    if not frames:
        raise Damaged("the JPEG image holds no picture")
    frame = frames[0]
    if (frame.width, frame.height) != size:
        raise Damaged(f"the JPEG image is {frame.width}x{frame.height}, not {size[0]}x{size[1]}")
    if not frame.format.name.startswith(("yuv", "gray")):
        return frame.to_ndarray(format="gray").astype(np.uint8, copy=False)
    plane = frame.planes[0]
    return np.ndarray((size[1], size[0]), np.uint8, memoryview(plane), strides=(plane.line_size, 1)).copy()
