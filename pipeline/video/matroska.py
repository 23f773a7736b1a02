"""Matroska files as more players read them: FFV1 under the name that all know, and pixels that are not square.

FFmpeg's writer calls FFV1 ``V_FFV1``, which mpv before 0.36 does not know, and PyAV cannot tell it the form of
pixels. So the description of the track is written anew, in the place that the writer left for it: ``ROOM`` goes in as
the track's name. Names of elements are those of RFC 9559.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

from clesr.engines.common.files import WholeFile

ROOM = "room for what players should know about this track " + "." * 50
_TRACKS, _ENTRY, _VIDEO = b"\x16\x54\xae\x6b", b"\xae", b"\xe0"
_CRC, _NAME, _VOID = b"\xbf", b"\x53\x6e", b"\xec"
_CODEC, _PRIVATE = b"\x86", b"\x63\xa2"
_WIDTH, _HEIGHT = b"\xb0", b"\xba"
_SHOWN_WIDTH, _SHOWN_HEIGHT = b"\x54\xb0", b"\x54\xba"
_SHOWN = (_SHOWN_WIDTH, _SHOWN_HEIGHT, b"\x54\xb2")  # the last is their unit, pixels where it is not there
_FFV1, _FOURCC = b"V_FFV1", b"V_MS/VFW/FOURCC"
_MOST_SHOWN = 65535


class MatroskaOutput(WholeFile):
    """The new file ``path`` as PyAV writes it."""

    def __init__(self, path: Path, pixel_aspect: Fraction = Fraction(1)) -> None:
        super().__init__(str(path), "w")
        self._aspect = pixel_aspect

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        return super().write(described(data, self._aspect))


def leave_room(stream: av.VideoStream) -> None:
    """Before its first image: make the writer leave room in the description of ``stream``."""
    stream.metadata["title"] = ROOM


def described(data: bytes | memoryview, pixel_aspect: Fraction) -> bytes | memoryview:
    """``data``, which is written to a Matroska file, with the description of a track with ``ROOM`` in it written anew;
    as long as before. ``pixel_aspect`` is the width of a pixel over its height."""
    whole = bytes(data) if len(data) > len(ROOM) else b""
    room = whole.find(ROOM.encode())
    at = whole.rfind(_TRACKS, 0, room) if room >= 0 else -1
    if at < 0:
        return data
    try:
        return _rewritten(whole, at + len(_TRACKS), pixel_aspect)
    except (LookupError, ValueError):  # no description, but bytes that look like one
        return data


def _rewritten(whole: bytes, at: int, pixel_aspect: Fraction) -> bytes:
    """``whole`` with the tracks written anew whose size stands at ``at``."""
    begin, end = _content(whole, at)
    children = dict(_children(whole[begin:end]))
    head = end - len(children[_ENTRY])  # the one entry is what comes last
    crc = len(_element(_CRC, bytes(4))) if _CRC in children else 0
    body = whole[begin + crc : head] + _entry(children[_ENTRY], pixel_aspect)
    summed = _element(_CRC, struct.pack("<I", zlib.crc32(body))) if crc else b""
    return whole[:begin] + summed + body + whole[end:]


def _entry(content: bytes, pixel_aspect: Fraction) -> bytes:
    """The content of a track entry in as many bytes."""
    children = list(_children(content))
    facts = dict(children)
    width, height = (
        int.from_bytes(dict(_children(facts[_VIDEO]))[side], "big") for side in (_WIDTH, _HEIGHT)
    )
    made = b""
    for name, value in children:
        if name in (_NAME, _VOID):
            continue
        if name == _VIDEO and pixel_aspect != 1:
            value = b"".join(_element(*one) for one in _children(value) if one[0] not in _SHOWN)
            value += _shown(width, height, pixel_aspect)
        elif facts.get(_CODEC) == _FFV1 and name == _CODEC:
            value = _FOURCC
        elif facts.get(_CODEC) == _FFV1 and name == _PRIVATE:
            value = _bitmap_header(width, height, len(value)) + value
        made += _element(name, value)
    left = len(content) - len(made)
    if left < 2:
        raise ValueError("the room was not left by this module")
    return made + _void(left)


def _shown(width: int, height: int, pixel_aspect: Fraction) -> bytes:
    """The size in which the image is shown: in its proportions to the bit, where numbers allow it."""
    whole = Fraction(width, height) * pixel_aspect
    across, down = whole * height, Fraction(height)
    if across.denominator > 1:
        across, down = Fraction(whole.numerator), Fraction(whole.denominator)
    if max(across, down) > _MOST_SHOWN and pixel_aspect > 1:
        across, down = width * pixel_aspect, Fraction(height)
    elif max(across, down) > _MOST_SHOWN:
        across, down = Fraction(width), height / pixel_aspect
    return b"".join(
        _element(name, max(1, min(round(side), _MOST_SHOWN)).to_bytes(2, "big"))
        for name, side in ((_SHOWN_WIDTH, across), (_SHOWN_HEIGHT, down))
    )


def _bitmap_header(width: int, height: int, extra: int) -> bytes:
    """BITMAPINFOHEADER of Windows for FFV1, with ``extra`` bytes of the codec's own behind it."""
    return struct.pack(
        "<IiiHH4sIiiII", 40 + extra, width, height, 1, 24, b"FFV1", width * height * 3, 0, 0, 0, 0
    )


def _void(size: int) -> bytes:
    """An empty element of ``size`` bytes, header and all."""
    if size < 2 + 126:
        return _VOID + bytes([0x80 | size - 2]) + bytes(size - 2)
    return _VOID + (1 << 14 | size - 3).to_bytes(2, "big") + bytes(size - 3)


def _element(name: bytes, value: bytes) -> bytes:
    size = len(value)
    length = bytes([0x80 | size]) if size < 127 else (1 << 14 | size).to_bytes(2, "big")
    if size >= (1 << 14) - 1:
        length = (1 << 28 | size).to_bytes(4, "big")
    return name + length + value


def _children(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of the elements in ``content``."""
    at = 0
    while at < len(content):
        name = content[at : at + _length(content[at])]
        begin, end = _content(content, at + len(name))
        yield name, content[begin:end]
        at = end


def _content(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of an element begins and ends, whose size stands at ``at``."""
    length = _length(data[at])
    size = int.from_bytes(data[at : at + length], "big") & (1 << 7 * length) - 1
    return at + length, at + length + size


def _length(first: int) -> int:
    """Bytes of a number of variable length that begins with ``first``."""
    return 9 - first.bit_length()
