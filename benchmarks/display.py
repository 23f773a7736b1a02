"""What showing costs the live path: frames a second of the whole path as fast as it goes, with a window and without, in
turns. Needs a screen, a virtual one too.

python benchmarks/display.py [--output FILE] [--model fast] [--scale 4] [--size 256]
"""

from __future__ import annotations

import statistics
from pathlib import Path

import click
from common import environment

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.files import OWN, write_json
from clesr.engines.engine import Engine
from clesr.engines.factory import open_engine
from clesr.engines.models.weights import find_model
from clesr.pipeline.frame import Frame, Image, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.sinks.registry import open_sink
from clesr.pipeline.sources.simulator.demo import DemoSource
from pipeline import MemorySource, keep_open


class Watch:
    """A sink that keeps when results came."""

    name = "watch"
    policy = Policy.BLOCK

    def __init__(self) -> None:
        self.times: list[int] = []

    def write(self, result: Result) -> None:
        self.times.append(SYSTEM.now_ns())

    def close(self) -> str | None:
        return None

    @property
    def fps(self) -> float:
        """Without the first results, which wait for what is made once."""
        kept = self.times[len(self.times) // 10 :]
        return (len(kept) - 1) * 1e9 / (kept[-1] - kept[0])


def run(engine: Engine, images: list[Image], count: int, display: str) -> tuple[float, str]:
    """Frames a second with ``display`` beside, and what that said at its end."""
    watch, shown = Watch(), open_sink(display)
    source = MemorySource(images, count)
    summary = Pipeline(source, lambda _shape: engine, [watch, shown], scale=engine.info.scale).run()
    return watch.fps, next((said for said in summary.outputs if said.startswith(display)), "")


@click.command()
@click.option("--output", default="benchmarks/results/display.json", show_default=True)
@click.option("--model", default="fast", show_default=True)
@click.option("--scale", default=4, show_default=True)
@click.option("--size", default=256, show_default=True)
@click.option("--frames", default=400, show_default=True)
@click.option("--repeats", default=15, show_default=True)
def main(output: str, model: str, scale: int, size: int, frames: int, repeats: int) -> None:
    """Measure and write JSON."""
    demo = DemoSource(f"demo:?size={size}&pace=max")
    images = [frame.image for frame in (demo.read(1.0) for _ in range(8)) if isinstance(frame, Frame)]
    demo.close()
    engine = open_engine("auto", find_model(model, scale), scale, (size, size))
    close = keep_open(engine)
    run(engine, images, 8, "null")
    rates: dict[str, list[float]] = {"null": [], "window": []}
    said = ""
    for turn in range(repeats):
        for display in ("null", "window") if turn % 2 else ("window", "null"):
            rate, words = run(engine, images, frames, display)
            rates[display].append(rate)
            said = words if display == "window" else said
    name = str(engine.info)
    close()
    ratio = statistics.median(w / n for w, n in zip(rates["window"], rates["null"], strict=True))
    row = {
        "size": size,
        "engine": name,
        "frames": frames,
        "repeats": repeats,
        "null_fps": round(statistics.median(rates["null"]), 2),
        "window_fps": round(statistics.median(rates["window"]), 2),
        "window_of_null": round(ratio, 4),
        "last_window": said,
    }
    write_json(Path(output), {"benchmark": "display", **environment(), "rows": [row]}, OWN)
    click.echo(f"{row}\nwrote {output}")


if __name__ == "__main__":
    main()
