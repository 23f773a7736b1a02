"""Whether memory grows: resident memory over many frames of the whole path, and its slope.

python benchmarks/memory.py [--frames 20000] [--output FILE]
"""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path

import click
import numpy as np
from common import environment

from clesr.engines.common.files import OWN, write_json
from clesr.engines.factory import open_engine
from clesr.engines.models.weights import find_model
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.sinks.registry import open_sink
from clesr.pipeline.sources.registry import open_source

EVERY_S = 0.25
WARM = 0.1  # of the frames: the first tenth fills caches and rings and is left out of the slope


def resident_kb() -> int:
    """Resident memory of this process, kB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@click.command()
@click.option("--frames", default=20_000, show_default=True)
@click.option("--size", default=64, show_default=True, help="LR pixels a side.")
@click.option("--output", default="benchmarks/results/memory.json", show_default=True)
def main(frames: int, size: int, output: str) -> None:
    """Run FRAMES frames of the simulated endomicroscope to a video file and watch the memory."""
    points: list[tuple[int, int]] = []
    done = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        source = open_source(f"demo:?size={size}&pace=max")
        run = Pipeline(
            source,
            lambda shape: open_engine("auto", find_model("fast", 4), 4, shape),
            [open_sink(str(Path(folder) / "soak.mkv"), codec="ffv1"), open_sink("null")],
            scale=4,
            limits=Limits(frames, None),
        )

        def watch() -> None:
            while not done.wait(EVERY_S):
                points.append((run.ledger.captured, resident_kb()))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            summary = run.run()
        finally:
            done.set()
            watcher.join()
    steady = np.array([p for p in points if p[0] > WARM * frames], np.float64)
    slope, _ = np.polyfit(steady[:, 0], steady[:, 1], 1)
    result = {
        "benchmark": "memory",
        **environment(),
        "captured": summary.captured,
        "outcomes": {str(o): n for o, n in summary.outcomes.items() if n},
        "size": size,
        "fps": round(summary.fps, 1),
        "rss_mb_at_tenth": round(float(steady[0, 1]) / 1024, 1),
        "rss_mb_at_end": round(float(steady[-1, 1]) / 1024, 1),
        "slope_bytes_a_frame": round(float(slope) * 1024, 2),
    }
    write_json(Path(output), result, OWN)
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
