"""What JPEG and MPEG leave of an image: encoded and decoded in memory."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from clesr.engines.common.image import Pixels

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

MACROBLOCK = 16
RATE = 50_000_000  # bit/s: never what limits the quality


def jpeg(image: Pixels, quality: int) -> Pixels:
    """``image`` (H, W) uint8 after JPEG at ``quality`` 1 to 100."""
    _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)


def mpeg(image: Pixels, quantiser: int) -> Pixels:
    """``image`` (H, W) uint8 as an MPEG-2 intra frame leaves it; ``quantiser`` 1 (fine) to 31 (coarse)."""
    import av

    height, width = image.shape
    padded = np.pad(image, ((0, -height % MACROBLOCK), (0, -width % MACROBLOCK)), mode="edge")
    planes = np.full((padded.shape[0] * 3 // 2, padded.shape[1]), 128, np.uint8)
    planes[: padded.shape[0]] = padded
    frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
    frame.pts = 0
    encoder = _context("w")
    encoder.width, encoder.height, encoder.pix_fmt = padded.shape[1], padded.shape[0], "yuv420p"
    encoder.framerate, encoder.time_base, encoder.bit_rate = Fraction(25), Fraction(1, 25), RATE
    encoder.options = {"qmin": str(quantiser), "qmax": str(quantiser)}
    decoder = _context("r")
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    (decoded,) = [found for packet in [*packets, None] for found in decoder.decode(packet)]
    return np.asarray(decoded.to_ndarray()[:height, :width], np.uint8)


def _context(mode: Literal["r", "w"]) -> VideoCodecContext:
    from av.codec.context import CodecContext

    context = CodecContext.create("mpeg2video", mode)
    context.thread_count = 1
    return context
