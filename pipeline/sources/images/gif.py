"""The blocks of a GIF file (CompuServe, GIF89a), without its pixels."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

GIF_BEGINS = (b"GIF87a", b"GIF89a")
_HEAD = 13  # bytes of signature and canvas
_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B


class GifBlocks(NamedTuple):
    """``shape`` (H, W) is the canvas, or what the images reach to where one is larger; ``delays`` how long each whole
    image is shown, in hundredths of a second. ``end`` is behind the last of them; ``cut`` where the file's end is
    missing."""

    shape: tuple[int, int]
    delays: Sequence[int]
    end: int
    cut: bool


def read_gif(data: bytes) -> GifBlocks:
    """The blocks in ``data``, up to where it is cut. Raises struct.error and IndexError where it has no header."""
    width, height, packed = struct.unpack_from("<HHB", data, 6)
    at = end = _HEAD + _table(packed)
    delays: list[int] = []
    delay, cut = 0, False
    try:
        while (kind := data[at]) != _END:
            if kind == _EXTENSION:
                if data[at + 1 : at + 3] == b"\xf9\x04":
                    (delay,) = struct.unpack_from("<H", data, at + 4)
                at = _behind(data, at + 2)
            elif kind == _IMAGE:
                left, top, wide, high, packed = struct.unpack_from("<4HB", data, at + 1)
                at = end = _behind(data, at + 11 + _table(packed))
                width, height = max(width, left + wide), max(height, top + high)
                delays.append(delay)
                delay = 0
            else:
                at += 1  # some writers fill up between blocks
    except (struct.error, IndexError):
        cut = True
    return GifBlocks((height, width), delays, end, cut)


def _table(packed: int) -> int:
    """Bytes of the palette that follows."""
    return 3 << 1 + (packed & 7) if packed & 0x80 else 0


def _behind(data: bytes, at: int) -> int:
    """Where the row of pieces that begins at ``at`` ends. Raises IndexError where it does not."""
    while size := data[at]:
        at += 1 + size
    return at + 1
