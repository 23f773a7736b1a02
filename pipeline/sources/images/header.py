"""Size and form of an image file, read from its header alone.

Formats: PNG (ISO/IEC 15948), JPEG (ITU-T T.81), BMP, PNM (netpbm), WebP (RFC 9649), JPEG 2000 (ITU-T T.800), GIF.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from clesr.engines.common.errors import told_as
from clesr.pipeline.sources.images.chunks import (
    JPEG_BEGINS,
    PNG_BEGINS,
    BadHeader,
    jpeg_segments,
    png_chunks,
    png_file,
    webp_chunks,
)
from clesr.pipeline.sources.images.gif import GIF_BEGINS, read_gif

_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # those that begin a frame, of JPEG-LS too
_PNG_SAMPLES = {0: 1, 2: 3, 3: 4, 4: 2, 6: 4}  # by colour type; what a palette becomes may have alpha
_PNG_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # chunks that the pixels come from
_PNM = re.compile(rb"P([1-6])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?!\d)")
_PNM_SEARCHED = 4096
_UNREADABLE = "is damaged or not an image: its header cannot be read"
_SCANS = 16  # of a JPEG, always allowed: progressive ones have about ten
_SCANNED_PIXELS = 1 << 30  # pixels times scans of a JPEG
_SIZED_BY = struct.error, IndexError, ValueError  # what reading behind the end, or no number, raises


class ImageHeader(NamedTuple):
    """``shape`` is (H, W), ``memory`` what decoding takes, in bytes."""

    shape: tuple[int, int]
    memory: int


def read_header(data: bytes) -> ImageHeader:
    """The header of the image in ``data``. Raises BadHeader."""
    for begins, read in _READERS:
        if data.startswith(begins):
            with told_as(BadHeader, _UNREADABLE, _SIZED_BY):
                return read(data)
    raise BadHeader("is not an image of a kind that is read here (PNG, JPEG, BMP, PNM, WebP, JPEG 2000, GIF)")


def picture_alone(data: bytes) -> bytes:
    """The image in ``data``, which ``read_header`` took, without what is no picture where a decoder would unpack that:
    the texts and profiles of a PNG."""
    if not data.startswith(PNG_BEGINS):
        return data
    return png_file((kind, body) for kind, body in png_chunks(data) if kind in _PNG_PICTURE)


def jpeg_shape(data: bytes) -> tuple[int, int]:
    """(H, W) of the largest frame of a JPEG image. Raises BadHeader."""
    segments = jpeg_segments(data)
    shapes = [
        struct.unpack_from(">HH", body, 1)
        for marker, body in segments
        if marker in _JPEG_FRAMES and len(body) >= 5
    ]
    if not shapes:
        raise BadHeader("is damaged: it states no size")
    height, width = max(shapes, key=lambda shape: shape[0] * shape[1])
    return height, width


def _png(data: bytes) -> ImageHeader:
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    if data[12:16] != b"IHDR" or colour not in _PNG_SAMPLES or bits not in (1, 2, 4, 8, 16):
        raise BadHeader(_UNREADABLE)
    for _ in png_chunks(data):
        pass
    return ImageHeader((height, width), height * width * _PNG_SAMPLES[colour] * (2 if bits == 16 else 1))


def _jpeg(data: bytes) -> ImageHeader:
    height, width = jpeg_shape(data)
    scans = data.count(b"\xff\xda")
    if scans > max(_SCANS, _SCANNED_PIXELS // max(1, height * width)):
        raise BadHeader(f"has {scans} scans of {width}x{height} pixels, which no camera writes")
    coefficients = 6 if scans > 1 else 0  # a progressive image is kept whole, in 16 bit a sample
    return ImageHeader((height, width), height * width * (3 + coefficients))


def _bmp(data: bytes) -> ImageHeader:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        width, height, bits = (*struct.unpack_from("<HH", data, 18), 24)
    else:
        width, height, bits = struct.unpack_from("<ii2xH", data, 18)
    height = abs(height)
    return ImageHeader((height, width), height * max(0, width) * (4 if bits == 32 else 3))


def _pnm(data: bytes) -> ImageHeader:
    found = _PNM.match(data[:_PNM_SEARCHED])
    if found is None:
        raise BadHeader(_UNREADABLE)
    kind, width, height = (int(part) for part in found.groups())
    return ImageHeader((height, width), height * width * (6 if kind in (3, 6) else 2))


def _webp(data: bytes) -> ImageHeader:
    """The larger of the canvas and the picture in it: the first of each."""
    shapes: list[tuple[int, int]] = []
    for kind, body in webp_chunks(data):
        if kind == b"VP8X":
            shapes.append((1 + int.from_bytes(body[7:10], "little"), 1 + int.from_bytes(body[4:7], "little")))
        elif kind == b"VP8L":
            (packed,) = struct.unpack_from("<I", body, 1)
            shapes.append((1 + (packed >> 14 & 0x3FFF), 1 + (packed & 0x3FFF)))
        elif kind == b"VP8 ":
            width, height = struct.unpack_from("<HH", body, 6)
            shapes.append((height & 0x3FFF, width & 0x3FFF))
        if len(shapes) == 2 or kind == b"ANMF":
            break
    height, width = max(shapes, key=lambda shape: shape[0] * shape[1])
    return ImageHeader((height, width), height * width * 6)


def _gif(data: bytes) -> ImageHeader:
    height, width = read_gif(data).shape
    return ImageHeader((height, width), height * width * 4)


def _jpeg2000(data: bytes) -> ImageHeader:
    at = _codestream(data)
    if data[at : at + 4] != b"\xff\x4f\xff\x51":  # its begin, and its size behind that
        raise BadHeader("is damaged: it states no size")
    x1, y1, x0, y0, tile_x, tile_y, samples = struct.unpack_from(">6I8xH", data, at + 8)
    width, height = x1 - x0, y1 - y0
    if not (tile_x and tile_y) or -(-x1 // tile_x) * -(-y1 // tile_y) > 65_535:
        raise BadHeader("is damaged: its tiles are too many")
    return ImageHeader((height, width), max(0, height) * max(0, width) * samples * 6)


def jpeg2000_bits(data: bytes) -> int:
    """Of each number of the first sample. Raises BadHeader."""
    with told_as(BadHeader, _UNREADABLE, _SIZED_BY):
        return (data[_codestream(data) + 42] & 0x7F) + 1


def _codestream(data: bytes) -> int:
    """Where the codestream of a JPEG 2000 file begins: in its box, since others may hold anything."""
    if data.startswith(b"\xff"):
        return 0
    at = 0
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 16 if length == 1 else 8
        if kind == b"jp2c":
            return at + head
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
        if length < head:
            raise BadHeader(_UNREADABLE)
        at += length


JPEG2000_BEGINS = (b"\x00\x00\x00\x0cjP", b"\xff\x4f\xff\x51")
_READERS = (
    (PNG_BEGINS, _png),
    (JPEG_BEGINS, _jpeg),
    (b"BM", _bmp),
    (b"P", _pnm),
    (b"RIFF", _webp),
    *((begins, _gif) for begins in GIF_BEGINS),
    *((begins, _jpeg2000) for begins in JPEG2000_BEGINS),
)
