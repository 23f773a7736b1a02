"""The bench of gpu.sh: every engine and baseline at the case that is held against others, clesr's engines at the rest.

python benchmarks/cards.py [--limit SECONDS] [--dry]
"""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Any

import click
import torch
from rich.console import Console
from stage import folder, leave

from clesr.engines.offer import Offer
from clesr.tools.benching import baselines
from clesr.tools.benching.report import WIDE, case_of, figure, machine_line, tables
from clesr.tools.benching.run import GPU_CASES, Settings, all_offers, bench, completed, write

HELD = ("densenet", 4, (256, 256))  # the case of the promises
LIGHT = ("fast", 4, (256, 256))
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
                if other.split()[0] in (baselines.COMPILED, "tensorrt"):
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


def runs(offers: list[Offer], dry: bool) -> list[tuple[Settings, list[Offer]]]:
    """What to measure, most important first: slow compilers at the one case alone."""
    if dry:
        return [(Settings(cases=DRY, seconds=0.05, repeats=2), offers)]
    usual = [offer for offer in offers if offer.name != baselines.COMPILED]
    rest = tuple(case for case in GPU_CASES if case not in (HELD, LIGHT))
    return [
        (Settings(cases=(HELD,), seconds=3.0), offers),
        (Settings(cases=(LIGHT,), seconds=2.0), usual),
        *((Settings(cases=(case,), seconds=1.5), usual) for case in rest),
    ]


@click.command()
@click.option(
    "--limit", type=float, default=170.0, show_default=True, help="Seconds after which no case is begun."
)
@click.option("--dry", is_flag=True, help="Tiny, on a processor.")
def main(limit: float, dry: bool) -> None:
    """Measure, print, write bench.json (as `clesr bench --json`) and cards.json."""
    if not dry and not torch.cuda.is_available():
        raise click.ClickException("there is no NVIDIA GPU here; --dry measures what a processor runs")
    device = "cpu" if dry else "cuda"
    offers = [o for o in all_offers() if o.kind == device and o.available]
    begin, result = perf_counter(), None
    late: list[str] = []
    for settings, some in runs(offers, dry):
        if perf_counter() - begin > limit:
            late += [f"{name} x{scale} was not reached" for name, scale, _ in settings.cases]
            continue
        peaks = result and result["peak_gflop_s"]
        found = bench(completed(settings, some), some, peaks=peaks, tell=click.echo)
        if result is None:
            result = found
        else:
            result = result | {key: result[key] + found[key] for key in ("rows", "left_out")}
        write(folder() / "bench.json", result)
    assert result is not None
    console = Console(highlight=False, width=WIDE)
    console.print(machine_line(result), markup=False)
    for table in tables(result, WIDE):
        console.print(table)
    said = promises(result["rows"])
    refused = [
        f"{line['case']}: {line['label']} {line['what']}: {line['reason']}" for line in result["left_out"]
    ]
    passed = (
        bool(result["rows"])
        and not late
        and not any(line["what"] == "refused" for line in result["left_out"])
    )
    passed = passed and not any("NOT MET" in line for line in said)
    sys.exit(leave("cards", passed, [*said, *refused, *late] or [f"{len(result['rows'])} rows"], dry=dry))


if __name__ == "__main__":
    main()
