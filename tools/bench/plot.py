"""A result of the bench as a picture: frames a second and latency of every engine, case by case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clesr.engines.common.errors import ClesrError, MissingDependencyError
from clesr.engines.common.files import NEW, WriteRule, new_file
from clesr.pipeline.stats import PERCENTILES
from clesr.tools.bench.figures import VIDEO_RATE
from clesr.tools.bench.report import by_case, figure

WIDTH, BAR, AROUND = 10.5, 0.34, 0.75  # inches: of the picture, of a bar, above and below the bars of a case


def check_plot() -> None:
    """Raise MissingDependencyError, before anything is measured, where nothing can be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "--plot needs matplotlib; install it with: pip install 'clesr[train]'"
        ) from error


def draw(result: dict[str, Any], path: Path, rule: WriteRule = NEW) -> None:
    """Write ``result`` as an image to ``path``. Raises ClesrError where it cannot be written, or ``rule``
    forbids it."""
    check_plot()
    from matplotlib.figure import Figure

    cases = by_case(result["rows"])
    heights = [BAR * len(rows) + AROUND for rows in cases.values()]
    shown = Figure(figsize=(WIDTH, sum(heights) + 0.6), layout="constrained")
    grid = {"height_ratios": heights, "width_ratios": (1.15, 1)}
    axes = shown.subplots(len(cases), 2, squeeze=False, sharex="col", gridspec_kw=grid)
    colours = _colours([row["label"] for row in result["rows"]])
    for (left, right), (case, rows) in zip(axes, cases.items(), strict=True):
        _rates(left, case, rows, colours)
        _latencies(right, rows, colours)
    axes[-1][0].set_xlabel(f"frames/s (dashed: {VIDEO_RATE:g}, video rate)")
    axes[-1][1].set_xlabel("latency, ms: p50 … highest percentile measured")
    machine = result["machine"]
    shown.suptitle(machine["gpu"] or f"{machine['cpu']}, {machine['cores']} cores", fontsize="medium")
    try:
        with new_file(path, rule) as temporary:
            shown.savefig(temporary, dpi=130)
    except ValueError as error:
        raise ClesrError(f"the plot cannot be written to {path}: {error}; end its name in .png") from error


def _rates(axes: Any, case: str, rows: list[dict[str, Any]], colours: dict[str, Any]) -> None:
    labels, rates = [row["label"] for row in rows], [row["frames_s"] for row in rows]
    bars = axes.barh(labels, rates, color=[colours[name] for name in labels], height=0.7)
    axes.bar_label(bars, [figure(rate) for rate in rates], padding=3, fontsize="small")
    axes.axvline(VIDEO_RATE, color="0.25", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    _finish(axes, len(rows))
    axes.set_title(case, loc="left", fontsize="medium")


def _latencies(axes: Any, rows: list[dict[str, Any]], colours: dict[str, Any]) -> None:
    for at, row in enumerate(rows):
        known = {name: row["latency_ms"][name] for name in PERCENTILES if row["latency_ms"][name]}
        name, longest = list(known.items())[-1]
        colour = colours[row["label"]]
        axes.plot([known["p50"], longest], [at, at], color=colour, linewidth=2.5, solid_capstyle="round")
        axes.plot(known["p50"], at, "o", color=colour, markersize=6)
        text = figure(known["p50"]) + (f" … {figure(longest)} ({name})" if name != "p50" else "")
        axes.annotate(text, (longest, at), (7, 0), textcoords="offset points", va="center", fontsize="small")
    axes.set_xscale("log")
    axes.margins(x=0.35)
    axes.set_yticks([])
    _finish(axes, len(rows))


def _finish(axes: Any, count: int) -> None:
    axes.set_ylim(count - 0.5, -0.5)  # the fastest on top
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _colours(labels: list[str]) -> dict[str, Any]:
    from matplotlib import colormaps

    palette = colormaps["tab10"]
    return {label: palette(i % 10) for i, label in enumerate(dict.fromkeys(sorted(labels)))}
