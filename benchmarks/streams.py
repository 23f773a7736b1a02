"""Several streams: one engine that takes turns against an engine each, and a fast stream beside slow ones.

python benchmarks/streams.py [--output FILE] [--model fast] [--scale 4] [--size 128]
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import click
from common import environment

from clesr.engines.common.files import OWN, write_json
from clesr.engines.common.processor import core_count
from clesr.engines.engine import Engine
from clesr.engines.factory import open_engine
from clesr.engines.models.weights import find_model
from clesr.pipeline.engine_stage import EngineStage
from clesr.pipeline.frame import Outcome
from clesr.pipeline.live_engine import OpenEngine
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.sharing import StillSource, run_together, shared
from clesr.pipeline.sinks.registry import open_sink
from clesr.pipeline.source import Source
from clesr.pipeline.sources.registry import open_source

STREAMS = (1, 2, 4)
REPEATS = 7
SECONDS = 1.5
SLOW = 5  # frames/s of the stream beside one that always has a frame


def run(factory: OpenEngine | EngineStage, sources: list[Source], scale: int) -> list[Pipeline]:
    """The pipelines of ``sources``, after SECONDS."""
    pipelines = [
        Pipeline(source, factory, [open_sink("null")], scale=scale, limits=Limits(seconds=SECONDS))
        for source in sources
    ]
    run_together(pipelines)
    for pipeline in pipelines:
        if pipeline.error is not None:
            raise pipeline.error
    return pipelines


def figures(pipelines: list[Pipeline]) -> dict[str, Any]:
    """Frames a second of all, the smallest share over the largest, and the worst stream's latency."""
    rates = [pipeline.stats.rate.overall() for pipeline in pipelines]
    totals = [pipeline.stats.latency.percentiles().get("total", {}) for pipeline in pipelines]
    return {
        "fps": sum(rates),
        "min_of_max": min(rates) / max(rates),
        "p50_ms": max(total["p50"] for total in totals),
        "p99_ms": max(total["p99"] for total in totals),
    }


def median(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}


@click.command()
@click.option("--output", default="benchmarks/results/streams.json", show_default=True)
@click.option("--model", default="fast", show_default=True)
@click.option("--scale", default=4, show_default=True)
@click.option("--size", default=128, show_default=True)
def main(output: str, model: str, scale: int, size: int) -> None:
    """Measure and write JSON."""
    weights = find_model(model, scale)

    def opener(threads: int | None) -> OpenEngine:
        def open_one(shape: tuple[int, int]) -> Engine:
            return open_engine("auto", weights, scale, shape, threads=threads)

        return open_one

    rows = []
    for count in STREAMS:
        ways: dict[str, list[dict[str, Any]]] = {"one": [], "several": []}
        for _ in range(REPEATS):
            for way, runs in ways.items():
                factory = opener(None if way == "one" or count == 1 else max(1, core_count() // count))
                engine = shared(factory, scale) if way == "one" else factory
                runs.append(figures(run(engine, [StillSource((size, size)) for _ in range(count)], scale)))
        rows.append({"streams": count, **{way: median(runs) for way, runs in ways.items()}})
        click.echo(f"{count}: {rows[-1]}")

    beside: dict[str, list[dict[str, Any]]] = {"one": [], "several": []}
    for _ in range(REPEATS):
        for way, runs in beside.items():
            engine = shared(opener(None), scale) if way == "one" else opener(max(1, core_count() // 2))
            sources: list[Source] = [StillSource((size, size)), open_source(f"demo:?size={size}&fps={SLOW}")]
            fast, slow = run(engine, sources, scale)
            runs.append(
                {
                    "fast_fps": fast.stats.rate.overall(),
                    "slow_upscaled": slow.ledger.outcomes[Outcome.UPSCALED] / slow.ledger.captured,
                    "slow_p99_ms": slow.stats.latency.percentiles()["total"]["p99"],
                }
            )
    mixed = {way: median(runs) for way, runs in beside.items()}
    click.echo(f"endless beside {SLOW} frames/s: {mixed}")
    settings = {"model": model, "scale": scale, "size": size, "seconds": SECONDS, "repeats": REPEATS}
    result = {"benchmark": "streams", **environment(), **settings, "rows": rows, "beside_endless": mixed}
    write_json(Path(output), result, OWN)
    click.echo(f"wrote {output}")


if __name__ == "__main__":
    main()
