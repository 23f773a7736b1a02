"""What FFmpeg must not be given to open: lists of other files, and MP4 files that state samples which they have not."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_LIST = b"ffconcat version"  # which names other files, of any kind and anywhere
_CONTAINERS = (  # boxes that FFmpeg looks into; it takes the last two for "moov" where that is broken
    b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex", b"edts", b"dinf", b"udta", b"wave",
    b"free", b"hoov",
)  # fmt: skip
_DEEPEST = 12
_MOST_BOXES = 1_000_000
_BESIDE = 1 << 16  # samples without bytes
_PACKED = 6  # samples in a byte of old compressed sound


def header_problem(path: Path) -> str | None:
    """Why the regular file ``path`` must not be opened as a video, in words behind its name; None where it may be.
    Raises OSError."""
    size = os.path.getsize(path)
    with path.open("rb") as file:
        if file.read(16) == _LIST:
            return "is a list of files and no video; give the files themselves"
        return _mp4_problem(file, size)  # whatever it begins with: FFmpeg passes over unknown boxes


def _mp4_problem(file: BinaryIO, size: int) -> str | None:
    """FFmpeg takes some 24 bytes for each sample that a table states, and a table may state them with one number."""
    samples = {b"stsz": 0, b"stts": 0, b"ctts": 0, b"trun": 0}
    for kind, at, end in _boxes(file, 0, size, 0):
        if kind == b"cmov":
            return "has a compressed index, which is not read; write it anew with ffmpeg -c copy"
        if kind in samples:
            samples[kind] += _stated(file, kind, at, end)
        if max(samples.values()) > _PACKED * size + _BESIDE:
            return f"states {max(samples.values())} images or sounds, more than its {size} bytes can hold"
    return None


def _stated(file: BinaryIO, kind: bytes, at: int, end: int) -> int:
    """How many samples the table at ``at`` states, beyond one for each entry that it has."""
    file.seek(at + 4)
    first, second = (int.from_bytes(file.read(4), "big") for _ in range(2))
    if kind == b"trun":
        return first
    if kind == b"stsz":
        return second if first else 0
    file.seek(at + 8)
    entries = min(first, max(0, end - at - 8) // 8)
    table = file.read(entries * 8)
    return sum(count for count, _ in struct.iter_unpack(">II", table[: len(table) // 8 * 8]))


def _boxes(file: BinaryIO, at: int, end: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the content of each box, and of those in it."""
    for _ in range(_MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        if at + 8 > end or len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head[:8])
        begin = at + 8
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
            begin += 8
        after = min(end, at + length) if length else end
        yield kind, begin, after
        if kind in _CONTAINERS and depth < _DEEPEST:
            yield from _boxes(file, begin, after, depth + 1)
        if after <= at + 7:
            return
        at = after
