"""DenseNet kernel by kernel on a GPU: both plans of each kind, every kernel's time and floor, what each rewrite gains.

python benchmarks/kernels.py [--part kernels | rewrites | slots] [--scale 4] [--size 256] [--dry]

With --dry on a processor, in Triton's interpreter, at a tiny size: the figures then mean nothing, the way there is
the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import click
import torch
from rich.console import Console
from stage import leave, tell

if "--dry" in sys.argv and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported

from kernel_checks import BROKEN, check, compile_first, first_plans
from kernel_gains import Gain, attempted, rewrites, slots
from kernel_times import Device, Kernel, bytes_of, device_seconds, kernels_of, operations, profile
from torch import Tensor

from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels, KernelStep
from clesr.engines.backends.cuda.kernels.plan import Plan, alternatives
from clesr.engines.common.errors import first_line
from clesr.engines.models.registry import build_model
from clesr.engines.models.weights import find_model
from clesr.tools.bench.peak import bandwidth, matrix_peaks
from clesr.tools.bench.report import WIDE, figure, make_table

TINY = {"blocks": 1, "skip": "add", "base": "bicubic"}  # what is run dry

KERNEL_COLUMNS = (
    ("kernel", lambda row: row["kernel"]),
    ("times", lambda row: str(row["times_a_frame"])),
    ("us", lambda row: figure(row["found_us"])),
    ("floor us", lambda row: figure(row["predicted_us"])),
    ("of floor", lambda row: f"{100 * row['of_floor']:.0f} %"),
    ("GFLOP/s", lambda row: f"{row['gflop_s']:.0f}"),
    ("us a frame", lambda row: figure(row["frame_us"])),
)
PROFILE_COLUMNS = (
    ("as the engine runs them", lambda row: row["kernel"][:60]),
    ("times", lambda row: str(row["times_a_frame"])),
    ("us a frame", lambda row: figure(row["frame_us"])),
)


@dataclass(frozen=True)
class Subject:
    """What is measured: DenseNet for ``scale`` on LR images of ``shape`` (H, W); dry, a tiny one."""

    scale: int
    shape: tuple[int, int]
    dry: bool

    @cached_property
    def kind(self) -> str:
        return "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def machine(self) -> dict[str, Any]:
        speed = bandwidth(self.kind) if self.kind == "cuda" else bandwidth(self.kind, 1 << 24)
        return {"dry": self.dry, "peak_gflop_s": matrix_peaks(self.kind), "bandwidth_gb_s": round(speed, 1)}

    @cached_property
    def device(self) -> Device:
        peak = max(self.machine["peak_gflop_s"].values())
        return Device(self.kind, 1e9 * peak, 1e9 * self.machine["bandwidth_gb_s"])

    @cached_property
    def module(self) -> torch.nn.Module:
        return (
            build_model("densenet", self.scale, TINY)
            if self.dry
            else find_model("densenet", self.scale).module
        )

    @cached_property
    def network(self) -> DenseNetKernels:
        """As the engine runs it, with the plans that it measured."""
        return DenseNetKernels(self.module, self.shape, torch.uint8, self.kind)

    @cached_property
    def kernels(self) -> list[Kernel]:
        return kernels_of(self.network)

    def leave(self, stage: str, passed: bool, headline: list[str], **figures: Any) -> int:
        return leave(
            stage, passed, headline, scale=self.scale, lr=list(self.shape), **self.machine, **figures
        )


def both_plans(subject: Subject) -> list[dict[str, Any]]:
    """A row for each plan of each kind of kernel, the widest of its kind: against FP32, and how long it takes."""
    network = DenseNetKernels(
        subject.module, subject.shape, torch.uint8, subject.kind, tuner=first_plans(subject.kind)
    )
    capability = torch.cuda.get_device_capability() if subject.kind == "cuda" else None
    runs: list[tuple[str, KernelStep, Plan | None]] = [
        (key, step, plan)
        for key, step in network.tunable().items()
        for plan in (alternatives(step.kind, capability) if capability else (None,))
    ]
    compile_first(network, [(step, plan) for _, step, plan in runs])
    return [one_plan(subject, *run) for run in runs]


def one_plan(subject: Subject, key: str, step: KernelStep, plan: Plan | None) -> dict[str, Any]:
    name = f"{key}: {plan or 'the usual plan'}"
    row: dict[str, Any] = {"key": key, "plan": str(plan or ""), "passed": False}
    try:
        found = check(step, plan)
        seconds = device_seconds(partial(step.run, plan, False), subject.device)
    except BROKEN as error:
        row["reason"] = first_line(error)
        tell(f"{name}: FAILED: {row['reason']}", **row)
        return row
    tensors = [part for part in (*step.call.args, *step.call.keywords.values()) if isinstance(part, Tensor)]
    floor = subject.device.floor(operations(step.call.func.__name__, step.call.args), bytes_of(*tensors))
    row |= {
        "passed": found.passed,
        "error": found.error,
        "us": round(1e6 * seconds, 3),
        "floor_us": round(1e6 * floor, 3),
    }
    tell(f"{name}: {figure(1e6 * seconds)} us, floor {figure(1e6 * floor)}; {found}", **row)
    return row


def measure_kernels(subject: Subject) -> int:
    """Both plans of each kind; then all kernels of a frame by the plans that the engine takes."""
    plans = both_plans(subject)
    on_card = subject.kind == "cuda"
    network_us = round(1e6 * device_seconds(subject.network.run, subject.device), 2) if on_card else None
    report = subject.network.report()
    for line in report[-1:]:
        tell(line)
    rows = [kernel.measure(subject.device) for kernel in subject.kernels]
    headline = [headline_of(rows, network_us)]
    tell(headline[0], network_us=network_us)
    profiled = profile(subject.network.run) if on_card else []
    show(("kernels", KERNEL_COLUMNS, rows), ("profile", PROFILE_COLUMNS, profiled[:20]))
    wrong = [f"{row['key']} by {row['plan']}" for row in plans if not row["passed"]]
    headline += [f"wrong: {', '.join(wrong)}"] if wrong else []
    figures = {"network_us": network_us, "plans": plans, "report": report, "rows": rows, "profile": profiled}
    return subject.leave("kernels", not wrong, headline, **figures)


def measure_gains(subject: Subject, stage: str) -> int:
    """What each rewrite, or a second slot, gains."""
    if stage == "rewrites":
        found, lost = attempted(
            rewrites(subject.device, subject.network, subject.kernels, subject.scale, subject.shape)
        )
    elif subject.kind == "cuda":
        found, lost = attempted(slots(subject.scale, subject.shape))
    else:
        found, lost = list[Gain](), []
        tell("two slots: not on a processor")
    gains = [gain.as_json() for gain in found]
    return subject.leave(stage, not lost, lost or [str(gain) for gain in found], rewrites=gains)


@click.command()
@click.option(
    "--part", type=click.Choice(["kernels", "rewrites", "slots"]), default="kernels", show_default=True
)
@click.option("--scale", type=click.Choice(["2", "4", "8"]), default="4", show_default=True)
@click.option("--size", type=int, default=256, show_default=True, help="LR pixels a side.")
@click.option("--dry", is_flag=True, help="Tiny, on a processor where there is no GPU.")
def main(part: str, scale: str, size: int, dry: bool) -> None:
    """Measure, print and write PART.json."""
    if not dry and not torch.cuda.is_available():
        raise click.ClickException(
            "there is no NVIDIA GPU here; --dry runs the kernels in Triton's interpreter"
        )
    subject = Subject(int(scale), (8, 8) if dry else (size, size), dry)
    sys.exit(measure_kernels(subject) if part == "kernels" else measure_gains(subject, part))


Columns = tuple[tuple[str, Callable[[dict[str, Any]], str]], ...]


def show(*tables: tuple[str, Columns, list[dict[str, Any]]]) -> None:
    """Those that have lines."""
    console = Console(highlight=False, width=WIDE)
    for name, columns, lines in tables:
        if lines:
            console.print(make_table(name, columns, lines))


def headline_of(rows: list[dict[str, Any]], network_us: float | None) -> str:
    """The sums."""
    total = sum(row["frame_us"] for row in rows)
    floor = sum(row["predicted_us"] * row["times_a_frame"] for row in rows)
    whole = "" if network_us is None else f", the network in a graph {figure(network_us)} us"
    return f"kernels of a frame {figure(total)} us, their floor {figure(floor)} us{whole}"


if __name__ == "__main__":
    main()
