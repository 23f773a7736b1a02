"""How a camera was held: the orientation that Exif in a JPEG, PNG or WebP image states (Exif 2.32, 4.6.4)."""

from __future__ import annotations

import struct

from clesr.pipeline.sources.images.chunks import jpeg_segments, png_chunks, webp_chunks

_ORIENTATION = 0x0112
_SHORT = 3


def stated_orientation(data: bytes) -> int:
    """1 to 8, as in TIFF; 1 where nothing is stated that can be used."""
    try:
        block = _exif(data)
        return _of_exif(block) if block else 1
    except (struct.error, IndexError, ValueError):
        return 1


def _exif(data: bytes) -> bytes:
    if data.startswith(b"\xff\xd8"):
        for marker, body in jpeg_segments(data):
            if marker == 0xE1 and bytes(body[:6]) == b"Exif\0\0":
                return bytes(body[6:])
    elif data.startswith(b"\x89PNG"):
        for kind, body in png_chunks(data):
            if kind == b"eXIf":
                return bytes(body)
    elif data.startswith(b"RIFF"):
        for kind, body in webp_chunks(data):
            if kind == b"EXIF":
                return bytes(body).removeprefix(b"Exif\0\0")
    return b""


def _of_exif(block: bytes) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    (at,) = struct.unpack_from(f"{order}I", block, 4)
    (count,) = struct.unpack_from(f"{order}H", block, at)
    for entry in range(count):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", block, at + 2 + 12 * entry)
        if tag == _ORIENTATION:
            return value if kind == _SHORT and 1 <= value <= 8 else 1
    return 1
