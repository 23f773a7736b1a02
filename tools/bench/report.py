"""A result of the bench as tables on a terminal: one run, or two cards beside each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from clesr.pipeline.stats import PERCENTILES
from clesr.tools.bench.figures import VIDEO_RATE

BenchRow = dict[str, Any]
Column = tuple[str, Callable[[BenchRow], str]]


def case_of(row: BenchRow) -> str:
    """Model, scale and LR width x height, as people say it."""
    height, width = row["lr"]
    return (
        f"{row['model']} x{row['scale']}, {width}x{height} to {width * row['scale']}x{height * row['scale']}"
    )


def by_case(rows: Sequence[BenchRow]) -> dict[str, list[BenchRow]]:
    """The rows of each case, fastest first."""
    cases: dict[str, list[BenchRow]] = {}
    for row in rows:
        cases.setdefault(case_of(row), []).append(row)
    return {case: sorted(found, key=lambda row: -row["frames_s"]) for case, found in cases.items()}


SPEED: tuple[Column, ...] = (
    ("engine", lambda row: str(row["label"])),
    ("frames/s", lambda row: figure(row["frames_s"])),
    ("times\nslowest", lambda row: f"{max(1.0, *row['over'].values()):.2f}" if row["over"] else ""),
    ("streams\nat 30", lambda row: str(row["streams_30"])),
    ("in flight\n/ single", lambda row: f"{row['depth_gain']:.2f}"),
    *(
        (f"{'ms ' if name == 'p50' else ''}{name}", lambda row, name=name: figure(row["latency_ms"][name]))
        for name in PERCENTILES
    ),
    ("device\nms p50", lambda row: figure(row["device_ms"]["p50"] if row["device_ms"] else None)),
    ("copies, check,\nlaunch ms", lambda row: beside(row)),
)
COST: tuple[Column, ...] = (
    ("GFLOP/s", lambda row: f"{row['gflop_s']:.0f}"),
    ("of\npeak", lambda row: "" if row["of_peak"] is None else f"{100 * row['of_peak']:.0f} %"),
    ("device\nMB", lambda row: whole(row["device_mb"])),
    ("host\nMB", lambda row: whole(row["host_mb"])),
    ("W", lambda row: whole(row["watts"])),
    ("from FP32:\nmean, max", lambda row: f"{row['parity']['mean']:.3f}, {row['parity']['max']}"),
    ("PSNR\ndB", lambda row: signed(row["psnr_db"]["difference"])),
)
WIDE = 132  # characters, from which on both stand beside each other


def tables(result: dict[str, Any], width: int) -> Iterator[Table]:
    """A table for each case, two below each other where the terminal is narrower than WIDE; columns without any figure
    are left out."""
    for case, rows in by_case(result["rows"]).items():
        title = f"{case}; FP32 reference {rows[0]['psnr_db']['reference']:.2f} dB"
        if width >= WIDE:
            yield make_table(title, (*SPEED, *COST), rows)
        else:
            yield make_table(title, SPEED, rows)
            yield make_table(None, (SPEED[0], *COST), rows)


def make_table(title: str | None, columns: Sequence[Column], rows: Sequence[BenchRow]) -> Table:
    """``rows`` under ``columns``, but those that have no figure at all."""
    table = Table(
        title=title and Text(title), title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    cells = [[text(row) for _, text in columns] for row in rows]
    kept = [i for i in range(len(columns)) if any(line[i] for line in cells)]
    for i in kept:
        table.add_column(columns[i][0], justify="right" if i else "left", vertical="bottom", no_wrap=True)
    for line in cells:
        table.add_row(*(line[i] or "–" for i in kept))
    return table


def verdicts(result: dict[str, Any]) -> Iterator[str]:
    """For each case, whether an engine holds video rate here."""
    for case, rows in by_case(result["rows"]).items():
        best = rows[0]
        rate = f"{best['label']} does {figure(best['frames_s'])} frames/s"
        if best["streams_30"]:
            count = best["streams_30"]
            yield f"holds {VIDEO_RATE:g} frames/s, {count} stream{'s' * (count > 1)}: {case}: {rate}"
        else:
            yield f"too slow for {VIDEO_RATE:g} frames/s: {case}: {rate}"


def machine_line(result: dict[str, Any]) -> str:
    """Where and with what it was measured."""
    machine, versions = result["machine"], result["versions"]
    card = f"{machine['gpu']} (driver {machine.get('driver')}); " if machine["gpu"] else ""
    peaks = ", ".join(
        f"{kind} {precision} {speed / 1e3:.3g} TFLOP/s"
        for kind, found in result["peak_gflop_s"].items()
        for precision, speed in found.items()
    )
    commit = f" at {result['commit']}" if result["commit"] else ""
    return (
        f"{card}{machine['cpu']}, {machine['cores']} cores; clesr {versions['clesr']}{commit}, torch "
        f"{versions.get('torch')}; matrix peak {peaks}; PSNR on {result['settings']['images']}"
    )


def comparison(a: dict[str, Any], b: dict[str, Any]) -> Iterator[Table | str]:
    """Two results beside each other: machines, a table for each case of what both have, what only one has."""
    yield f"A: {machine_line(a)}"
    yield f"B: {machine_line(b)}"
    ours, theirs = ({_key(row): row for row in result["rows"]} for result in (a, b))
    both = [{"A": ours[key], "B": theirs[key]} for key in ours if key in theirs]
    cases: dict[str, list[BenchRow]] = {}
    for pair in both:
        cases.setdefault(case_of(pair["A"]), []).append(pair)
    for case, pairs in cases.items():
        yield make_table(case, COMPARED, pairs)
    for name, mine, other in (("A", ours, theirs), ("B", theirs, ours)):
        alone = [f"{case_of(row)} by {row['label']}" for key, row in mine.items() if key not in other]
        if alone:
            yield f"only in {name}: {'; '.join(alone)}"
    if not both:
        yield "the two have nothing in common to compare"


def _key(row: BenchRow) -> tuple[object, ...]:
    return row["model"], row["scale"], tuple(row["lr"]), row["label"]


def _both(head: str, text: Callable[[BenchRow], str]) -> tuple[Column, Column]:
    """The same column of A and of B."""
    return (f"{head}\nA", lambda pair: text(pair["A"])), ("\nB", lambda pair: text(pair["B"]))


COMPARED: tuple[Column, ...] = (
    ("engine", lambda pair: str(pair["A"]["label"])),
    *_both("frames/s", lambda row: figure(row["frames_s"])),
    ("\nB / A", lambda pair: f"{pair['B']['frames_s'] / pair['A']['frames_s']:.2f}"),
    *_both("ms p50", lambda row: figure(row["latency_ms"]["p50"])),
    *_both("ms p99", lambda row: figure(row["latency_ms"]["p99"])),
    *_both("streams", lambda row: str(row["streams_30"])),
    *_both("W", lambda row: whole(row["watts"])),
)


def figure(value: float | None) -> str:
    """Three figures that count, as people write them; empty for None."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def beside(row: BenchRow) -> str:
    """What a frame takes on the device beside the network, milliseconds; empty where it was not measured."""
    found = row.get("beside_device_ms") or {}
    return ", ".join(f"{found[name]:.3f}" for name in ("copies", "check", "launch") if name in found)


def signed(value: float) -> str:
    """Three places behind the point, with the sign, but of nothing."""
    return f"{round(value, 3) + 0.0:+.3f}"


def whole(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
