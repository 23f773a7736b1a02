"""A source that gives three times the frames that the engine can take: how old what is shown becomes, what is left
out, and whether the recording is complete.

python benchmarks/overload.py [--minutes 10] [--output FILE]

Once with an engine that takes a fixed time and no processor, so that the figure is the pipeline's; once with the
network `fast`, which shares the processor with source and recorder. Exit status 1 where images of the first become
older than two frame periods and one engine time (and what a thread that only sleeps is late), frames are unaccounted
for, or the recording lacks one.
"""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
from common import environment

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import EndOfSource
from clesr.engines.common.files import OWN, write_json
from clesr.engines.engine import EngineInfo
from clesr.engines.factory import open_engine
from clesr.engines.results import run_frame
from clesr.engines.worker import WorkerEngine
from clesr.pipeline.frame import Frame, Image, Outcome, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.live_engine import OpenEngine
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.verify import verify
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.registry import open_source

TIMES = 3  # frames for each that the engine can take
SCALE = 2
FIXED_S = 0.06  # an image of the engine that only waits
PERCENTILES = {"p50": 50, "p99": 99, "p99.9": 99.9, "most": 100}


@dataclass(frozen=True, slots=True)
class Load:
    """``open_engine`` makes an image of ``size`` pixels a side in ``engine_s`` seconds; frames come TIMES as fast."""

    name: str
    open_engine: OpenEngine
    size: int
    engine_s: float

    @property
    def period_s(self) -> float:
        return self.engine_s / TIMES

    @property
    def limit_s(self) -> float:
        """How old an image may be when it is shown."""
        return 2 * self.period_s + self.engine_s


class Camera:
    """Ready images, each captured when it is due."""

    def __init__(self, images: list[Image], period_s: float) -> None:
        height, width = images[0].shape
        self.info = SourceInfo("overload", True, 1 / period_s, (height, width))
        self._images, self._period_ns, self._number = images, period_s * 1e9, 0
        self._start_ns = SYSTEM.now_ns()

    def read(self, timeout: float) -> Frame:
        number, self._number = self._number, self._number + 1
        due = self._start_ns + int(number * self._period_ns)
        SYSTEM.sleep_until(due)
        return Frame(self._images[number % len(self._images)].copy(), number, due)

    def close(self) -> None:
        pass


class Display:
    """Notes the age of each image when it is shown, in seconds."""

    name, policy = "display", Policy.DROP_OLDEST

    def __init__(self) -> None:
        self.ages: list[float] = []
        self.engine_s: list[float] = []

    def write(self, result: Result) -> None:
        self.ages.append((SYSTEM.now_ns() - result.frame.time_ns) / 1e9)
        self.engine_s.append((result.times.collected - result.times.submitted) / 1e9)

    def close(self) -> str | None:
        return None


class Sleeper:
    """A thread beside all that only sleeps, for ``period_s`` at a time: what it is late, the machine gave to nobody."""

    def __init__(self, period_s: float) -> None:
        self.late: list[float] = []
        self._period_ns, self._ended = int(period_s * 1e9), threading.Event()
        self._thread = threading.Thread(target=self._sleep, daemon=True)
        self._thread.start()

    def _sleep(self) -> None:
        while not self._ended.is_set():
            due = SYSTEM.now_ns() + self._period_ns
            SYSTEM.sleep_until(due)
            self.late.append((SYSTEM.now_ns() - due) / 1e9)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


def waiting_engine(seconds: float, shape: tuple[int, int]) -> WorkerEngine:
    """An engine that repeats pixels, ``seconds`` after it was asked to."""

    def compute(lr: Image) -> Image:
        done = SYSTEM.now_ns() + int(seconds * 1e9)
        image = np.repeat(np.repeat(lr, SCALE, 0), SCALE, 1)
        SYSTEM.sleep_until(done)
        return image

    return WorkerEngine(EngineInfo("waiting", "nothing", "integer", "nearest", "", SCALE, shape), compute)


