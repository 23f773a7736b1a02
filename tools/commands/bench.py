"""`clesr bench`: whether this machine, or this card, holds video rate."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from clesr.engines.common.files import WriteRule
from clesr.engines.models.registry import SCALES
from clesr.pipeline.settings import overwriting, setting
from clesr.tools.common.console import progress_bar
from clesr.tools.common.options import command, parse_size

log = logging.getLogger(__name__)
_what, _how_long, _output = (partial(setting, panel=panel) for panel in ("What", "How long", "Output"))
MODELS, SIZE = ("densenet", "fast"), "256x256"

Cases = tuple[tuple[str, int, tuple[int, int]], ...]


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What to measure, for how long, and where the result goes."""

    model: tuple[str, ...] = _what((), "Repeat for more.", "NAME|FILE")
    scale: tuple[str, ...] = _what((), "Repeat for more.", choices=SCALES)
    size: tuple[str, ...] = _what((), "Of the LR image.  Repeat for more.", "WIDTHxHEIGHT")
    engine: tuple[str, ...] = _what(
        (),
        "cuda, tensorrt, openvino, torch; PyTorch alone in FP16: torch-eager, torch-graph, torch-compile, "
        "torch-max-autotune; or all.  Repeat for more.  [default: what this machine has, but the last two, which "
        "compile first]",
        "NAME",
    )
    device: str | None = _what(None, "Engines of this device alone.", choices=("cpu", "cuda", "gpu"))
    precision: str | None = _what(None, "Engines of this precision alone: fp32, bf16, fp16.", "NAME")
    seconds: float | None = _how_long(
        None,
        "Of each measurement: one frame at a time, frames in flight.  [default: 1; on an NVIDIA GPU 2]",
        "S",
        above_zero=True,
    )
    repeats: int = _how_long(3, "Turns that the engines take; the median counts.", minimum=1)
    threads: int | None = _how_long(None, "Processor threads.  [default: all]", "N", minimum=1)
    json: str | None = _output(None, "Write every figure as JSON.", "FILE")
    plot: str | None = _output(None, "Draw frames/s and latency.", "FILE.png")
    compare: tuple[str, str] | None = _output(
        None, "Measure nothing; show two results beside each other.", "A.json B.json", nargs=2
    )
    overwrite: bool = overwriting("Output")


@command(BenchOptions)
def bench(options: BenchOptions) -> None:
    """Measure the engines side by side: does this machine hold video rate, and for how many streams?

    The engines take turns on the same image. Frames/s are with two frames in flight; latency is from NumPy array to
    NumPy array, one frame at a time; "device" is the network alone, by the GPU's own clock, and beside it stand the
    copies, the check of the image and the launch. An engine whose image is not that of PyTorch in
    FP32 (1 grey level on average, 4 at most) is named and not measured.

    Examples:

    - `clesr bench`
    - `clesr bench --model densenet --scale 4 --size 256x256 --engine all --json card.json --plot card.png`
    - `clesr bench --compare laptop.json card.json`
    """
    from clesr.tools.bench import plot, run, stored

    if options.compare:
        _compare(options.compare)
        return
    if options.plot:
        plot.check_plot()
    rule = WriteRule.of(options.overwrite, *options.model)
    rule.check_all(options.json, options.plot)
    settings = run.BenchSettings(
        engines=_engines(options.engine),
        device=options.device,
        precision=options.precision,
        cases=_cases(options.model, options.scale, options.size),
        seconds=options.seconds,
        repeats=options.repeats,
    )
    result = _measure(settings, options.threads)
    _show(result)
    if options.json:
        stored.write(Path(options.json), result, rule)
        log.info(f"wrote {options.json}")
    if options.plot and result["rows"]:
        plot.draw(result, Path(options.plot), rule)
        log.info(f"wrote {options.plot}")
    asked_and_refused = any(line["engine"] in options.engine for line in result["left_out"])
    if asked_and_refused or not result["rows"]:
        raise SystemExit(1)


def _measure(settings: Any, threads: int | None) -> dict[str, Any]:
    import torch

    from clesr.tools.bench import run

    if threads:
        torch.set_num_threads(threads)
    candidates, missing = run.wanted_candidates(settings, run.all_candidates())
    for candidate in missing:
        log.warning(f"not measured: {candidate.name} {candidate.precision} ({candidate.reason})")
    settings = run.completed(settings, candidates)
    steps = len(settings.cases) * len(candidates) * (1 + settings.repeats)
    about = run.estimate_s(settings, candidates)
    log.info(
        f"{len(settings.cases)} cases, {len(candidates)} engines: about {about:.0f} s, more where an engine "
        "compiles or a frame takes long"
    )
    done = itertools.count(1)
    with progress_bar("bench", steps, unit="turns") as move:
        return run.bench(settings, candidates, threads=threads, advance=lambda what: move(next(done), what))


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
    from clesr.engines.models.weights import read_descriptor

    if not (models or scales or sizes):
        return ()
    shapes = [parse_size(size) for size in sizes or (SIZE,)]
    cases = []
    for model in models or MODELS:
        own = (
            [read_descriptor(Path(model)).scale] if Path(model).suffix else [int(s) for s in scales or ("4",)]
        )
        cases += [(model, scale, shape) for scale in own for shape in shapes]
    return tuple(cases)
