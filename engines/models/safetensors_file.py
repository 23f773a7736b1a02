"""What a safetensors file holds, known and checked before any of it is taken into memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from clesr.engines.common.errors import WeightsError
from clesr.engines.common.parsing import Count, one_line, open_regular, parse_json, read_bounded, unreadable

T = TypeVar("T")

FILE_BYTES = 1 << 30
HEADER_BYTES = 4 << 20
TENSORS = 10_000
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}

Shape = tuple[int, ...]


class _Tensor(msgspec.Struct, frozen=True):
    dtype: Literal["F64", "F32", "F16", "BF16"]
    shape: Annotated[tuple[Count, ...], Meta(max_length=8)]
    data_offsets: tuple[Count, Count]


class Header(msgspec.Struct, frozen=True):
    """The shapes of a file's tensors, and its metadata."""

    shapes: Mapping[str, Shape]
    metadata: Mapping[str, str]


def read_tensors_header(path: Path) -> Header:
    """The header of ``path``; raises WeightsError where it is not one, or states tensors that the file cannot hold."""
    try:
        with open_regular(path) as file:
            size = int.from_bytes(file.read(8), "little")
            if size > HEADER_BYTES:
                raise ValueError(f"its header has {size} bytes, at most {HEADER_BYTES} are allowed")
            text = file.read(size)
            room = file.seek(0, 2) - 8 - size
        return _parse(text, room)
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path} is not a readable safetensors file ({one_line(error)}); copy it again"
        ) from error


def read_file(path: Path) -> bytes:
    """All of ``path``; raises WeightsError."""
    try:
        return read_bounded(path, FILE_BYTES)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} {unreadable(error)}; copy it again") from error


def parse_metadata(path: Path, text: str, kind: type[T]) -> T:
    """The JSON ``text`` in the metadata of ``path``; raises WeightsError."""
    try:
        return parse_json(text, kind, nonfinite=True)
    except ValueError as error:
        raise WeightsError(f"the descriptor in {path} is damaged ({error}); copy the file again") from error


def _parse(text: bytes, room: int) -> Header:
    parts = {name: bytes(raw) for name, raw in parse_json(text, dict[str, msgspec.Raw]).items()}
    metadata = parse_json(parts.pop("__metadata__", b"{}"), dict[str, str])
    if len(parts) > TENSORS:
        raise ValueError(f"it states {len(parts)} tensors, at most {TENSORS} are allowed")
    shapes: dict[str, Shape] = {}
    for name, raw in parts.items():
        tensor = parse_json(raw, _Tensor)
        begin, end = tensor.data_offsets
        wanted = math.prod(tensor.shape) * _SIZES[tensor.dtype]
        if end - begin != wanted or end > room:
            raise ValueError(f"tensor {name[:60]!r} is not the {wanted} bytes that its shape takes")
        shapes[name] = tensor.shape
    return Header(shapes, metadata)
