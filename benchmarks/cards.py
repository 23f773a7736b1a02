"""The bench of gpu.sh: clesr's engines and eager PyTorch from 256 x 256 pixels, from other sizes, or with one rival.

python benchmarks/cards.py [--limit SECONDS] [--sizes | --rival torch-graph | torch-compile | tensorrt] [--dry]

A rival is measured in turns with the ``cuda`` engine, at the case of the promises: PyTorch with cuDNN's fastest
kernels, channels-last, in a CUDA graph; torch.compile; TensorRT.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import torch
from rich.console import Console
from stage import folder, leave, tell

from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.files import OWN
from clesr.tools.bench import baselines
from clesr.tools.bench.report import WIDE, case_of, figure, machine_line, tables
from clesr.tools.bench.run import GPU_CASES, BenchSettings, all_candidates, bench, completed
from clesr.tools.bench.stored import write

HELD = ("densenet", 4, (256, 256))  # the case of the promises
RIVALS = (
    baselines.GRAPH,
    baselines.COMPILED,
    "tensorrt",
)  # each a stage of its own: some compile for minutes
LIGHT = ("fast", 4, (256, 256))
SIZES = tuple(case for case in GPU_CASES if case not in (HELD, LIGHT))
DRY = (("fast", 2, (24, 16)), ("fast", 4, (16, 16)), ("fast", 8, (8, 8)))
LEAST = {"device_ms": 1.1, "over": 1.5, "p99.9_over_device_ms": 1.0, "densenet": 1.1, "fast": 1.3}


def promises(rows: list[dict[str, Any]]) -> list[str]:
    """What the ``cuda`` engine's FP16 rows say about what it must hold, a line each, met or not."""
    said = []
    by_label = {(case_of(row), row["label"]): row for row in rows}
    for (case, name), row in by_label.items():
        if name != "cuda fp16" or not row["device_ms"] or row["lr"] != [256, 256] or row["scale"] != 4:
            continue
        model, device = row["model"], row["device_ms"]["p50"]
        if model == "densenet":
            said.append(
                _line(f"{case}: device {figure(device)} ms", device <= LEAST["device_ms"], "at most 1.1")
            )
            for other, ratio in row["over"].items():
                if other.split()[0] in RIVALS:
                    said.append(_line(f"{ratio:.2f} times {other}", ratio >= LEAST["over"], "at least 1.5"))
            longest = row["latency_ms"]["p99.9"]
            if longest is not None:
                over = longest - device
                met = over <= LEAST["p99.9_over_device_ms"]
                said.append(
                    _line(f"end to end p99.9 {figure(longest)} ms", met, "within 1 ms of the device's")
                )
        if model in LEAST:
            gain = row["depth_gain"]
            said.append(
                _line(
                    f"{model}: two slots {gain:.2f} times one",
                    gain >= LEAST[model],
                    f"at least {LEAST[model]}",
                )
            )
    return said


def _line(what: str, met: bool, wanted: str) -> str:
    return f"{what}: {'met' if met else 'NOT MET'} ({wanted})"


def runs(
    candidates: list[EngineCandidate], rival: str | None, sizes: bool, dry: bool
) -> list[tuple[BenchSettings, list[EngineCandidate]]]:
    """What to measure, most important first; ``rival`` beside the ``cuda`` engine at one case."""
    if dry:
        return [(BenchSettings(cases=DRY, seconds=0.05, repeats=2), candidates)]
    if rival:
        beside = [candidate for candidate in candidates if candidate.name in (rival, "cuda")]
        return [(BenchSettings(cases=(HELD,), seconds=3.0), beside)]
    usual = [candidate for candidate in candidates if candidate.name not in RIVALS]
    lengths = dict.fromkeys(SIZES, 1.5) if sizes else {HELD: 3.0, LIGHT: 2.0}
    return [(BenchSettings(cases=(case,), seconds=seconds), usual) for case, seconds in lengths.items()]


def measured(
    plans: list[tuple[BenchSettings, list[EngineCandidate]]], limit: float, path: Path
) -> tuple[dict[str, Any], list[str]]:
    """The results, told and written to ``path`` as they come, and what was not begun within ``limit`` seconds."""
    begin = perf_counter()
    result: dict[str, Any] = {}
    late: list[str] = []
    for settings, candidates in plans:
        if perf_counter() - begin > limit:
            late += [f"{name} x{scale} was not reached" for name, scale, _ in settings.cases]
            continue
        peaks = result.get("peak_gflop_s")
        found = bench(completed(settings, candidates), candidates, peaks=peaks)
        for row in found["rows"]:
            tell_row(row)
        sums = {key: result[key] + found[key] for key in ("rows", "left_out")} if result else {}
        result = found | result | sums
        write(path, result, OWN)
    return result, late


def tell_row(row: dict[str, Any]) -> None:
    """What an engine does at one case; what it takes on the device beside the network, a line each."""
    who = f"{case_of(row)}: {row['label']}"
    device = f"; device alone {row['device_ms']['p50']:.3f} ms" if row["device_ms"] else ""
    latency = ", ".join(
        f"{name} {figure(row['latency_ms'][name])}" for name in ("p50", "p99") if row["latency_ms"][name]
    )
    tell(f"{who}: {figure(row['frames_s'])} frames/s, ms {latency}{device}", **row)
    for name, milliseconds in (row["beside_device_ms"] or {}).items():
        tell(f"  {row['label']}: {name} {milliseconds:.3f} ms", part=name, ms=milliseconds)


@click.command()
@click.option(
    "--limit", type=float, default=100.0, show_default=True, help="Seconds after which no case is begun."
)
@click.option("--rival", type=click.Choice(RIVALS), help="This one beside the cuda engine.")
@click.option("--sizes", is_flag=True, help="The other sizes.")
@click.option("--dry", is_flag=True, help="Tiny, on a processor.")
def main(limit: float, rival: str | None, sizes: bool, dry: bool) -> None:
    """Measure, print, write STAGE.json (bench, sizes or the rival) and clesr-STAGE.json, as `clesr bench --json`."""
    stage = rival or ("sizes" if sizes else "bench")
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    if not dry and not torch.cuda.is_available():
        raise click.ClickException("there is no NVIDIA GPU here; --dry measures what a processor runs")
    candidates = [o for o in all_candidates() if o.kind == ("cpu" if dry else "cuda") and o.available]
    if rival and not dry and rival not in {candidate.name for candidate in candidates}:
        reason = next((o.reason for o in all_candidates() if o.name == rival), "this clesr does not have it")
        tell(f"{rival} was not measured: {reason}")
        sys.exit(leave(stage, True, [f"not measured: {reason}"], dry=dry))
    plans = runs(candidates, rival, sizes, dry)
    result, late = measured(plans, limit, folder() / f"clesr-{stage}.json")
    console = Console(highlight=False, width=WIDE)
    console.print(machine_line(result), markup=False)
    for table in tables(result, WIDE):
        console.print(table)
    said = promises(result["rows"])
    out = [f"{line['case']}: {line['label']} {line['what']}: {line['reason']}" for line in result["left_out"]]
    broken = late or out or any("NOT MET" in line for line in said)
    headline = [*said, *out, *late] or [f"{len(result['rows'])} rows"]
    for line in headline:
        tell(line)
    sys.exit(leave(stage, bool(result["rows"]) and not broken, headline, dry=dry))


if __name__ == "__main__":
    main()
