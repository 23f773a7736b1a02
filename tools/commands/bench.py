"""`clesr bench`: whether this machine, or this card, holds video rate."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import rich_click as click
from rich.console import Console

from clesr.engines.common.errors import UsageError
from clesr.engines.common.files import WriteRule
from clesr.engines.models.registry import SCALES
from clesr.engines.models.weights import read_descriptor
from clesr.tools.console import progress_bar, tell
from clesr.tools.options import general_options, overwrite_option

MODELS, SIZE = ("densenet", "fast"), "256x256"

Cases = tuple[tuple[str, int, tuple[int, int]], ...]


@click.command()
@click.option_panel("What", options=["--model", "--scale", "--size", "--engine", "--device", "--precision"])
@click.option_panel("How long", options=["--seconds", "--repeats", "--threads"])
@click.option_panel("Output", options=["--json", "--plot", "--overwrite", "--compare"])
@click.option("--model", "models", multiple=True, metavar="NAME|FILE", help="Repeat for more.")
@click.option(
    "--scale", "scales", multiple=True, type=click.Choice([str(s) for s in SCALES]), help="Repeat for more."
)
@click.option(
    "--size", "sizes", multiple=True, metavar="WIDTHxHEIGHT", help="Of the LR image.  Repeat for more."
)
@click.option(
    "--engine",
    "names",
    multiple=True,
    metavar="NAME",
    help="cuda, tensorrt, openvino, torch, torch-eager or torch-compile (FP16 by PyTorch alone), or all.  Repeat for "
    "more.  [default: what this machine has, but torch-compile, whose tuning takes minutes]",
)
@click.option("--device", type=click.Choice(["cpu", "cuda", "gpu"]), help="Engines of this device alone.")
@click.option("--precision", metavar="NAME", help="Engines of this precision alone: fp32, bf16, fp16, fp8.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="Of each measurement: one frame at a time, frames in flight.  [default: 1; on an NVIDIA GPU 2]",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Turns that the engines take; the median counts.",
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Processor threads.  [default: all]")
@click.option("--json", "json_file", metavar="FILE", help="Write every figure as JSON.")
@click.option("--plot", "plot_file", metavar="FILE.png", help="Draw frames/s and latency.")
@click.option(
    "--compare", nargs=2, metavar="A.json B.json", help="Measure nothing; show two results beside each other."
)
@overwrite_option()
@general_options()
def bench(
    models: tuple[str, ...],
    scales: tuple[str, ...],
    sizes: tuple[str, ...],
    names: tuple[str, ...],
    device: str | None,
    precision: str | None,
    seconds: float | None,
    repeats: int,
    threads: int | None,
    json_file: str | None,
    plot_file: str | None,
    compare: tuple[str, str] | None,
    overwrite: bool,
) -> None:
    """Measure the engines side by side: does this machine hold video rate, and for how many streams?

    The engines take turns on the same image. Frames/s are with two frames in flight; latency is from NumPy array to
    NumPy array, one frame at a time; "device" is the GPU's own clock. An engine whose image is not that of PyTorch in
    FP32 (1 grey level on average, 4 at most) is named and not measured.

    Examples:

    - `clesr bench`
    - `clesr bench --model densenet --scale 4 --size 256x256 --engine all --json card.json --plot card.png`
    - `clesr bench --compare laptop.json card.json`
    """
    from clesr.tools.bench import plot, run, stored

    if compare:
        _compare(compare)
        return
    if plot_file:
        plot.check_plot()
    rule = WriteRule.of(overwrite, *models)
    rule.check_all(json_file, plot_file)
    settings = run.Settings(
        engines=_engines(names),
        device=device,
        precision=precision,
        cases=_cases(models, scales, sizes),
        seconds=seconds,
        repeats=repeats,
    )
    result = _measure(settings, threads)
    _show(result)
    if json_file:
        stored.write(Path(json_file), result, rule)
        tell(f"wrote {json_file}")
    if plot_file and result["rows"]:
        plot.draw(result, Path(plot_file), rule)
        tell(f"wrote {plot_file}")
    asked_and_refused = any(line["engine"] in names for line in result["left_out"])
    if asked_and_refused or not result["rows"]:
        raise SystemExit(1)


def _measure(settings: Any, threads: int | None) -> dict[str, Any]:
    import torch

    from clesr.tools.bench import run

    if threads:
        torch.set_num_threads(threads)
    candidates, missing = run.wanted_candidates(settings, run.all_candidates())
    for candidate in missing:
        tell(f"not measured: {candidate.name} {candidate.precision} ({candidate.reason})")
    settings = run.completed(settings, candidates)
    steps = len(settings.cases) * len(candidates) * (1 + settings.repeats)
    about = run.estimate_s(settings, candidates)
    tell(
        f"{len(settings.cases)} cases, {len(candidates)} engines: about {about:.0f} s, more where an engine "
        "compiles or a frame takes long"
    )
    done = 0
    with progress_bar("bench", steps, unit="turns") as move:

        def advance(what: str) -> None:
            nonlocal done
            done += 1
            move(done, what)

        return run.bench(settings, candidates, threads=threads, advance=advance, tell=tell)


def _show(result: dict[str, Any]) -> None:
    from clesr.tools.bench.report import machine_line, tables, verdicts

    console = Console(highlight=False)
    console.print(machine_line(result), markup=False)
    console.print()
    for table in tables(result, console.width):
        console.print(table)
        console.print()
    for line in verdicts(result):
        console.print(line, markup=False)


def _compare(files: tuple[str, str]) -> None:
    from clesr.tools.bench.report import comparison
    from clesr.tools.bench.stored import read

    console = Console(highlight=False)
    for part in comparison(*(read(Path(file)) for file in files)):
        console.print(part)


def _engines(names: tuple[str, ...]) -> tuple[str, ...]:
    from clesr.tools.bench.run import all_candidates

    if "all" not in names:
        return names
    return tuple(dict.fromkeys(candidate.name for candidate in all_candidates() if candidate.available))


def _cases(models: tuple[str, ...], scales: tuple[str, ...], sizes: tuple[str, ...]) -> Cases:
    """Every model at every scale and size; none where nothing was asked for."""
    if not (models or scales or sizes):
        return ()
    shapes = [_shape(size) for size in sizes or (SIZE,)]
    cases = []
    for model in models or MODELS:
        own = (
            [read_descriptor(Path(model)).scale] if Path(model).suffix else [int(s) for s in scales or ("4",)]
        )
        cases += [(model, scale, shape) for scale in own for shape in shapes]
    return tuple(cases)


def _shape(size: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", size)
    if match is None:
        raise UsageError(f"--size {size} is not WIDTHxHEIGHT, such as 256x256")
    return int(match[2]), int(match[1])
