"""What the live path costs, with each image checked: the whole path against the engine alone, which checks nothing,
over input sizes, in one run.

python benchmarks/pipeline.py [--output FILE] [--model fast] [--scale 4]
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import click
from common import environment

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import EndOfSource
from clesr.engines.common.files import OWN, write_json
from clesr.engines.engine import CheckingOnRequest, Engine
from clesr.engines.factory import open_engine
from clesr.engines.models.weights import find_model
from clesr.pipeline.cores.calibration import CoreCalibration
from clesr.pipeline.frame import Frame, Image
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.sinks.registry import open_sink
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.registry import open_source
from clesr.pipeline.sources.simulator.demo import DemoSource
from clesr.pipeline.temporal import StreamFusion

SIZES = (128, 192, 256, 384, 512)
REPEATS = 11
SECONDS = 2.0  # about, for each throughput measurement
LIVE_S = 10.0
FPS = 25.0


class MemorySource:
    """Frames that are ready: recorded input that costs nothing to read."""

    def __init__(self, images: list[Image], count: int) -> None:
        self.info = SourceInfo("memory", False, None, (images[0].shape[0], images[0].shape[1]), count)
        self._images, self._number = images, 0

    def read(self, timeout: float) -> Frame:
        if self._number == self.info.frames:
            raise EndOfSource
        number, self._number = self._number, self._number + 1
        return Frame(self._images[number % len(self._images)], number, SYSTEM.now_ns())

    def close(self) -> None:
        pass


def keep_open(engine: Engine) -> Callable[[], None]:
    """Have a pipeline that closes ``engine`` only end its checks: both sides use the very same one, and alone it does
    nothing but enlarge. What closes it for good."""
    close = engine.close

    def end_checks() -> None:
        if isinstance(engine, CheckingOnRequest):
            engine.check(False)

    engine.close = end_checks  # type: ignore[method-assign]
    return close


def engine_alone(engine: Engine, images: list[Image], count: int) -> float:
    """Frames a second of ``engine`` kept busy."""
    waiting: deque[int] = deque()
    start = perf_counter()
    for number in range(count):
        if len(waiting) == engine.depth:
            engine.collect()
            waiting.popleft()
        engine.submit(images[number % len(images)])
        waiting.append(number)
    while waiting:
        engine.collect()
        waiting.popleft()
    return count / (perf_counter() - start)


def whole_path(engine: Engine, images: list[Image], count: int) -> float:
    """Frames a second through source, queues, engine and a null sink."""
    source = MemorySource(images, count)
    run = Pipeline(source, lambda _shape: engine, [open_sink("null")], scale=engine.info.scale)
    start = perf_counter()
    run.run()
    return count / (perf_counter() - start)


def live(
    size: int, model: str, scale: int, *, temporal: bool = False, cores: CoreCalibration | None = None
) -> dict[str, object]:
    """The simulated endomicroscope at FPS through the whole path: outcomes and latency. With ``temporal`` earlier
    frames help each image; the pattern of ``cores`` is removed."""
    source = open_source(f"demo:?size={size}&fps={FPS:g}")
    run = Pipeline(
        source,
        lambda shape: open_engine("auto", find_model(model, scale), scale, shape),
        [open_sink("null")],
        scale=scale,
        prepare=Prepare(temporal=StreamFusion(hurried=True) if temporal else None, cores=cores),
        limits=Limits(None, LIVE_S),
    )
    summary = run.run()
    return {
        "fps": round(summary.fps, 2),
        "outcomes": {str(o): n for o, n in summary.outcomes.items() if n},
        "latency_ms": summary.latency_ms,
    }


@click.command()
@click.option("--output", default="benchmarks/results/pipeline.json", show_default=True)
@click.option("--model", default="fast", show_default=True)
@click.option("--scale", default=4, show_default=True)
def main(output: str, model: str, scale: int) -> None:
    """Measure and write JSON."""
    rows = []
    for size in SIZES:
        demo = DemoSource(f"demo:?size={size}&pace=max")
        images = [frame.image for frame in (demo.read(1.0) for _ in range(8)) if isinstance(frame, Frame)]
        demo.close()
        engine = open_engine("auto", find_model(model, scale), scale, (size, size))
        close = keep_open(engine)
        whole_path(engine, images, 8)  # what is made once is there
        count = max(8, int(SECONDS * engine_alone(engine, images, 8)))
        alone, path = [], []
        for _ in range(REPEATS):
            alone.append(engine_alone(engine, images, count))
            path.append(whole_path(engine, images, count))
        name = str(engine.info)
        close()
        ratio = statistics.median(p / a for p, a in zip(path, alone, strict=True))
        row = {
            "size": size,
            "engine": name,
            "frames": count,
            "repeats": REPEATS,
            "engine_fps": round(statistics.median(alone), 2),
            "path_fps": round(statistics.median(path), 2),
            "path_of_engine": round(ratio, 4),
            "live_25": live(size, model, scale),
            "live_25_temporal": live(size, model, scale, temporal=True),
        }
        rows.append(row)
        click.echo(
            f"{size:4d}: engine {row['engine_fps']:7.1f} frames/s, whole path {row['path_fps']:7.1f} "
            f"({100 * ratio:.1f} %), live at {FPS:g}: {row['live_25']}, with earlier frames {row['live_25_temporal']}"
        )
    result = {"benchmark": "pipeline", **environment(), "model": model, "scale": scale, "rows": rows}
    write_json(Path(output), result, OWN)
    click.echo(f"wrote {output}")


if __name__ == "__main__":
    main()
