"""What a run says of itself: its status while it goes on, and what it came to."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.table import Table

from clesr.pipeline.frame import Outcome
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.stats import PERCENTILES
from clesr.pipeline.status import State, Status, Summary
from clesr.tools.common.console import console, progress_bars, repeating
from clesr.tools.common.stderr import stderr

log = logging.getLogger(__name__)


@contextmanager
def following(runs: Mapping[str, tuple[Pipeline, int | None]]) -> Iterator[None]:
    """While the block runs, show the status of each label's pipeline, which gets so many frames, as a progress bar, or
    as lines off a terminal."""

    def show() -> None:
        for label, (pipeline, _) in runs.items():
            now = pipeline.status()
            bars[label](now.captured, describe(now))

    totals = {label: total for label, (_, total) in runs.items()}
    with progress_bars(totals, unit="frames") as bars, repeating(show):
        yield


def describe(status: Status) -> str:
    """``status`` in one short line: rate, age, and every outcome but the good one."""
    waiting = "waiting for the first image" if status.captured else "waiting for the first frame"
    parts = [_rate(status.fps) or waiting]
    if status.age_ns is not None:
        parts.append(f"age {status.age_ns / 1e6:.0f} ms")
    parts += [
        f"{count} {outcome}"
        for outcome, count in status.outcomes.items()
        if count and outcome != Outcome.UPSCALED
    ]
    parts += [f"{status.damaged} damaged"] * bool(status.damaged)
    parts += [str(status.outages)] * bool(status.outages.count)
    if status.stalled and status.state is not State.STOPPED:
        parts.append("SOURCE STALLED")
    return ", ".join([*parts, *([str(status.state)] if status.state != "running" else [])])


def _rate(fps: float) -> str:
    """``fps`` in words; empty for 0, which is what fewer than two images have."""
    return f"{fps:.1f} frames/s" if fps >= 1 else f"{fps:.2g} frames/s" if fps else ""


def describe_fidelity(figures: Mapping[str, Any]) -> str:
    """The fidelity of a run (``Fidelities.summary``) in one line."""
    line = "fidelity, dB: median {p50:.1f}, 1 in 100 below {p1:.1f}, worst {worst:.1f}".format(**figures)
    if figures["worst_tile"] is not None:
        line += f", worst tile {figures['worst_tile']:.1f}"
    if figures["below_limit"] is not None:
        line += "; {below_limit} of {frames} frames with a tile below the limit of {limit:.1f}".format(
            **figures
        )
    return line


def print_summary(summary: Summary) -> None:
    """What a run came to, for a person: outcomes, rate, latency by stage, what was written. Of a single image
    that came through, only what was written."""
    table = Table(title=None, show_edge=False, pad_edge=False, box=None, header_style="bold")
    table.add_column("latency, ms")
    for name in PERCENTILES:
        table.add_column(name, justify="right")
    for stage, row in summary.latency_ms.items():
        table.add_row(stage, *(f"{value:.1f}" for value in row.values()))
    if summary.captured > 1 or not summary.outcomes[Outcome.UPSCALED]:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in summary.outcomes.items() if count)
        log.info(f"captured {summary.captured} frame{'s' * (summary.captured > 1)}: {outcomes or 'none'}")
        if summary.damaged:
            log.info(f"damaged: {summary.damaged} frames build on a damaged picture")
        if summary.outage_total:
            log.info(f"the source was away: {summary.outage_total}")
        if summary.latency_ms:
            log.info(f"{_rate(summary.fps) or 'computed'} by {summary.engine}")
            if stderr.speaks_json:
                for stage, row in summary.latency_ms.items():
                    figures = ", ".join(f"{name} {value:.1f}" for name, value in row.items())
                    log.info(f"latency, ms, {stage}: {figures}")
            elif log.isEnabledFor(logging.INFO):
                console.print(table)
    if summary.fidelity:
        log.info(describe_fidelity(summary.fidelity))
    for name, counts in summary.sinks.items():
        if counts["skipped"]:
            log.info(f"{name}: {counts['written']} shown or sent, {counts['skipped']} skipped")
    for line in summary.outputs:
        name = line.partition(":")[0]
        if name != "null":  # which keeps nothing
            log.info(line if name == "window" else f"wrote {line}")
