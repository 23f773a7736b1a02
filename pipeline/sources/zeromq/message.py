"""The form of a frame on the wire (``docs/wire-format.md``): what is accepted, and why the rest is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np

from clesr.engines.common.limits import max_side, size_problem
from clesr.engines.common.parsing import parse_json
from clesr.pipeline.frame import Image

VERSION = 1
MAX_HEADER = 4096  # bytes
MAX_NUMBER = 2**63 - 1
DTYPES = {"uint8": "u1", "uint16": "<u2"}


class MessageHeader(msgspec.Struct, frozen=True):
    """What a message says of its pixels; what else is in its header is passed over."""

    version: int
    shape: tuple[int, int]
    dtype: Literal["uint8", "uint16"]
    number: Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
    stream: str = ""
    time_ns: Annotated[int, msgspec.Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)] = 0
    damaged: object = False  # of senders of before it may be anything: they gave it no meaning


class Refused(Exception):
    """A message that is not of the documented form; its text is the reason, in one line."""


def parse_message(parts: Sequence[memoryview], *, topic: bool) -> tuple[MessageHeader, Image]:
    """The header and the (H, W) pixels, copied, of a message: [topic,] header, pixels.

    The image is made from the bytes that came, and never from what a header promises. Raises Refused.
    """
    expected = 3 if topic else 2
    if len(parts) != expected:
        raise Refused(f"a message of {len(parts)} parts, not {expected}")
    header = parse_header(parts[-2].tobytes() if parts[-2].nbytes <= MAX_HEADER else b"", parts[-2].nbytes)
    return header, _pixels(parts[-1], header)


def parse_header(data: bytes, size: int) -> MessageHeader:
    """The header in ``data``, of which there are ``size`` bytes in the message. Raises Refused."""
    if size > MAX_HEADER:
        raise Refused(f"a header of {size} bytes, more than {MAX_HEADER}")
    try:
        header = parse_json(data, MessageHeader)
    except ValueError as error:
        said = str(error)
        form = "" if said.startswith("is ") else "is not of the documented form: "
        raise Refused(f"a header that {form}{said}") from None
    if header.version != VERSION:
        raise Refused(f"version {header.version}, not {VERSION}")
    if problem := size_problem(header.shape):
        raise Refused(f"shape: {problem}")
    return header


def max_pixels() -> int:
    """Bytes of the largest image."""
    return max_side() ** 2 * 2


def _pixels(data: memoryview, header: MessageHeader) -> Image:
    height, width = header.shape
    stored = np.dtype(DTYPES[header.dtype])
    stated = height * width * stored.itemsize
    if data.nbytes != stated:
        raise Refused(f"{data.nbytes} bytes of pixels, not the {stated} of {height}x{width} {header.dtype}")
    image: Image = np.frombuffer(data, stored).reshape(height, width).astype(header.dtype)
    return image
