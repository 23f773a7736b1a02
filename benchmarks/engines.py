"""OpenVINO against PyTorch in FP32, in one run: times, ratio, agreement, PSNR.

python benchmarks/engines.py [--case densenet:4:128x128 ...] [--output FILE]

``torch`` is what a user would write: the network as it is, contiguous, FP32, inference mode. ``torch_engine`` is
clesr's reference engine, ``openvino`` the engine that `auto` takes without a GPU. They take turns frame by
frame, so that whatever else the machine does meets all of them alike. A time is from one LR image in host
memory to its SR image there, both as integers.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
import torch
from common import environment, lr_and_hr, percentiles
from numpy.typing import NDArray

from clesr.engines.common.files import OWN, write_json
from clesr.engines.engine import Engine
from clesr.engines.factory import open_engine
from clesr.engines.interpolation import interpolate
from clesr.engines.models.weights import Model, find_model
from clesr.engines.reference import reference_image
from clesr.tools.evaluation.metrics import psnr

CASES = ("densenet:4:128x128", "fast:4:256x256", "fast:2:256x256", "fast:8:128x128")
SECONDS = 60.0
REPEATS = (5, 200)  # turns of each contender, at least and at most

Pixels = NDArray[np.uint8]
Contender = Callable[[Pixels], Pixels]


def through(engine: Engine) -> Contender:
    """``engine`` as a function."""

    def run(lr: Pixels) -> Pixels:
        engine.submit(lr)
        sr: Pixels = engine.collect().astype(np.uint8, copy=False)
        return sr

    return run


def take_turns(contenders: Mapping[str, Contender], lr: Pixels) -> dict[str, list[float]]:
    """Seconds a frame of each, after a first turn that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run(lr)
    least, most = REPEATS
    begin = perf_counter()
    for turn in range(most):
        if turn >= least and perf_counter() - begin > SECONDS:
            break
        for name, run in contenders.items():
            start = perf_counter()
            run(lr)
            seconds[name].append(perf_counter() - start)
    return seconds


def measure(model: Model, shape: tuple[int, int], threads: int | None) -> dict[str, Any]:
    """One row of the results."""
    torch_engine = open_engine("torch", model, model.scale, shape, device="cpu", threads=threads)
    openvino = open_engine("openvino", model, model.scale, shape, threads=threads)
    contenders: dict[str, Contender] = {
        "torch": lambda lr: reference_image(model.module, lr),  # type: ignore[dict-item,return-value]
        "torch_engine": through(torch_engine),
        "openvino": through(openvino),
    }
    lr, hr = lr_and_hr(model.scale, shape)
    seconds = take_turns(contenders, lr)
    reference, sr = contenders["torch"](lr), contenders["openvino"](lr)
    torch_engine.close()
    openvino.close()
    difference = np.abs(reference.astype(int) - sr)
    everywhere = np.ones(hr.shape, bool)
    bicubic = interpolate(lr, method="bicubic", scale=model.scale)
    ratios = [t / o for t, o in zip(seconds["torch"], seconds["openvino"], strict=True)]
    return {
        "model": model.name,
        "scale": model.scale,
        "sha256": model.sha256,
        "lr": list(shape),
        "engine": openvino.info.choice,
        "turns": len(ratios),
        "torch_ms": round(1e3 * statistics.median(seconds["torch"]), 2),
        "openvino_ms": round(1e3 * statistics.median(seconds["openvino"]), 2),
        "ratio": round(statistics.median(ratios), 3),
        "latency_ms": {name: percentiles(values) for name, values in seconds.items()},
        "levels_from_torch": {"mean": round(float(difference.mean()), 5), "max": int(difference.max())},
        "psnr_db": {
            "openvino": round(psnr(hr, sr, everywhere), 3),
            "torch": round(psnr(hr, reference, everywhere), 3),
            "bicubic": round(psnr(hr, bicubic.astype(np.uint8), everywhere), 3),
        },
    }


@click.command()
@click.option("--case", "cases", multiple=True, metavar="NAME:SCALE:HxW", default=CASES, show_default=True)
@click.option("--threads", type=int, help="of every contender; all cores where not given")
@click.option("--output", default="benchmarks/results/engines.json", show_default=True)
def main(cases: tuple[str, ...], threads: int | None, output: str) -> None:
    """Measure and write JSON."""
    rows = []
    for case in cases:
        name, scale, size = case.rsplit(":", 2)
        height, width = map(int, size.split("x"))
        row = measure(find_model(name, int(scale)), (height, width), threads)
        rows.append(row)
        click.echo(
            f"{case}: torch {row['torch_ms']:.1f} ms, openvino {row['openvino_ms']:.1f} ms, ratio "
            f"{row['ratio']:.2f}; {row['levels_from_torch']} levels; PSNR {row['psnr_db']}"
        )
    result = {"benchmark": "engines", **environment(), "threads": torch.get_num_threads(), "rows": rows}
    write_json(Path(output), result, OWN)
    click.echo(f"wrote {output}")


if __name__ == "__main__":
    main()
