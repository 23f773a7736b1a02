"""The form of a frame on the wire (``docs/wire-format.md``): what is accepted, and why the rest is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from clesr.pipeline.frame import Image

VERSION = 1
MAX_SIDE = 8192  # pixels of an image's height or width
MAX_HEADER = 4096  # bytes
MAX_NUMBER = 2**63 - 1
MAX_PIXELS = MAX_SIDE * MAX_SIDE * 2  # bytes of the largest image
DTYPES = {"uint8": "u1", "uint16": "<u2"}


class Refused(Exception):
    """A message that is not of the documented form; its text is the reason, in one line."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a message says of its pixels."""

    shape: tuple[int, int]
    dtype: str
    number: int
    stream: str


def parse_message(parts: Sequence[memoryview], *, topic: bool) -> tuple[Header, Image]:
    """The header and the (H, W) pixels, copied, of a message: [topic,] header, pixels.

    The image is made from the bytes that came, and never from what a header promises. Raises Refused.
    """
    expected = 3 if topic else 2
    if len(parts) != expected:
        raise Refused(f"a message of {len(parts)} parts, not {expected}")
    header = parse_header(parts[-2].tobytes() if parts[-2].nbytes <= MAX_HEADER else b"", parts[-2].nbytes)
    return header, _pixels(parts[-1], header)


def parse_header(data: bytes, size: int) -> Header:
    """The header in ``data``, of which there are ``size`` bytes in the message. Raises Refused."""
    if size > MAX_HEADER:
        raise Refused(f"a header of {size} bytes, more than {MAX_HEADER}")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise Refused("a header that is not JSON") from None
    if not isinstance(fields, dict):
        raise Refused("a header that is not a JSON object")
    if type(fields.get("version")) is not int or fields["version"] != VERSION:
        raise Refused(f"version {_short(fields.get('version'))}, not {VERSION}")
    number, stream, time_ns = fields.get("number"), fields.get("stream", ""), fields.get("time_ns", 0)
    if not _whole(number, 0, MAX_NUMBER):
        raise Refused(f"number {_short(number)}, not a whole number from 0 to 2^63 - 1")
    if not _whole(time_ns, -MAX_NUMBER, MAX_NUMBER):
        raise Refused(f"time_ns {_short(time_ns)}, not a whole number of nanoseconds")
    if not isinstance(stream, str):
        raise Refused(f"stream {_short(stream)}, not a text")
    return Header(_shape(fields.get("shape")), _dtype(fields.get("dtype")), number, stream)


def _shape(shape: Any) -> tuple[int, int]:
    if isinstance(shape, list) and len(shape) == 2 and all(_whole(side, 1, MAX_SIDE) for side in shape):
        return shape[0], shape[1]
    raise Refused(f"shape {_short(shape)}, not [height, width] of 1 to {MAX_SIDE} pixels each")


def _dtype(dtype: Any) -> str:
    if isinstance(dtype, str) and dtype in DTYPES:
        return dtype
    raise Refused(f"dtype {_short(dtype)}, not {' or '.join(DTYPES)}")


def _pixels(data: memoryview, header: Header) -> Image:
    height, width = header.shape
    stored = np.dtype(DTYPES[header.dtype])
    stated = height * width * stored.itemsize
    if data.nbytes != stated:
        raise Refused(f"{data.nbytes} bytes of pixels, not the {stated} of {height}x{width} {header.dtype}")
    image: Image = np.frombuffer(data, stored).reshape(height, width).astype(header.dtype)
    return image


def _whole(value: Any, low: int, high: int) -> TypeGuard[int]:
    return type(value) is int and low <= value <= high


def _short(value: Any) -> str:
    try:
        text = json.dumps(value)
    except RecursionError:
        return "nested too deeply"
    return text if len(text) <= 40 else text[:37] + "..."
