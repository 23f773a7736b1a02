"""What degradations do to every model: gain over bicubic on images whose truth is known.

python benchmarks/degradations.py --data 'test/cle_*' [--methods bicubic fast ...] [--scales 4] [--output FILE]
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import environment

from clesr.engines.models.registry import SCALES
from clesr.engines.models.weights import load_model, shipped
from clesr.engines.view import field_of_view
from clesr.tools.common.console import progress_bar, user_logging
from clesr.tools.data.degradations import parse_degradations
from clesr.tools.data.degrade import crop_to_multiple
from clesr.tools.data.images import read_entry
from clesr.tools.data.pairs import noise_of
from clesr.tools.evaluation.evaluate import ImageScore, MethodSummary, evaluate, summarise
from clesr.tools.evaluation.methods import label_methods, open_method, wanted_methods

BASELINE = "bicubic"
SUFFERED = (
    "clean", "noise=2", "noise=5", "noise=10", "shot=0.25", "jpeg=80", "jpeg=50", "mpeg=8", "noise=3+jpeg=80", "point",
    "area", "gauss=0.4", "cores=1.5", "lines=0.3",
)  # fmt: skip
NOISES = (2, 5, 10)  # grey levels


def as_record(line: MethodSummary) -> dict[str, Any]:
    assert line.gain is not None
    return {
        "method": line.method,
        "scale": line.scale,
        "degradation": line.degradation,
        "psnr_db": round(line.psnr.value, 3),
        "gain_db": round(line.gain.value, 3),
        "low_db": round(line.gain.low, 3),
        "high_db": round(line.gain.high, 3),
    }


def identities(methods: list[str], scales: list[int]) -> dict[str, str]:
    """Which weights each method had, by its name in the table and the scale."""
    found = {}
    for method, label in label_methods(methods).items():
        for scale in scales:
            path = Path(method) if Path(method).is_file() else shipped().get((method, scale))
            if path is not None and (model := load_model(path)).scale == scale:
                found[f"{label} x{scale}"] = model.sha256
    return found


def amplification(
    images: list[tuple[str, Any]], methods: list[str], scales: list[int], engine: str
) -> list[dict[str, Any]]:
    """How many times more of the LR image's noise is in each method's image than in the bicubic one: by the
    difference between what it makes of the same image with two draws of noise, inside the disc; means over images."""
    called = label_methods(methods)
    rows = []
    for scale, noise in itertools.product(scales, NOISES):
        (noisy,) = parse_degradations(f"noise={noise}")
        found = [open_method(name, scale, engine=engine, label=called[name]) for name in methods]
        left: dict[str, list[float]] = {}
        for number, (_, image) in enumerate(images):
            hr = np.ascontiguousarray(crop_to_multiple(image, scale))
            mask = field_of_view(hr)
            draws = [noisy(hr, scale, noise_of(2 * number + draw)) for draw in (0, 1)]
            for method in filter(None, found):
                one, other = (method(lr, anew=False)[0].astype(np.float32) for lr in draws)
                left.setdefault(method.name, []).append(float((one - other)[mask].std()))
        for method in filter(None, found):
            method.close()
            ratio = np.mean(np.divide(left[method.name], left[BASELINE]))
            rows.append(
                {
                    "method": method.name,
                    "scale": scale,
                    "noise": noise,
                    "times_bicubic": round(float(ratio), 3),
                }
            )
    return [row for row in rows if row["method"] != BASELINE]


def measure(
    images: list[tuple[str, Any]], methods: list[str], scales: list[int], engine: str
) -> list[ImageScore]:
    suffered = parse_degradations(",".join(SUFFERED))
    total = len(images) * len(methods) * len(scales) * len(suffered)
    with user_logging(), progress_bar("degradations", total, unit="images") as on:
        rows, _ = evaluate(
            images,
            methods=methods,
            scales=scales,
            sizes=["native"],
            degradations=suffered,
            engine=engine,
            advance=lambda done: on(done, ""),
        )
    return rows


@click.command()
@click.option("--data", required=True, help="Images as of `clesr evaluate`.")
@click.option(
    "--methods",
    default="bicubic,fast,densenet,srcnn,a+,span",
    show_default=True,
    help="Names and files, by commas.",
)
@click.option("--scales", default="2,4,8", show_default=True)
@click.option("--engine", default="auto", show_default=True)
@click.option("--output", default="benchmarks/results/degradations/shipped.json", show_default=True)
def main(data: str, methods: str, scales: str, engine: str, output: str) -> None:
    """Measure, write JSON."""
    wanted = wanted_methods([BASELINE, *(m for m in methods.split(",") if m != BASELINE)])
    factors = [scale for scale in SCALES if str(scale) in scales.split(",")]
    images = list(read_entry(data))
    rows = measure(images, wanted, factors, engine)
    result = {
        "benchmark": "degradations",
        **environment(),
        "images": [name for name, _ in images],
        "weights": identities(wanted, factors),
        "amplification": amplification(images, wanted, factors, engine),
        "rows": [as_record(line) for line in summarise(rows) if line.method != BASELINE],
    }
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
