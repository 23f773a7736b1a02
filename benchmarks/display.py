"""What showing costs the live path: frames a second of the whole path with a window and without, in turns, as fast as
recorded frames go and of a live source of 25 frames/s. Needs a screen, a virtual one too.

python benchmarks/display.py [--output FILE] [--model fast] [--scale 4] [--size 256]
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from common import environment, frames_for

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.files import OWN, write_json
from clesr.engines.engine import Engine
from clesr.engines.factory import open_engine
from clesr.engines.models.weights import find_model
from clesr.pipeline.frame import Frame, Image, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.sinks.registry import open_sink
from clesr.pipeline.sinks.window.window import DisplayWindow
from clesr.pipeline.sources.simulator.demo import DemoSource
from pipeline import MemorySource, keep_open

LIVE_FPS = 25.0


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


def run_live(engine: Engine, size: int, seconds: float, display: str) -> tuple[float, float]:
    """Frames a second of a live source with ``display`` beside, and pictures a second that it showed."""
    watch, shown = Watch(), open_sink(display, live=True)
    source = DemoSource(f"demo:?size={size}&fps={LIVE_FPS:g}")
    limits = Limits(None, seconds)
    Pipeline(source, lambda _shape: engine, [watch, shown], scale=engine.info.scale, limits=limits).run()
    return watch.fps, (shown.shown if isinstance(shown, DisplayWindow) else 0) / seconds


def ratio_of(rates: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Frames a second without a window and with it, and how many times as many these are, by pairs."""
    pairs = zip(rates["window"], rates["null"], strict=True)
    return {
        "null_fps": round(statistics.median(rates["null"]), 2),
        "window_fps": round(statistics.median(rates["window"]), 2),
        "window_of_null": round(statistics.median(window / null for window, null in pairs), 4),
    }


@click.command()
@click.option("--output", default="benchmarks/results/display.json", show_default=True)
@click.option("--model", default="fast", show_default=True)
@click.option("--scale", default=4, show_default=True)
@click.option("--size", default=256, show_default=True)
@click.option("--repeats", default=21, show_default=True)
@click.option("--seconds", default=12.0, show_default=True, help="Of a live source, each time.")
@click.option("--live-repeats", default=7, show_default=True)
def main(
    output: str,
    model: str,
    scale: int,
    size: int,
    repeats: int,
    seconds: float,
    live_repeats: int,
) -> None:
    """Measure and write JSON."""
    demo = DemoSource(f"demo:?size={size}&pace=max")
    images = [frame.image for frame in (demo.read(1.0) for _ in range(8)) if isinstance(frame, Frame)]
    demo.close()
    engine = open_engine("auto", find_model(model, scale), scale, (size, size))
    close = keep_open(engine)
    frames = frames_for(run(engine, images, 64, "null")[0])
    rates: dict[str, list[float]] = {"null": [], "window": []}
    live: dict[str, list[float]] = {"null": [], "window": []}
    pictures, said = [], ""
    for turn in range(repeats):
        for display in ("null", "window") if turn % 2 else ("window", "null"):
            rate, words = run(engine, images, frames, display)
            rates[display].append(rate)
            said = words if display == "window" else said
    for turn in range(live_repeats):
        for display in ("null", "window") if turn % 2 else ("window", "null"):
            rate, shown = run_live(engine, size, seconds, display)
            live[display].append(rate)
            pictures += [shown] * (display == "window")
    name = str(engine.info)
    close()
    rows = [
        {"source": "recorded", "size": size, "engine": name, "frames": frames, "repeats": repeats}
        | ratio_of(rates)
        | {"last_window": said},
        {"source": "live", "size": size, "engine": name, "source_fps": LIVE_FPS, "seconds": seconds}
        | {"repeats": live_repeats, **ratio_of(live), "pictures_fps": round(statistics.median(pictures), 2)},
    ]
    write_json(Path(output), {"benchmark": "display", **environment(), "rows": rows}, OWN)
    click.echo("\n".join(map(str, rows)) + f"\nwrote {output}")


if __name__ == "__main__":
    main()
