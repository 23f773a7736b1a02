"""What recording costs: 1024x1024 at 25 frames/s, raw and up-scaled lossless, and the age of what a display gets with
the recorder on and off, in turns in one run.

python benchmarks/recorder.py [--output FILE] [--size 1024] [--seconds 20] [--rounds 2]
"""

from __future__ import annotations

import json
import logging
import tempfile
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import environment

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import EndOfSource
from clesr.engines.common.files import OWN, write_json
from clesr.engines.engine import Engine
from clesr.engines.factory import open_engine
from clesr.pipeline.frame import Frame, Image, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.verify import verify
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.simulator.demo import DemoSource

FPS = 25.0
PERCENTILES = (50, 99, 99.9)


class Camera:
    """Ready images, captured when they are due: what a driver does, without the phantom's arithmetic."""

    def __init__(self, images: list[Image]) -> None:
        self.info = SourceInfo("benchmark", True, FPS, (images[0].shape[0], images[0].shape[1]))
        self._images, self._number = images, 0
        self._start_ns: int | None = None

    def read(self, timeout: float) -> Frame:
        self._start_ns = SYSTEM.now_ns() if self._start_ns is None else self._start_ns
        due = self._start_ns + int(self._number * 1e9 / FPS)
        SYSTEM.sleep_until(due)
        number, self._number = self._number, self._number + 1
        return Frame(self._images[number % len(self._images)].copy(), number, due)

    def close(self) -> None:
        pass


class Display:
    """Takes the newest result and notes its age."""

    name = "display"
    policy = Policy.DROP_OLDEST

    def __init__(self) -> None:
        self.ages_ms: list[float] = []

    def write(self, result: Result) -> None:
        self.ages_ms.append((SYSTEM.now_ns() - result.times.captured) / 1e6)

    def close(self) -> None:
        pass


def phantom(size: int) -> list[Image]:
    """Eight images of the simulated endomicroscope."""
    source = DemoSource(f"demo:?size={size}&pace=max")
    try:
        return [item.image for item in (source.read(1.0) for _ in range(8)) if isinstance(item, Frame)]
    except EndOfSource:
        return []
    finally:
        source.close()


def run(images: list[Image], model: str, scale: int, seconds: float, folder: Path | None) -> dict[str, Any]:
    """One live run; with the session's figures where it is recorded into ``folder``."""

    def factory(shape: tuple[int, int]) -> Engine:
        return open_engine("auto", model, scale, shape)

    source, display, prepare = Camera(images), Display(), Prepare()
    logger, said = logging.getLogger("clesr.pipeline"), BufferingHandler(1000)
    logger.setLevel(logging.INFO)
    logger.addHandler(said)
    recorder = None
    if folder is not None:
        recorder = Recorder(source.info, scale=scale, sr_shape=lambda raw: (scale * raw[0], scale * raw[1]))
    pipeline = Pipeline(
        source,
        factory,
        [display],
        scale=scale,
        prepare=prepare,
        recorder=recorder,
        limits=Limits(None, seconds),
    )
    if folder is not None:
        pipeline.start_recording(folder)
    summary = pipeline.run()
    logger.removeHandler(said)
    values = np.percentile(display.ages_ms, PERCENTILES)
    row: dict[str, Any] = {
        "recorder": folder is not None,
        "outcomes": {str(outcome): count for outcome, count in summary.outcomes.items() if count},
        "display_age_ms": {f"p{p:g}": round(float(v), 2) for p, v in zip(PERCENTILES, values, strict=True)},
        "engine": summary.engine,
        "said": [record.getMessage().replace(str(folder), "FOLDER") for record in said.buffer],
    }
    if folder is not None:
        certificate = verify(folder)
        row["session"] = {
            "holds": certificate.holds,
            "totals": certificate.totals,
            "lost_by_recorder": certificate.totals.get("unrecorded", 0),
            "bytes": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
        }
    return row


@click.command()
@click.option("--output", default="benchmarks/results/recorder.json", show_default=True)
@click.option("--size", default=1024, show_default=True)
@click.option("--seconds", default=20.0, show_default=True)
@click.option("--rounds", default=2, show_default=True)
@click.option("--model", default="fast", show_default=True)
@click.option("--scale", default=2, show_default=True)
def main(output: str, size: int, seconds: float, rounds: int, model: str, scale: int) -> None:
    """Measure and write JSON."""
    rows = []
    images = phantom(size)
    for _ in range(rounds):
        for recorded in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                row = run(images, model, scale, seconds, Path(folder) / "s" if recorded else None)
            rows.append(row)
            click.echo(json.dumps(row))
    figures = {"size": size, "fps": FPS, "seconds": seconds, "model": model, "scale": scale}
    result = {"benchmark": "recorder", **environment(), **figures, "rows": rows}
    write_json(Path(output), result, OWN)
    click.echo(f"wrote {output}")


if __name__ == "__main__":
    main()
