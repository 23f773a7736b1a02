"""What an engine in a process of its own costs, and how soon it is back when that process is killed.

python benchmarks/isolation.py [--kills 50] [--output FILE]

Frames go to both engines in turns, so that whatever else the machine does falls on both. Then live frames at 25 a
second go through a pipeline that records, while the engine's process is killed again and again at random.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import environment, lr_and_hr

from clesr.engines.common.files import OWN, write_json
from clesr.engines.engine import Engine
from clesr.engines.guidance import guide
from clesr.engines.isolation.engine import IsolatedEngine, IsolatedOpener
from clesr.engines.opener import EngineOpener
from clesr.engines.results import run_frame
from clesr.pipeline.frame import Outcome, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.session.manifest import RecorderSettings
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.verify import verify
from clesr.pipeline.sources.registry import open_source

SCALE, WARM, REPEATS = 4, 30, 5
PERCENTILES = {"p50": 50, "p95": 95, "p99": 99}


def cost(size: int, frames: int) -> dict[str, Any]:
    """Milliseconds of a frame by both engines: medians of REPEATS times ``frames`` each."""
    lr = lr_and_hr(SCALE, (size, size))[0]
    told = guide(lr)
    engines: dict[str, Engine] = {
        "plain": EngineOpener(SCALE, "fast")((size, size)),
        "isolated": IsolatedOpener(SCALE, "fast")((size, size)),
    }
    spent = {name: np.empty(WARM + REPEATS * frames) for name in engines}
    try:
        for number in range(WARM + REPEATS * frames):
            for name, engine in engines.items():
                begin = time.perf_counter()
                run_frame(engine, lr, told)
                spent[name][number] = 1e3 * (time.perf_counter() - begin)
    finally:
        for engine in engines.values():
            engine.close()
    found = {
        name: np.percentile(each[WARM:].reshape(REPEATS, frames), list(PERCENTILES.values()), axis=1)
        for name, each in spent.items()
    }
    found["more"] = found["isolated"] - found["plain"]
    return {
        name: dict(zip(PERCENTILES, np.median(each, axis=1).round(3).tolist(), strict=True))
        for name, each in found.items()
    }


class Shown:
    """A display that only says when an image of the engine's own has come."""

    name, policy = "shown", Policy.DROP_OLDEST

    def __init__(self) -> None:
        self.seen = threading.Event()

    def write(self, result: Result) -> None:
        if result.outcome is Outcome.UPSCALED:
            self.seen.set()

    def close(self) -> str | None:
        return None


def killed(size: int, kills: int) -> dict[str, Any]:
    """Seconds until an image of the engine's own is shown again, after its process was killed, ``kills`` times."""
    opener, engines = IsolatedOpener(SCALE, "fast"), list[Engine]()

    def opened(shape: tuple[int, int]) -> Engine:
        engines.append(opener(shape))
        return engines[-1]

    source, shown, chance = open_source(f"demo:?size={size}&fps=25"), Shown(), random.Random(0)
    recorder = Recorder(
        source.info,
        scale=SCALE,
        sr_shape=lambda raw: (SCALE * raw[0], SCALE * raw[1]),
        settings=RecorderSettings(),
    )
    waits: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run = Pipeline(source, opened, [shown], scale=SCALE, recorder=recorder)
        run.start_recording(Path(folder) / "s")
        thread = threading.Thread(target=run.run)
        thread.start()
        for _ in range(kills):
            _until(shown.seen)
            time.sleep(chance.uniform(1, 3))
            engine, count = engines[-1], len(engines)
            assert isinstance(engine, IsolatedEngine)
            shown.seen.clear()
            os.kill(engine.pid, signal.SIGKILL)
            begin = time.perf_counter()
            _until(lambda count=count: len(engines) > count)  # type: ignore[misc]
            shown.seen.clear()
            _until(shown.seen)
            waits.append(time.perf_counter() - begin)
        run.stop()
        thread.join(60)
        certificate = verify(Path(folder) / "s")
    return {
        "kills": kills,
        "back_s": {"median": round(float(np.median(waits)), 2), "most": round(max(waits), 2)},
        "captured": run.ledger.captured,
        "raw": certificate.totals["raw"],
        "lost_at_source": run.ledger.outcomes[Outcome.LOST],
        "failed": run.ledger.outcomes[Outcome.FAILED],
        "problems": list(certificate.problems),
    }


def _until(condition: threading.Event | Callable[[], bool], seconds: float = 60) -> None:
    tick = threading.Event()
    for _ in range(int(seconds / 0.005)):
        if condition.is_set() if isinstance(condition, threading.Event) else condition():
            return
        tick.wait(0.005)
    raise click.ClickException(f"the engine was not back within {seconds:g} s")


@click.command()
@click.option("--size", default=256, show_default=True, help="LR pixels a side.")
@click.option("--frames", default=400, show_default=True)
@click.option("--kills", default=50, show_default=True)
@click.option("--output", default="benchmarks/results/isolation.json", show_default=True)
def main(size: int, frames: int, kills: int, output: str) -> None:
    """Measure both, and write them down."""
    result = {"environment": environment(), "size": size, "scale": SCALE}
    result |= {"cost_ms": cost(size, frames), "killed": killed(size, kills)}
    write_json(Path(output), result, OWN)
    print(result["cost_ms"])
    print(result["killed"])


if __name__ == "__main__":
    main()
