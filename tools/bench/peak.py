"""What a device reaches on large matrix products and copies: the floor under every time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from time import perf_counter

import torch

CUDA_SIDE, CPU_SIDE = 8192, 1024
COPIED = 1 << 29  # bytes: ten times what a card's cache holds
RUNS = 5


def matrix_peaks(kind: str, precisions: Collection[str] = ()) -> dict[str, float]:
    """GFLOP/s of a large matrix product on ``kind`` by precision: fp16 on cuda; fp32 on cpu, and bf16 where it is one
    of ``precisions``: a processor without bf16 takes seconds for it."""
    types = {"fp16": torch.float16} if kind == "cuda" else {"fp32": torch.float32}
    if kind == "cpu" and "bf16" in precisions:
        types["bf16"] = torch.bfloat16
    side = CUDA_SIDE if kind == "cuda" else CPU_SIDE
    found = {}
    for name, dtype in types.items():
        a, b = (torch.randn(side, side, device=kind).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        seconds = best_seconds(functools.partial(torch.mm, a, b, out=out), kind)
        found[name] = round(2 * side**3 / seconds / 1e9, 1)
    return found


def bandwidth(kind: str, size: int = COPIED) -> float:
    """GB/s that ``kind`` reads and writes together when it copies ``size`` bytes."""
    source = torch.empty(size, dtype=torch.uint8, device=kind)
    target = torch.empty_like(source)
    return 2 * size / best_seconds(lambda: target.copy_(source), kind) / 1e9


def best_seconds(run: Callable[[], object], kind: str) -> float:
    """The shortest of a few runs, after one that does not count; on a GPU by its own clock."""
    run()
    return min(_seconds(run, kind) for _ in range(RUNS))


def peak_for(peaks: dict[str, float], precision: str) -> float | None:
    """The peak that an engine of ``precision`` is held against: a GPU's FP16 for every one, a CPU's own."""
    return peaks.get(precision) or peaks.get("fp16") or peaks.get("fp32")


def _seconds(run: Callable[[], object], kind: str) -> float:
    if kind != "cuda":
        start = perf_counter()
        run()
        return perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3
