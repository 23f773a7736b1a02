"""DenseNet kernel by kernel on a GPU: time, GFLOP/s, the time that the floor allows; and what each rewrite gains.

python benchmarks/kernels.py [--scale 4] [--size 256] [--dry]

With --dry on a processor, in Triton's interpreter, at a tiny size: the figures then mean nothing, the way there is
the same.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click
import torch
from rich.console import Console
from stage import leave

if "--dry" in sys.argv and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported

from kernel_gains import attempted, rewrites
from kernel_times import Device, device_seconds, kernels_of, profile

from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels
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
GAIN_COLUMNS = (
    ("rewrite", lambda row: row["rewrite"]),
    ("before us", lambda row: figure(row["before_us"])),
    ("after us", lambda row: figure(row["after_us"])),
    ("predicted", lambda row: f"{100 * row['predicted_gain']:+.0f} %"),
    ("found", lambda row: f"{100 * row['found_gain']:+.0f} %"),
)
PROFILE_COLUMNS = (
    ("as the engine runs them", lambda row: row["kernel"][:60]),
    ("times", lambda row: str(row["times_a_frame"])),
    ("us a frame", lambda row: figure(row["frame_us"])),
)


@click.command()
@click.option("--scale", type=click.Choice(["2", "4", "8"]), default="4", show_default=True)
@click.option("--size", type=int, default=256, show_default=True, help="LR pixels a side.")
@click.option("--dry", is_flag=True, help="Tiny, on a processor where there is no GPU.")
def main(scale: str, size: int, dry: bool) -> None:
    """Measure, print and write kernels.json."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cpu" and not dry:
        raise click.ClickException(
            "there is no NVIDIA GPU here; --dry runs the kernels in Triton's interpreter"
        )
    shape, factor = (8, 8) if dry else (size, size), int(scale)
    peaks = matrix_peaks(kind)
    speed = bandwidth(kind) if kind == "cuda" else bandwidth(kind, 1 << 24)
    device = Device(kind, 1e9 * max(peaks.values()), 1e9 * speed)
    module = build_model("densenet", factor, TINY) if dry else find_model("densenet", factor).module
    network = DenseNetKernels(module, shape, torch.uint8, kind)
    network_us = round(1e6 * device_seconds(network.run, device), 2) if kind == "cuda" else None
    profiled = profile(network.run) if kind == "cuda" else []
    kernels = kernels_of(network)
    rows = [kernel.measure(device) for kernel in kernels]
    found, lost = attempted(rewrites(device, network, kernels, factor, shape))
    gains = [gain.as_json() for gain in found]
    show(f"densenet x{factor}, {size}x{size}" if not dry else "dry", rows, profiled, gains)
    figures = {"network_us": network_us, "rows": rows, "profile": profiled, "rewrites": gains}
    machine = {"dry": dry, "peak_gflop_s": peaks, "bandwidth_gb_s": round(speed, 1)}
    headline = [*headline_of(rows, gains, network_us), *lost]
    sys.exit(leave("kernels", not lost, headline, scale=factor, lr=list(shape), **machine, **figures))


def show(
    title: str, rows: list[dict[str, Any]], profiled: list[dict[str, Any]], gains: list[dict[str, Any]]
) -> None:
    """The tables."""
    console = Console(highlight=False, width=WIDE)
    for name, columns, lines in (
        (title, KERNEL_COLUMNS, rows),
        ("profile", PROFILE_COLUMNS, profiled[:20]),
        ("rewrites", GAIN_COLUMNS, gains),
    ):
        if lines:
            console.print(make_table(name, columns, lines))


def headline_of(
    rows: list[dict[str, Any]], gains: list[dict[str, Any]], network_us: float | None
) -> list[str]:
    """The sums, and the gain of each rewrite."""
    total = sum(row["frame_us"] for row in rows)
    floor = sum(row["predicted_us"] * row["times_a_frame"] for row in rows)
    whole = "" if network_us is None else f", the network in a graph {figure(network_us)} us"
    summary = f"kernels of a frame {figure(total)} us, their floor {figure(floor)} us{whole}"
    lines = [
        f"{g['rewrite']}: {100 * g['found_gain']:+.0f} % (predicted {100 * g['predicted_gain']:+.0f} %)"
        for g in gains
    ]
    return [summary, *lines]


if __name__ == "__main__":
    main()
