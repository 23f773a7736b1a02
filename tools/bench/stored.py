"""Results of the bench in files: what is compared of them has the kind that it should."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta

from clesr.engines.common.errors import UsageError
from clesr.engines.common.files import NEW, WriteRule, make_parents, write_json
from clesr.engines.common.parsing import Side, check_depth, convert, parse_json, read_bounded, unreadable

NAME, FORMAT = "bench", 1
LARGEST = 16 << 20  # bytes of a file


class _Latency(msgspec.Struct):
    p50: float | None
    p99: float | None


class _Row(msgspec.Struct):
    model: str
    scale: Annotated[int, Meta(ge=1, le=64)]
    lr: tuple[Side, Side]
    label: str
    frames_s: Annotated[float, Meta(gt=0, le=1e9)]
    latency_ms: _Latency
    streams_30: Annotated[int, Meta(ge=0, le=10**9)]
    parity: dict[str, Any]
    psnr_db: dict[str, Any]
    watts: float | None


class _Machine(msgspec.Struct):
    cpu: str
    cores: int
    gpu: str | None = None


class _Settings(msgspec.Struct):
    images: str


class _Versions(msgspec.Struct):
    clesr: str
    torch: str | None = None


class _Result(msgspec.Struct):
    rows: list[_Row]
    machine: _Machine
    settings: _Settings
    versions: _Versions
    peak_gflop_s: dict[str, dict[str, float]]
    commit: str | None = None


def write(path: Path, result: dict[str, Any], rule: WriteRule = NEW) -> None:
    """``result`` as JSON. Raises SinkError where it cannot be written, or ``rule`` forbids it."""
    make_parents(path)
    write_json(path, result, rule)


def read(path: Path) -> dict[str, Any]:
    """What ``write`` wrote. Raises UsageError for a file that is something else or of another format."""
    try:
        result = parse_json(read_bounded(path, LARGEST), cast(Any, object), nonfinite=True)
        check_depth(result)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} {unreadable(error)}; give a file written by `clesr bench --json`"
        ) from error
    if not isinstance(result, dict) or result.get("benchmark") != NAME:
        raise UsageError(f"{path} holds no result of the bench; give a file written by `clesr bench --json`")
    if result.get("format") != FORMAT:
        raise UsageError(
            f"{path} has format {str(result.get('format'))[:20]}; this clesr reads {FORMAT}; update clesr"
        )
    try:
        convert(result, _Result)
    except ValueError as error:
        raise UsageError(
            f"{path} is damaged: its figures are not what they should be ({error}); measure again"
        ) from error
    return {"commit": None, **result, "machine": {"gpu": None, **result["machine"]}}
