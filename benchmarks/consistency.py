"""The consistency check: what it finds on real images, what --consistent does to them, and what both cost.

python benchmarks/consistency.py [--data FOLDER] [--output FILE] [--model NAME ...] [--cost-only]
"""

from __future__ import annotations

import json
import os
import statistics
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time, thread_time
from typing import Any

import click
import cv2
import numpy as np
from common import environment

from clesr.engines.common.files import OWN, write_json
from clesr.engines.engine import Engine
from clesr.engines.factory import open_engine
from clesr.engines.models.registry import SCALES
from clesr.engines.models.weights import Model, find_model
from clesr.pipeline.fidelity import FidelityCheck
from clesr.pipeline.frame import Frame, Image
from clesr.pipeline.sources.simulator.demo import DemoSource
from clesr.tools.data.pairs import Pair, load_pairs
from clesr.tools.evaluation.metrics import psnr

MODELS = ("densenet", "fast", "srcnn")
SETS = {"test": "test/cle_*", "cross": "cross/*.png"}
COST_MODEL, COST_SCALE, COST_SIZE = "fast", 4, 256
REPEATS, FRAMES = 15, 40

After = Callable[[Image, Image], object]


class Engines:
    """The engine that a user gets for ``model``, opened for one size after the other."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._engine: Engine | None = None

    def __call__(self, lr: Image) -> Image:
        shape = (lr.shape[0], lr.shape[1])
        if self._engine is None or self._engine.info.lr_shape != shape:
            self.close()
            self._engine = open_engine("auto", self._model, self._model.scale, shape)
        self._engine.submit(lr)
        return self._engine.collect()

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


def quality(model: Model, pairs: list[Pair]) -> dict[str, Any]:
    """What the check says of the images of ``model`` and what correcting them does, over ``pairs``."""
    engines = Engines(model)
    limit = (model.descriptor.fidelity or {}).get("limit_db")
    checks, gains, before, after = [], [], [], []
    for pair in sorted(pairs, key=lambda pair: pair.lr.shape):
        sr = engines(pair.lr)
        corrected, check = FidelityCheck(pair.lr.shape, model.scale, limit, consistent=True)(pair.lr, sr)
        _, reprojected = FidelityCheck(pair.lr.shape, model.scale)(pair.lr, corrected)
        checks.append(check)
        gains.append(psnr(pair.hr, eight_bit(corrected), pair.mask) - psnr(pair.hr, eight_bit(sr), pair.mask))
        before.append(mean_difference(check.reprojected, pair.lr))
        after.append(mean_difference(reprojected.reprojected, pair.lr))
    engines.close()
    tiles = [check.worst_db for check in checks if check.worst_db is not None]
    return {
        "images": len(pairs),
        "fidelity_db": summary([check.before_db or check.db for check in checks]),
        "worst_tile_db": summary(tiles) if tiles else None,
        "limit_db": limit,
        "judged": len(tiles),
        "below_limit": sum(check.below_limit for check in checks),
        "corrected_fidelity_db": summary([check.db for check in checks]),
        "difference_levels": {"before": max(before), "after": max(after)},
        "gain_db": summary(gains),
    }


def summary(values: list[float]) -> dict[str, float]:
    return {"mean": round(statistics.fmean(values), 3), "least": round(min(values), 3)}


def mean_difference(one: Image, other: Image) -> float:
    return round(float(np.abs(one.astype(np.float32) - other).mean()), 3)


def eight_bit(image: Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(image, np.uint8)


def busy(engine: Engine, images: list[Image], after: After) -> tuple[float, float]:
    """Median milliseconds between two results of ``engine`` kept busy, with ``after(lr, sr)`` on the thread that
    collects, and milliseconds of processor time a frame, of all threads."""
    waiting: deque[Image] = deque()
    done = []
    start = process_time()
    for number in range(FRAMES + engine.depth):
        if len(waiting) == engine.depth or number >= FRAMES:
            after(waiting.popleft(), engine.collect())
            done.append(perf_counter())
        if number < FRAMES:
            lr = images[number % len(images)]
            engine.submit(lr)
            waiting.append(lr)
    spent = process_time() - start
    return 1e3 * float(np.median(np.diff(done))), 1e3 * spent / FRAMES


def alone(check: FidelityCheck, lr: Image, sr: Image) -> float:
    """Milliseconds of processor time of the check, which runs on one thread."""
    start = thread_time()
    for _ in range(FRAMES):
        check(lr, sr)
    return 1e3 * (thread_time() - start) / FRAMES


def cost() -> dict[str, Any]:
    """The engine alone, with the check, and with the correction, in turns; medians and medians of ratios."""
    demo = DemoSource(f"demo:?size={COST_SIZE}&pace=max")
    images = [frame.image for frame in (demo.read(1.0) for _ in range(8)) if isinstance(frame, Frame)]
    demo.close()
    shape = (COST_SIZE, COST_SIZE)
    engine = open_engine("auto", find_model(COST_MODEL, COST_SCALE), COST_SCALE, shape)
    limit = engine.info.limit_db
    checks = {
        "check": FidelityCheck(shape, COST_SCALE, limit),
        "consistent": FidelityCheck(shape, COST_SCALE, limit, consistent=True),
    }
    engine.submit(images[0])
    sr = engine.collect()
    after_each: dict[str, After] = {"engine": lambda _lr, _sr: None, **checks}
    spans: dict[str, list[float]] = {name: [] for name in after_each}
    spent: dict[str, list[float]] = {name: [] for name in after_each}
    for _ in range(REPEATS):
        for name, after in after_each.items():
            span, cpu = busy(engine, images, after)
            spans[name].append(span)
            spent[name].append(cpu if name == "engine" else alone(checks[name], images[0], sr))
    words = str(engine.info)
    engine.close()
    row: dict[str, Any] = {"engine": words, "size": COST_SIZE, "frames": FRAMES, "repeats": REPEATS}
    row["engine_ms"] = round(statistics.median(spans["engine"]), 3)
    row["engine_cpu_ms"] = round(statistics.median(spent["engine"]), 3)
    for name in checks:
        row[name] = {
            "cpu_ms": round(statistics.median(spent[name]), 3),
            "cpu_of_engine": ratio(spent[name], spent["engine"]),
            "cpu_of_engine_ms": ratio(spent[name], spans["engine"]),
            "slower_by": round(ratio(spans[name], spans["engine"]) - 1, 4),
        }
    return row


def ratio(values: list[float], of: list[float]) -> float:
    return round(statistics.median(v / o for v, o in zip(values, of, strict=True)), 4)


@click.command()
@click.option(
    "--data", default=os.environ.get("CLESR_DATA"), help="Folder of images.  [default: $CLESR_DATA]"
)
@click.option("--output", default="benchmarks/results/consistency.json", show_default=True)
@click.option("--model", "models", multiple=True, default=MODELS, show_default=True)
@click.option("--cost-only", is_flag=True, help="Keep the quality figures that the output has.")
def main(data: str | None, output: str, models: tuple[str, ...], cost_only: bool) -> None:
    """Measure and write JSON."""
    cv2.setNumThreads(1)
    target = Path(output)
    rows: list[dict[str, Any]] = []
    if cost_only:
        rows = json.loads(target.read_text())["rows"]
    elif data is None:
        raise click.UsageError("give --data, or set CLESR_DATA")
    else:
        for name, scale, (kind, pattern) in (
            (n, s, item) for n in models for s in SCALES for item in SETS.items()
        ):
            row = {"model": name, "scale": scale, "set": kind}
            row |= quality(find_model(name, scale), load_pairs(str(Path(data) / pattern), scale))
            rows.append(row)
            click.echo(json.dumps(row))
    result = {"benchmark": "consistency", **environment(), "cost": cost(), "rows": rows}
    click.echo(json.dumps(result["cost"], indent=2))
    write_json(target, result, OWN)
    click.echo(f"wrote {output}")


if __name__ == "__main__":
    main()
