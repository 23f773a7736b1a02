"""Animated PNG, WebP and GIF: every image, at its own time, composed as a browser shows it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow

from clesr.engines.common.errors import WHY, told_as
from clesr.engines.common.limits import size_problem
from clesr.engines.common.parsing import open_regular
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.images.chunks import PNG_BEGINS, BadHeader, png_chunks, png_file, webp_chunks
from clesr.pipeline.sources.images.gif import GIF_BEGINS, read_gif
from clesr.pipeline.sources.images.gray import gray, turned
from clesr.pipeline.sources.images.header import read_header
from clesr.pipeline.sources.images.orientation import stated_orientation
from clesr.pipeline.sources.images.times import FrameTimes
from clesr.pipeline.sources.images.unreadable import UnreadableImage

_LOOKED_AT = 1 << 16  # bytes in front of the first picture of a PNG
_NO_TIME = Fraction(1, 10)  # seconds that browsers show an image that states none
_KEPT = 16  # bytes a pixel of the canvas: the image, the one before, and what is composed
_AT_ONCE = 1 << 20  # bytes that are unpacked
_COUNTED = {"L", "I;16", "I;16B", "I;16L", "RGB", "RGBA"}


class AnimationParts(NamedTuple):
    """How long each whole image is shown, in seconds; ``hidden`` where a still stands in front that is no part of them.
    ``whole`` is the file up to the last of them, ``missing`` why there are no more, empty where they are all."""

    seconds: Sequence[Fraction]
    hidden: bool
    whole: bytes
    missing: str = ""


def is_animation(path: Path) -> bool:
    """Whether ``path`` is a PNG, WebP or GIF file of several images. Raises OSError, ValueError for what is no file."""
    with open_regular(path) as file:
        data = file.read(_LOOKED_AT)
        if data.startswith(GIF_BEGINS):
            data += file.read()
    if data.startswith(PNG_BEGINS):
        animated, picture = data.find(b"acTL"), data.find(b"IDAT")
        return 0 < animated < picture or (animated > 0 and picture < 0)
    if data.startswith(GIF_BEGINS):
        with suppress(struct.error, IndexError):  # opening it will say why
            return len(read_gif(data).delays) > 1
    return data[8:16] == b"WEBPVP8X" and len(data) > 20 and bool(data[20] & 2)


def read_parts(data: bytes) -> AnimationParts:
    """The images in ``data`` up to where it is cut or damaged, by what is there and not by what is stated. Raises
    UnreadableImage where a chunk is too short for what it is."""
    words = "is damaged: what it says of its images cannot be read"
    with told_as(UnreadableImage, words, (struct.error, IndexError)):
        if data.startswith(PNG_BEGINS):
            return _png_parts(data)
        return _gif_parts(data) if data.startswith(GIF_BEGINS) else _webp_parts(data)


def _png_parts(data: bytes) -> AnimationParts:
    seconds: list[Fraction] = []
    chunks: list[tuple[bytes, bytes | memoryview]] = []
    pictured = hidden = False
    began = 0  # chunks in front of the image that is read
    missing = "the file ends early"
    try:
        for kind, body in png_chunks(data):
            if kind == b"fcTL":
                if not seconds:
                    hidden = pictured
                count, per_second = struct.unpack_from(">HH", body, 20)
                seconds.append(Fraction(count, per_second or 100) or _NO_TIME)
                began = len(chunks)
            pictured = pictured or kind == b"IDAT"
            chunks.append((kind, body))
        if chunks and chunks[-1][0] == b"IEND":
            return AnimationParts(seconds, hidden, data)
    except BadHeader:
        missing = "a checksum in the file does not match"
    except struct.error:
        pass  # a length or checksum that is not there
    stated = [int.from_bytes(body[:4], "big") for kind, body in chunks if kind == b"acTL"]
    if seconds and _unpacked(chunks[began + 1 :]):
        count, began = len(seconds), len(chunks)
    else:
        count = max(0, len(seconds) - 1)
    kept = [
        (kind, count.to_bytes(4, "big") + body[4:]) if kind == b"acTL" else (kind, body)
        for kind, body in chunks[:began]
    ]
    missing += f": {count} of the {max(stated, default=0)} images that it states can be read"
    return AnimationParts(seconds[:count], hidden, png_file([*kept, (b"IEND", b"")]), missing)


def _unpacked(chunks: Sequence[tuple[bytes, bytes | memoryview]]) -> bool:
    """Whether the picture in ``chunks`` is there to its end."""
    unpacker = zlib.decompressobj()
    with suppress(zlib.error):
        for kind, body in chunks:
            rest = bytes(body[4:] if kind == b"fdAT" else body) if kind in (b"fdAT", b"IDAT") else b""
            while rest and not unpacker.eof:
                unpacker.decompress(rest, _AT_ONCE)
                rest = unpacker.unconsumed_tail
    return unpacker.eof


def _webp_parts(data: bytes) -> AnimationParts:
    seconds: list[Fraction] = []
    stated = 8 + int.from_bytes(data[4:8], "little")
    at = 12
    for kind, body in webp_chunks(data[:stated]):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if len(body) < size:
            break
        if kind == b"ANMF":
            seconds.append(Fraction(int.from_bytes(body[12:15], "little"), 1000) or _NO_TIME)
        at += 8 + size + size % 2
    if at >= stated:
        return AnimationParts(seconds, hidden=False, whole=data)
    whole = data[:at].ljust(at, b"\0")  # a byte that fills up may be what is missing
    reason = "the file ends early" if len(data) < stated else "a part of the file is damaged"
    missing = f"{reason}: {len(seconds)} of its images can be read"
    return AnimationParts(seconds, False, whole[:4] + (at - 8).to_bytes(4, "little") + whole[8:], missing)


def _gif_parts(data: bytes) -> AnimationParts:
    blocks = read_gif(data)
    seconds = [Fraction(delay, 100) or _NO_TIME for delay in blocks.delays]
    if not blocks.cut:
        return AnimationParts(seconds, hidden=False, whole=data)
    missing = f"the file ends early: {len(seconds)} of its images can be read"
    return AnimationParts(seconds, False, data[: blocks.end] + b";", missing)


class Animation:
    """The images of the file ``path``; where it is cut or damaged, those in front of that, and one that cannot be read.
    Raises UnreadableImage and OSError."""

    def __init__(self, path: Path) -> None:
        with told_as(UnreadableImage, f"{path} {WHY}", (BadHeader, UnreadableImage)):
            parts = read_parts(path.read_bytes())
            if not parts.seconds:
                reason = parts.missing.partition(":")[0] or "its list of them is empty"
                raise UnreadableImage(f"is an animation without a whole image: {reason}")
            shape = read_header(parts.whole).shape
        if problem := size_problem(shape, decoded=shape[0] * shape[1] * _KEPT, stored=len(parts.whole)):
            raise UnreadableImage(f"{path}: {problem}")
        self._hidden, self._count, self._missing = parts.hidden, len(parts.seconds), parts.missing
        begins = [Fraction(0), *accumulate(parts.seconds)]
        self.times = FrameTimes.listed(begins[: len(self)])
        if self.times is not None and not parts.missing:
            self.times = replace(self.times, seconds=float(begins[-1]))
        self._orientation = stated_orientation(parts.whole)
        self._path = path
        try:
            file = BytesIO(parts.whole) if parts.missing else path
            self._opened = Pillow.open(file, formats=("PNG", "WEBP", "GIF"))
        except Exception as error:
            if isinstance(error, OSError) and error.errno:  # of the system, and not of the file
                raise
            raise UnreadableImage(f"{path} is damaged: its images cannot be decoded") from error

    def __len__(self) -> int:
        return self._count + bool(self._missing)

    def image(self, index: int) -> Image:
        """(H, W) uint8 or uint16. Raises UnreadableImage."""
        if index >= self._count:
            raise UnreadableImage(self._missing)
        words = f"image {index} of {self._path} is damaged: it cannot be decoded"
        with told_as(UnreadableImage, words, Exception):
            self._opened.seek(index + self._hidden)
            opened = self._opened
            pixels = np.asarray(opened if opened.mode in _COUNTED else opened.convert("RGB"))
        return turned(gray(pixels, blue_first=False), self._orientation)

    def close(self) -> None:
        self._opened.close()
