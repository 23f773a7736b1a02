"""The parts of image files: chunks of PNG (ISO/IEC 15948) and WebP (RFC 9649), segments of JPEG (ITU-T T.81)."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator

PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
JPEG_BEGINS = b"\xff\xd8"
JPEG_END, _JPEG_SCAN = 0xD9, 0xDA  # markers
_JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # in a coded picture: neither stuffing nor a restart


class BadHeader(Exception):
    """No header of these formats; the message is one line."""


def png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each chunk, to the last. Raises BadHeader where one is longer than the file, or its checksum
    does not hold."""
    at, view = len(PNG_BEGINS), memoryview(data)
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise BadHeader("is damaged: a checksum in it does not match")
        yield kind, view[at + 8 : end]
        if kind == b"IEND":
            return
        at = end + 4


def png_file(chunks: Iterable[tuple[bytes, bytes | memoryview]]) -> bytes:
    """A PNG file of ``chunks``."""
    parts: list[bytes | memoryview] = [PNG_BEGINS]
    for kind, body in chunks:
        checksum = zlib.crc32(body, zlib.crc32(kind))
        parts += [struct.pack(">I4s", len(body), kind), body, struct.pack(">I", checksum)]
    return b"".join(parts)


def png_end(data: bytes) -> int | None:
    """Where a PNG image ends, None where its end is missing. Checks no checksum."""
    at = len(PNG_BEGINS)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if kind == b"IEND" and at <= len(data):
            return int(at)
    return len(data) if b"IEND" in data[-64:] else None  # a wrong length on the way is no missing end


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each chunk of a WebP file; the last may be cut."""
    at, view = 12, memoryview(data)
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        yield kind, view[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def jpeg_segments(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """Marker and content of each segment of a JPEG image in front of its coded picture, and of that segment which
    begins it; less where the data are damaged."""
    at, view = 2, memoryview(data)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0:
            return  # no marker: decoders look for the next one, wherever that is
        if marker == 0xFF or marker in _JPEG_ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, view[at + 4 : at + 2 + length]
        if marker == _JPEG_SCAN:
            return
        at += 2 + length


def jpeg_parts(data: bytes, at: int = 2) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of the content of each segment from ``at`` on to the end marker, with the coded data behind
    the beginning of a scan; what lies between them is passed over."""
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        if marker in (0x00, 0xFF):
            at += 1
        elif marker in _JPEG_ALONE:
            at += 2
        elif marker == JPEG_END:
            yield marker, at, at + 2
            return
        else:
            end = at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
            if marker == _JPEG_SCAN:
                following = _NEXT_MARKER.search(data, end)
                end = following.start() if following else len(data)
            yield marker, at + 4, end
            at = end


def jpeg_end(data: bytes) -> int | None:
    """Where the first JPEG image in ``data`` ends, behind its end marker; None where that is missing."""
    return next((end for marker, _, end in jpeg_parts(data) if marker == JPEG_END), None)


def image_end(data: bytes) -> int | None:
    """Where the PNG or JPEG image in ``data`` ends, whatever follows; None where its end is missing. The length of
    anything else."""
    if data.startswith(PNG_BEGINS):
        return png_end(data)
    return jpeg_end(data) if data.startswith(JPEG_BEGINS) else len(data)
