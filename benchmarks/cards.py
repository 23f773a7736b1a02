"""The bench of gpu.sh: clesr's engines and eager PyTorch from 256 x 256 pixels, from other sizes, or with one rival.

python benchmarks/cards.py [--limit SECONDS] [--sizes | --rival NAME] [--dry]

A rival is measured in turns with the ``cuda`` engine, at the case of the promises: PyTorch with cuDNN's fastest
kernels, channels-last, in a CUDA graph; torch.compile, in its usual mode and in max-autotune; TensorRT. They are
compared by what the device takes for the network alone.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
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
BEATEN = (baselines.GRAPH, baselines.COMPILED)  # by how much is promised
RIVALS = (*BEATEN, "tensorrt", baselines.SEARCHED)  # each a stage of its own: some compile for minutes
LIGHT = ("fast", 4, (256, 256))
SIZES = tuple(case for case in GPU_CASES if case not in (HELD, LIGHT))
DRY = (("fast", 2, (24, 16)), ("fast", 4, (16, 16)), ("fast", 8, (8, 8)))
MOST_MS, GOAL_MS, OVER_DEVICE_MS = 1.2, 0.95, 1.0
LEAST = {"times": 1.5, "densenet": 1.1, "fast": 1.3}


def promises(rows: list[dict[str, Any]]) -> list[str]:
    """What the ``cuda`` engine's FP16 rows say about what it must hold, a line each, met or not; beside a rival the
    ratio to it alone."""
    said = []
    for row in rows:
        if (
            row["label"] != "cuda fp16"
            or not row["device_ms"]
            or row["lr"] != [256, 256]
            or row["scale"] != 4
        ):
            continue
        case, model, device = case_of(row), row["model"], row["device_ms"]["p50"]
        rivals = [o for o in rows if case_of(o) == case and o["label"].split()[0] in RIVALS]
        said += [_against(rival, device) for rival in rivals]
        if rivals:
            continue
        if model == "densenet":
            wanted = f"at most {MOST_MS}, goal {GOAL_MS}"
            said.append(_line(f"{case}: device {figure(device)} ms", device <= MOST_MS, wanted))
            longest = row["latency_ms"]["p99.9"]
            if longest is None:
                said.append("end to end p99.9: not measured, too few frames")
            else:
                met = longest - device <= OVER_DEVICE_MS
                said.append(
                    _line(f"end to end p99.9 {figure(longest)} ms", met, "within 1 ms of the device's")
                )
        if model in LEAST:
            gain, least = row["depth_gain"], LEAST[model]
            said.append(_line(f"{model}: two slots {gain:.2f} times one", gain >= least, f"at least {least}"))
    return said


def _against(rival: dict[str, Any], device: float) -> str:
    """How many times longer than ``device`` milliseconds the rival's network takes."""
    if not rival["device_ms"]:
        return f"{rival['label']}: what its network takes was not measured"
    times = rival["device_ms"]["p50"] / device
    what = f"{times:.2f} times {rival['label']}, the networks alone"
    beaten = rival["label"].split()[0] in BEATEN
    return _line(what, times >= LEAST["times"], f"at least {LEAST['times']}") if beaten else what


def _line(what: str, met: bool, wanted: str) -> str:
    return f"{what}: {'met' if met else 'NOT MET'} ({wanted})"


def runs(
    candidates: list[EngineCandidate], rival: str | None, sizes: bool, dry: bool
) -> list[tuple[BenchSettings, list[EngineCandidate]]]:
    """What to measure, most important first; ``rival`` beside the ``cuda`` engine at one case. Dry, all engines at all
    scales once."""
    if dry:
        whole = not (rival or sizes)
        cases, engines = (DRY, candidates) if whole else (DRY[:1], candidates[:1])
        return [(BenchSettings(cases=cases, seconds=0.05, repeats=2), engines)]
    if rival:
        beside = [candidate for candidate in candidates if candidate.name in (rival, "cuda")]
        return [(BenchSettings(cases=(HELD,), seconds=1.2), beside)]
    usual = [candidate for candidate in candidates if candidate.name not in RIVALS]
    lengths = dict.fromkeys(SIZES, 1.0) if sizes else {HELD: 2.0, LIGHT: 1.0}  # 1,000 frames for p99.9
    return [(BenchSettings(cases=(case,), seconds=seconds), usual) for case, seconds in lengths.items()]


def measured(
    plans: list[tuple[BenchSettings, list[EngineCandidate]]], limit: float, path: Path
) -> tuple[dict[str, Any], list[str]]:
    """The results, told and written to ``path`` as they come, what was promised first, and what was not begun within
    ``limit`` seconds."""
    begin = perf_counter()
    result: dict[str, Any] = {}
    late: list[str] = []
    for settings, candidates in plans:
        if perf_counter() - begin > limit:
            late += [f"{name} x{scale} was not reached" for name, scale, _ in settings.cases]
            continue
        peaks = result.get("peak_gflop_s")
        cases = ", ".join(f"{name} x{scale} {w}x{h}" for name, scale, (h, w) in settings.cases)
        tell(f"{len(candidates)} engines, {cases}", passing=True)
        found = bench(
            completed(settings, candidates), candidates, peaks=peaks, told=partial(tell, passing=True)
        )
        for row in found["rows"]:
            tell_row(row)
        for line in promises(found["rows"]):
            tell(line)
        for row in found["rows"]:
            tell_parts(row)
        sums = {key: result[key] + found[key] for key in ("rows", "left_out")} if result else {}
        result = found | result | sums
        write(path, result, OWN)
    return result, late


def tell_row(row: dict[str, Any]) -> None:
    """What an engine does at one case."""
    who = f"{case_of(row)}: {row['label']}"
    device = f"; device alone {row['device_ms']['p50']:.3f} ms" if row["device_ms"] else ""
    latency = ", ".join(
        f"{name} {figure(row['latency_ms'][name])}" for name in ("p50", "p99") if row["latency_ms"][name]
    )
    tell(f"{who}: {figure(row['frames_s'])} frames/s, ms {latency}{device}", **row)


def tell_parts(row: dict[str, Any]) -> None:
    """What an engine takes on the device beside the network, a line each."""
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
        sys.exit(leave(stage, True, [reason], measured=False, dry=dry))
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
    for line in (*out, *late):
        tell(line)
    sys.exit(leave(stage, bool(result["rows"]) and not broken, headline, dry=dry))


if __name__ == "__main__":
    main()
