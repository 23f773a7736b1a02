"""What the samples of a compressed colour frame are: its photometric interpretation (PS3.3, C.7.6.3.1.2) and what its
stream says itself."""

from __future__ import annotations

import struct
from typing import NamedTuple

from clesr.pipeline.sources.images.chunks import jpeg_segments

_JFIF, _ADOBE = 0xE0, 0xEE
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_LOSSLESS = {0xC3, 0xC7, 0xCB, 0xCF}
_J2K_BEGINS, _J2K_CODING, _J2K_TILE = b"\xff\x4f\xff\x51", 0xFF52, 0xFF90


class JpegColour(NamedTuple):
    """``samples`` of a JPEG frame; ``luma_first`` where they are Y, Cb and Cr."""

    samples: int
    luma_first: bool


def jpeg_colour(data: bytes, kind: str) -> JpegColour:
    """Of the JPEG image ``data``: what its markers of JFIF and Adobe say, else the photometric interpretation ``kind``,
    which also says it of lossless ones, whose encoders leave colour as it is."""
    samples, luma_first = 1, kind.startswith("YBR")
    for marker, body in jpeg_segments(data):
        if marker == _JFIF and bytes(body[:5]) == b"JFIF\0":
            luma_first = True
        elif marker == _ADOBE and bytes(body[:5]) == b"Adobe" and len(body) >= 12:
            luma_first = body[11] != 0
        elif marker in _JPEG_FRAMES and len(body) >= 6:
            samples = body[5]
            if marker in _JPEG_LOSSLESS:
                return JpegColour(samples, kind.startswith("YBR"))
    return JpegColour(samples, luma_first)


def jpeg2000_luma_first(data: bytes, kind: str) -> bool:
    """Whether the JPEG 2000 image ``data`` is Y, Cb and Cr when it is decoded: what the codec transformed itself comes
    out as RGB."""
    if not kind.startswith("YBR_FULL"):
        return False
    at = data.find(_J2K_BEGINS) + 2
    while at >= 2 and at + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _J2K_CODING and at + 9 <= len(data):
            return data[at + 8] == 0
        if marker == _J2K_TILE or length < 2:
            break
        at += 2 + length
    return True
