"""How a kernel divides its work: a fixed table of what a card measures, at most two alternatives a kind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import triton

INTERPRETED = bool(triton.knobs.runtime.interpret)
DIRECT, MERGED, BULK = "direct", "merged", "bulk"
NARROW, AHEAD, WIDE, UP, PROJECT = "narrow", "ahead", "wide", "up", "project"


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to run a convolution.

    A program takes ``block_m`` columns of each of ``rows`` neighbouring image rows and ``block_n`` output channels, in
    steps of at most ``block_k`` input channels. *direct* is a product a tap. In *merged* the three horizontal taps are
    columns of one product, added with a shift at the end, and a loaded row serves the output rows above, at and below
    it. *bulk* is direct, loaded by the tensor copy engine (Hopper and later).
    """

    form: str
    block_m: int
    block_n: int
    block_k: int
    warps: int
    stages: int
    rows: int = 1

    def step(self, channels: int) -> int:
        """The largest power of two that divides ``channels``, at most ``block_k``."""
        return min(channels & -channels, self.block_k)

    def __str__(self) -> str:
        tile = f"{self.rows}x{self.block_m}x{self.block_n}x{self.block_k}"
        return f"{self.form} {tile}, {self.warps} warps, {self.stages} stages"


# Of narrow plans those whose programs fill whole waves: 131 of 4 x 128 or 262 of 2 x 128 at 256 x 256 pixels for the
# 132 or 264 places of an H200. Registers, spills and shared memory of all are tested by compiling them.
_HOPPER: dict[str, tuple[Plan, ...]] = {
    NARROW: (Plan(MERGED, 128, 16, 32, 8, 3, rows=4), Plan(MERGED, 128, 16, 64, 8, 2, rows=2)),
    AHEAD: (Plan(DIRECT, 128, 64, 64, 4, 4), Plan(DIRECT, 64, 64, 64, 4, 4)),
    WIDE: (Plan(DIRECT, 128, 128, 64, 8, 3),),
    UP: (Plan(BULK, 128, 256, 64, 8, 4), Plan(DIRECT, 128, 128, 64, 8, 3)),
    PROJECT: (Plan(BULK, 128, 256, 64, 8, 4), Plan(DIRECT, 128, 128, 64, 8, 3)),
}
# Others have less shared memory (99 KiB from 8.6 on) and multiply in registers.
_OTHERS: dict[str, tuple[Plan, ...]] = {
    NARROW: (Plan(MERGED, 128, 16, 64, 8, 2, rows=2), Plan(MERGED, 64, 16, 32, 4, 3, rows=2)),
    AHEAD: (Plan(DIRECT, 128, 64, 64, 4, 3), Plan(DIRECT, 128, 64, 32, 4, 3)),
    WIDE: (Plan(DIRECT, 128, 128, 32, 8, 3),),
    UP: (Plan(DIRECT, 128, 128, 64, 8, 3), Plan(DIRECT, 128, 128, 32, 8, 3)),
    PROJECT: (Plan(DIRECT, 128, 128, 64, 8, 3), Plan(DIRECT, 128, 128, 32, 8, 3)),
}


def plan_kind(c_out: int) -> str:
    """The kind of plan for a convolution to ``c_out`` channels at the same resolution."""
    return NARROW if c_out <= 16 else AHEAD if c_out <= 64 else WIDE


def alternatives(kind: str, capability: tuple[int, int]) -> tuple[Plan, ...]:
    """The plans of a card of ``capability`` (9, 0), the first by arithmetic first."""
    return (_HOPPER if (9, 0) <= capability < (12, 0) else _OTHERS)[kind]


def usual(kind: str) -> Plan:
    """The plan without a card; the interpreter wants few large programs."""
    plan = _OTHERS[kind][-1]
    return replace(plan, block_m=2048 // plan.rows) if INTERPRETED else plan


_mode = threading.local()


@contextmanager
def only_compiling() -> Iterator[None]:
    """In this thread ``launch`` compiles kernels and does not start them."""
    _mode.compiling = True
    try:
        yield
    finally:
        _mode.compiling = False


def launch(
    kernel: Any, programs: int, *arguments: Any, plan: Plan | None = None, early: bool, **constants: Any
) -> None:
    """Start ``programs`` programs of a Triton kernel, which is compiled at the first time. ``early`` starts it while
    the one before it ends (Hopper and later)."""
    constants["EARLY"] = early and not INTERPRETED
    if not INTERPRETED:
        warps, stages = (plan.warps, plan.stages) if plan is not None else (4, 3)
        constants |= {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
        constants |= {"launch_pdl": True} if early else {}
    if getattr(_mode, "compiling", False):
        kernel.warmup(*arguments, grid=(programs,), **constants)
    else:
        kernel[(programs,)](*arguments, **constants)


def programs(height: int, pitch: int, plan: Plan) -> int:
    """How many programs cover an image by ``plan``."""
    return int(triton.cdiv(triton.cdiv(height, plan.rows) * pitch, plan.block_m - 2 * (plan.rows > 1)))
