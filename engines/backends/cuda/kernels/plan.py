"""How a kernel divides its work: the numbers that a GPU's measurements choose among."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import triton

INTERPRETED = bool(triton.knobs.runtime.interpret)


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to run a convolution.

    A program takes ``block_m`` columns of each of ``rows`` neighbouring image rows and ``block_n`` output channels, in
    steps of at most ``block_k`` input channels. With ``rows`` above 1 a loaded row serves the output rows above,
    at and below it. ``merge`` makes the three horizontal taps columns of one product and adds them, shifted, at the
    end, so that a pixel is loaded once instead of three times. ``cache`` is the load's cache modifier: ``.ca`` keeps
    pixels in the first-level cache for the next tap. ``bulk`` loads by the tensor copy engine (Hopper and later).
    ``share`` programs run on each multiprocessor where one launch is for all of them (``trunk``).
    """

    rows: int = 1
    block_m: int = 128
    block_n: int = 128
    block_k: int = 64
    warps: int = 8
    stages: int = 3
    cache: str = ""
    bulk: bool = False
    merge: bool = False
    share: int = 1

    def __str__(self) -> str:
        form = "bulk" if self.bulk else "merged" if self.merge else "rows" if self.rows > 1 else "direct"
        tile = f"{self.rows}x{self.block_m}x{self.block_n}x{self.block_k}"
        shared = f", {self.share} a multiprocessor" if self.share > 1 else ""
        return f"{form} {tile}, {self.warps} warps, {self.stages} stages{self.cache and ' ' + self.cache}{shared}"


def launch_options(warps: int = 4, stages: int = 3, early: bool = False) -> dict[str, Any]:
    """Compiler options of a launch; none in the interpreter. ``early`` starts a kernel while the one before it ends
    (Hopper and later)."""
    if INTERPRETED:
        return {}
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
    return {**options, "launch_pdl": True} if early else options


_mode = threading.local()


@contextmanager
def only_compiling() -> Iterator[None]:
    """In this thread ``launch`` compiles kernels and does not start them."""
    _mode.compiling = True
    try:
        yield
    finally:
        _mode.compiling = False


def launch(kernel: Any, programs: int, *arguments: Any, **options: Any) -> None:
    """Start ``programs`` programs of a Triton kernel, which is compiled at the first time."""
    if getattr(_mode, "compiling", False):
        kernel.warmup(*arguments, grid=(programs,), **options)
    else:
        kernel[(programs,)](*arguments, **options)


def step(channels: int, most: int) -> int:
    """The largest power of two that divides ``channels``, at most ``most``."""
    return min(channels & -channels, most)


NARROW, AHEAD, WIDE, UP, PROJECT = "narrow", "ahead", "wide", "up", "project"

_SAFE = {
    NARROW: Plan(rows=2, merge=True, block_m=64, block_n=16, block_k=32, warps=4, stages=3),
    AHEAD: Plan(block_m=128, block_n=64, block_k=32, warps=4, stages=3),
    WIDE: Plan(block_m=128, block_n=128, block_k=32, warps=8, stages=3),
    UP: Plan(block_m=128, block_n=128, block_k=32, warps=8, stages=3),
    PROJECT: Plan(block_m=128, block_n=128, block_k=32, warps=8, stages=3),
}
# The interpreter wants few large programs.
_INTERPRETED = {
    NARROW: Plan(rows=2, merge=True, block_m=1024, block_n=16),
    AHEAD: Plan(rows=2, block_m=1024, block_n=64),
    WIDE: Plan(block_m=2048, block_n=128),
    UP: Plan(rows=2, block_m=1024, block_n=128),
    PROJECT: Plan(block_m=2048, block_n=256),
}


def _narrow(rows: int, block_m: int, block_k: int, warps: int, stages: int) -> Plan:
    return Plan(rows, block_m, 16, block_k, warps, stages, merge=True)


