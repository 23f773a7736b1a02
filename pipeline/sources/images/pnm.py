"""PBM, PGM and PPM images, binary and as text (netpbm), whose values go up to a maximum of their own."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clesr.pipeline.frame import Image
from clesr.pipeline.sources.images.gray import luma_of_colour
from clesr.pipeline.sources.images.unreadable import UnreadableImage

_SPACE = rb"(?:\s|#[^\n\r]*[\n\r])"
_HEADER = re.compile(rb"P([1-6])" + (_SPACE + rb"+(\d{1,9})") * 2)
_MAXIMUM = re.compile(_SPACE + rb"+(\d{1,9})")
_COMMENT = re.compile(rb"#[^\n\r]*")


class PnmHeader(NamedTuple):
    """``kind`` is the number behind the P, ``maximum`` that of the values, which begin at byte ``at``."""

    kind: int
    width: int
    height: int
    maximum: int
    at: int

    @property
    def gain(self) -> float:
        """The grey levels of the image that one step of its values is."""
        return (255 if self.maximum < 256 else 65535) / self.maximum

    @property
    def stored_bytes(self) -> int | None:
        """Of the file, for this image; None where that is all that follows, as text does."""
        if self.kind < 4:
            return None
        samples = self.width * (3 if self.kind == 6 else 1) * (1 if self.maximum < 256 else 2)
        row = -(-self.width // 8) if self.kind == 4 else samples
        return self.at + 1 + self.height * row


def read_pnm_header(data: bytes) -> PnmHeader:
    """Raises UnreadableImage."""
    header = _HEADER.match(data)
    if header is None:
        raise UnreadableImage("is damaged: its header cannot be read")
    kind, width, height = (int(part) for part in header.groups())
    if kind in (1, 4):
        return PnmHeader(kind, width, height, 1, header.end())
    found = _MAXIMUM.match(data, header.end())
    if found is None or not 1 <= int(found[1]) <= 65535:
        raise UnreadableImage("is damaged: it states no maximum of 1 to 65535")
    return PnmHeader(kind, width, height, int(found[1]), found.end())


def read_pnm(data: bytes) -> Image:
    """(H, W) of the image in ``data``, whose size was looked at before, spread over all of uint8 or uint16. Raises
    UnreadableImage."""
    kind, width, height, maximum, at = read_pnm_header(data)
    samples = 3 if kind in (3, 6) else 1
    count = height * width * samples
    if kind in (1, 2, 3):
        values = _text(data[at:], count, bits=kind == 1)
    elif kind == 4:
        values = _packed(data[at + 1 :], height, width)
    else:
        values = _binary(data[at + 1 :], count, maximum)
    image = _spread(values.reshape(height, width, samples), maximum)
    if kind in (1, 4):  # where 1 is black
        image = np.invert(image)
    return luma_of_colour(image, blue_first=False) if samples == 3 else np.ascontiguousarray(image[..., 0])


def _spread(values: NDArray[np.unsignedinteger], maximum: int) -> Image:
    if maximum in (255, 65535):
        return np.ascontiguousarray(values, np.uint8 if maximum == 255 else np.uint16)
    dtype = np.uint8 if maximum < 256 else np.uint16
    table = np.rint(np.arange(maximum + 1) * (np.iinfo(dtype).max / maximum)).astype(dtype)
    return np.asarray(table[np.minimum(values, maximum)])


def _binary(data: bytes, count: int, maximum: int) -> NDArray[np.unsignedinteger]:
    kind = np.dtype(np.uint8 if maximum < 256 else ">u2")
    _check(len(data) // kind.itemsize, count)
    return np.frombuffer(data, kind, count)


def _packed(data: bytes, height: int, width: int) -> NDArray[np.unsignedinteger]:
    row = -(-width // 8)
    _check(len(data) // row, height, "rows")
    rows = np.frombuffer(data, np.uint8, row * height).reshape(height, row)
    return np.unpackbits(rows, axis=1, count=width)


def _text(data: bytes, count: int, *, bits: bool) -> NDArray[np.unsignedinteger]:
    data = _COMMENT.sub(b" ", data)
    if bits:  # which need nothing between them
        digits = np.frombuffer(data, np.uint8)
        values = digits[(digits == ord("0")) | (digits == ord("1"))] - np.uint8(ord("0"))
    else:
        words = data.split(None, count)[:count]
        if not all(word.isdigit() and len(word) < 6 for word in words):
            raise UnreadableImage("is damaged: it has what is no number among its values")
        values = np.array(words, dtype="S5").astype(np.uint32)
    _check(len(values), count)
    return np.asarray(values[:count])


def _check(there: int, stated: int, what: str = "values") -> None:
    if there < stated:
        raise UnreadableImage(f"is cut: {there} of its {stated} {what} are there")
