"""The size that an image file inside of another states: the strips and tiles of a TIFF.

JPEG XR (ITU-T T.832, annex A), JPEG XL (ISO/IEC 18181-1, 18181-2), LERC (Esri), and what ``header.py`` knows.
"""

from __future__ import annotations

import math
import struct

from clesr.pipeline.sources.images.chunks import BadHeader
from clesr.pipeline.sources.images.header import jpeg_shape, read_header
from clesr.pipeline.sources.images.unreadable import UnreadableImage

_XR_WIDTH, _XR_HEIGHT = 0xBC80, 0xBC81
_XL_BOX = b"\0\0\0\x0cJXL \r\n\x87\n"
_XL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def stated_shape(data: bytes) -> tuple[int, int]:
    """(H, W) of the image file ``data``. Raises UnreadableImage where it is none that is known."""
    try:
        if data.startswith(b"II\xbc"):
            return _jpeg_xr(data)
        if data.startswith((b"\xff\x0a", _XL_BOX)):
            return _jpeg_xl(data)
        if data.startswith((b"Lerc2 ", b"CntZImage ")):
            return _lerc(data)
        if data.startswith(b"\xff\xd8"):
            return jpeg_shape(data)
        header = read_header(data)
        if header.memory > 64 * math.prod(header.shape):
            raise ValueError  # hundreds of samples a pixel
        return header.shape
    except (BadHeader, struct.error, IndexError, ValueError) as error:
        raise UnreadableImage("a part of it is damaged: it states no size") from error


def _jpeg_xr(data: bytes) -> tuple[int, int]:
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    found = {}
    for entry in range(count):
        tag, kind, _, value = struct.unpack_from("<HHII", data, at + 2 + 12 * entry)
        found[tag] = value & 0xFF if kind == 1 else value & 0xFFFF if kind == 3 else value
    if _XR_WIDTH not in found or _XR_HEIGHT not in found:
        raise ValueError
    return found[_XR_HEIGHT], found[_XR_WIDTH]


def _jpeg_xl(data: bytes) -> tuple[int, int]:
    at = 0
    if data.startswith(_XL_BOX):
        at = data.index(b"jxl", len(_XL_BOX))
        at = data.index(b"\xff\x0a", at)
    bits = int.from_bytes(data[at + 2 : at + 18], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    def side(small: int) -> int:
        return 8 * (take(5) + 1) if small else 1 + take((9, 13, 18, 30)[take(2)])

    small = take(1)
    height = side(small)
    ratio = take(3)
    if ratio:
        across, down = _XL_RATIOS[ratio - 1]
        return height, height * across // down
    return height, side(small)


def _lerc(data: bytes) -> tuple[int, int]:
    if data.startswith(b"CntZImage "):
        height, width = struct.unpack_from("<ii", data, 18)
        return height, width
    (version,) = struct.unpack_from("<i", data, 6)
    at = 14 if version >= 3 else 10
    height, width = struct.unpack_from("<ii", data, at)
    (samples,) = struct.unpack_from("<i", data, at + 8) if version >= 4 else (1,)
    return height, width * max(1, samples)