def fixed(seconds: float = FIXED_S, size: int = 128) -> Load:
    """The engine that only waits."""
    return Load("waiting", partial(waiting_engine, seconds), size, seconds)


def fast(size: int) -> Load:
    """The network, with the time that it takes alone."""
    opener = partial(open_engine, "auto", "fast", SCALE)
    engine, image = opener((size, size)), _images(size)[0]
    spent = []
    for _ in range(60):
        begin = perf_counter()
        run_frame(engine, image, None)
        spent.append(perf_counter() - begin)
    engine.close()
    return Load("fast", opener, size, float(np.median(spent[10:])))


def overload(load: Load, seconds: float, folder: Path) -> dict[str, Any]:
    """What came of ``seconds`` of ``load``, recorded in ``folder``."""
    source, display = Camera(_images(load.size), load.period_s), Display()
    recorder = Recorder(source.info, scale=SCALE, sr_shape=lambda raw: (SCALE * raw[0], SCALE * raw[1]))
    run = Pipeline(
        source, load.open_engine, [display], scale=SCALE, recorder=recorder, limits=Limits(seconds=seconds)
    )
    run.start_recording(folder)
    sleeper = Sleeper(load.engine_s)
    run.run()
    sleeper.close()
    run.ledger.check()
    certificate = verify(folder)
    outcomes = {str(name): count for name, count in run.ledger.outcomes.items() if count}
    return {
        "engine": load.name,
        "size": load.size,
        "seconds": seconds,
        "engine_ms": round(1e3 * load.engine_s, 2),
        "period_ms": round(1e3 * load.period_s, 2),
        "limit_ms": round(1e3 * load.limit_s, 2),
        "age_ms": _percentiles(display.ages),
        "engine_in_run_ms": _percentiles(display.engine_s),
        "sleeper_late_ms": _percentiles(sleeper.late),
        "older_than_limit": int(np.sum(np.array(display.ages) > load.limit_s)),
        "shown": len(display.ages),
        "captured": run.ledger.captured,
        "outcomes": outcomes,
        "raw": certificate.totals["raw"],
        "complete": certificate.totals["raw"] == run.ledger.captured and not certificate.problems,
        "unaccounted": run.ledger.captured
        - sum(outcomes.get(str(name), 0) for name in (Outcome.UPSCALED, Outcome.STALE)),
    }


def _images(size: int) -> list[Image]:
    source, images = open_source(f"demo:?size={size}&frames=50&pace=max"), list[Image]()
    try:
        while True:
            item = source.read(1.0)
            if isinstance(item, Frame):
                images.append(item.image)
    except EndOfSource:
        return images
    finally:
        source.close()


def _percentiles(seconds: list[float]) -> dict[str, float]:
    return {name: round(1e3 * float(np.percentile(seconds, q)), 2) for name, q in PERCENTILES.items()}


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="For each of the two.")
@click.option("--size", default=384, show_default=True, help="LR pixels a side for the network.")
@click.option("--output", default="benchmarks/results/overload.json", show_default=True)
def main(minutes: float, size: int, output: str) -> None:
    """Measure both, and write them down."""
    rows = []
    result = {"benchmark": "overload", **environment()}
    for load in (fixed(), fast(size)):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(overload(load, 60 * minutes, Path(folder) / "s"))
        print(rows[-1], flush=True)
        write_json(Path(output), result | {"rows": rows}, OWN)
    bad = [row["engine"] for row in rows if row["unaccounted"] or not row["complete"]]
    late = rows[0]["sleeper_late_ms"]
    bad += [f"age {p}" for p in ("p50", "p99") if rows[0]["age_ms"][p] > rows[0]["limit_ms"] + late[p]]
    if bad:
        raise click.ClickException(f"it does not hold: {', '.join(bad)}")


if __name__ == "__main__":
    main()