_HOPPER: dict[str, list[Plan]] = {
    NARROW: [
        _narrow(4, 64, 32, 4, 3),
        _narrow(2, 64, 32, 4, 3),
        _narrow(4, 64, 64, 4, 2),
        _narrow(2, 64, 64, 4, 3),
        _narrow(4, 128, 32, 8, 3),
        _narrow(2, 128, 64, 8, 2),
        _narrow(1, 64, 64, 4, 3),
        Plan(1, 128, 16, 64, 4, 4, ".ca"),
        Plan(4, 64, 16, 32, 4, 2, ".ca"),
    ],
    AHEAD: [
        Plan(2, 64, 64, 64, 4, 2),
        Plan(4, 64, 64, 32, 4, 2),
        Plan(2, 64, 64, 32, 4, 3, ".ca"),
        Plan(1, 128, 64, 64, 4, 4, ".ca"),
        Plan(1, 128, 64, 64, 4, 4),
        Plan(1, 64, 64, 64, 4, 4, ".ca"),
    ],
    WIDE: [Plan(1, 128, 128, 64, 8, 3)],
    UP: [
        Plan(1, 128, 256, 64, 8, 4, bulk=True),
        Plan(1, 128, 128, 64, 4, 3, bulk=True),
        Plan(1, 256, 128, 64, 8, 4, bulk=True),
        Plan(1, 128, 128, 64, 8, 3, bulk=True),
        Plan(1, 128, 128, 64, 8, 3, ".ca"),
        Plan(2, 128, 128, 32, 8, 3),
        Plan(4, 64, 128, 32, 8, 3),
    ],
}
_HOPPER[PROJECT] = _HOPPER[UP]
# In FP8 a step is 128 channels, and a second set of sums takes registers: wider tiles spill.
_FP8 = [
    Plan(1, 128, 128, 128, 8, 3, bulk=True),
    Plan(1, 128, 128, 128, 4, 3, bulk=True),
    Plan(1, 128, 128, 64, 8, 4, bulk=True),
    Plan(1, 256, 128, 128, 8, 3, bulk=True),
    Plan(1, 128, 128, 128, 8, 3, ".ca"),
]
_AMPERE: dict[str, list[Plan]] = {
    NARROW: [
        _narrow(2, 64, 32, 4, 3),
        _narrow(4, 64, 16, 4, 3),
        _narrow(2, 128, 32, 4, 2),
        _narrow(1, 128, 32, 4, 4),
        Plan(1, 128, 16, 64, 4, 3, ".ca"),
        Plan(4, 64, 16, 32, 4, 2),
    ],
    AHEAD: [
        Plan(2, 64, 64, 32, 4, 3),
        Plan(1, 128, 64, 64, 4, 3, ".ca"),
        Plan(1, 128, 64, 64, 4, 3),
        Plan(1, 64, 64, 64, 4, 3, ".ca"),
    ],
    WIDE: [Plan(1, 128, 128, 64, 8, 3)],
    UP: [
        Plan(1, 128, 128, 32, 4, 4),
        Plan(1, 128, 128, 64, 4, 3),
        Plan(1, 128, 128, 64, 8, 3),
        Plan(1, 128, 256, 32, 8, 3),
        Plan(1, 256, 128, 32, 8, 3),
        Plan(2, 64, 128, 32, 8, 3),
    ],
}
_AMPERE[PROJECT] = _AMPERE[UP]


# All dense blocks in one launch: merged plans whose programs all fit on the card at once.
TRUNK = [
    _narrow(4, 128, 32, 8, 3),
    replace(_narrow(2, 128, 32, 8, 2), share=2),
    _narrow(2, 128, 32, 8, 2),
    replace(_narrow(4, 64, 32, 4, 2), share=2),
]


def usual(kind: str) -> Plan:
    """The plan without measurements: one that every card since Turing can run."""
    return (_INTERPRETED if INTERPRETED else _SAFE)[kind]


def worth_measuring(kind: str, capability: tuple[int, int], precision: str = "fp16") -> list[Plan]:
    """Plans worth a measurement on a card of ``capability``, the most promising first, ``usual`` last."""
    found = _HOPPER[kind] if capability >= (9, 0) else _AMPERE[kind]
    if precision == "fp8" and kind in (UP, PROJECT):
        found = [plan for plan in _FP8 if capability >= (9, 0) or not plan.bulk]
    return [*found, *([usual(kind)] if usual(kind) not in found else [])]
