"""The view in the browser, measured: from the capture of a frame until its number is read back from the canvas of a
real Chromium on the same machine, and what showing costs the live path, with and without a page in turns: frames a
second, and processor time, which other work on the machine disturbs less.

python benchmarks/browser.py [--output FILE] [--seconds 60] [--fps 12] [--quality 90]
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import numpy as np
from common import ROOT, environment, frames_for, percentiles
from display import Watch
from websockets.exceptions import ConnectionClosed

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import EndOfSource
from clesr.engines.common.files import OWN, write_json
from clesr.engines.engine import Engine
from clesr.engines.factory import open_engine
from clesr.engines.models.weights import find_model
from clesr.pipeline.frame import Frame, Image
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.sink import Sink
from clesr.pipeline.sinks.browser.door import Door
from clesr.pipeline.sinks.browser.sink import BrowserSink
from clesr.pipeline.sinks.browser.site import Site
from clesr.pipeline.sinks.registry import SinkOptions
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.simulator.demo import DemoSource
from pipeline import MemorySource, keep_open

sys.path.insert(0, str(ROOT / "tests" / "helpers"))
from browser_view import Seen, looking, numbered
from chromium import Page, chromium
from pages import READ

SIZE, SCALE = 256, 4
REPEATS = 15
LATE = 0.5  # of a run: the second half is compared with the first, for growth
WATCH = f"""(() => {{
  window.drawn = []; let last = -1;
  const look = () => {{
    const number = {READ};
    if (number !== last) window.drawn.push([last = number, performance.timeOrigin + performance.now()]);
    requestAnimationFrame(look);
  }}; look();
}})()"""


class NumberedSource:
    """A live source whose frames are tissue with their number in black and white squares over it."""

    def __init__(self, fps: float) -> None:
        self.info = SourceInfo("numbered", True, fps, (SIZE, SIZE), None)
        self.captured_ms: dict[int, float] = {}  # by the calendar's clock, which the page has too
        self._due_ns, self._number = SYSTEM.now_ns(), 0
        self._over = threading.Event()

    def read(self, timeout: float) -> Frame:
        self._due_ns += round(1e9 / (self.info.fps or 1))
        if self._over.wait(max(0, self._due_ns - SYSTEM.now_ns()) / 1e9):
            raise EndOfSource
        self._number += 1
        image = numbered(self._number, SIZE)
        self.captured_ms[self._number] = time.clock_gettime_ns(time.CLOCK_REALTIME) / 1e6
        return Frame(image, self._number, SYSTEM.now_ns())

    def close(self) -> None:
        self._over.set()


def latency(page: Page, engine: Engine, fps: float, quality: int, seconds: float) -> dict[str, object]:
    """From capture to drawn, over the run and over its halves."""
    source, sink = (
        NumberedSource(fps),
        BrowserSink(options=SinkOptions(site=Site(Door(listen="127.0.0.1:0")), live=True)),
    )
    run = Pipeline(source, lambda _shape: engine, [sink], scale=SCALE, limits=Limits(None, seconds))
    thread = threading.Thread(target=run.run)
    thread.start()
    page.size(1280, 800)
    page.open(sink.site.url)
    page.wait("document.querySelector('.stage')?.dataset.state === 'live'", 120)
    page.run(
        f"(() => {{ const q = document.querySelector('#quality'); q.value = {quality}; q.onchange({{target: q}}); }})()"
    )
    page.run(WATCH)
    thread.join(seconds - 1)
    drawn = page.run("window.drawn")
    thread.join()
    found = [
        (at - source.captured_ms[number]) / 1000 for number, at in drawn[5:] if number in source.captured_ms
    ]
    half = int(len(found) * LATE)
    return {
        "fps": fps,
        "quality": quality,
        "seconds": seconds,
        "captured": run.summary().captured,
        "drawn": len(found),
        "ms": percentiles(found),
        "first_half_p95_ms": round(1000 * float(np.percentile(found[:half], 95)), 2),
        "second_half_p95_ms": round(1000 * float(np.percentile(found[half:], 95)), 2),
        "pipeline_ms": run.summary().latency_ms["total"],
    }


@contextmanager
def a_page(url: str, quality: int) -> Iterator[list[int]]:
    """Somebody who takes every picture as fast as it comes, and does nothing with it; the number of pictures."""
    over, pictures = threading.Event(), [0]

    def look() -> None:
        with looking(url) as looker, suppress(ConnectionClosed):  # the run has ended
            looker.send(quality=quality)
            while not over.is_set():
                with suppress(TimeoutError):
                    seen = looker.next(0.2)
                    if isinstance(seen, Seen):
                        looker.send(ack=seen.header["id"])
                        pictures[0] += 1

    thread = threading.Thread(target=look)
    thread.start()
    yield pictures
    over.set()
    thread.join()


def paces(engine: Engine, images: Sequence[Image], frames: int, sinks: list[Sink]) -> tuple[float, float]:
    """Frames a second of ``frames``, and seconds of processor time for one."""
    watch, used = Watch(), time.process_time()
    Pipeline(MemorySource(list(images), frames), lambda _shape: engine, [watch, *sinks], scale=SCALE).run()
    return watch.fps, (time.process_time() - used) / frames


def cost(engine: Engine, quality: int) -> dict[str, object]:
    """Frames a second of recorded input without a view, and with one that a page looks at, in turns."""
    demo = DemoSource(f"demo:?size={SIZE}&pace=max")
    images = [frame.image for frame in (demo.read(1.0) for _ in range(8)) if isinstance(frame, Frame)]
    demo.close()
    frames = frames_for(paces(engine, images, 64, [])[0])
    without, seen, pictures = [], [], []
    for _ in range(REPEATS):
        without.append(paces(engine, images, frames, []))
        sink = BrowserSink(options=SinkOptions(site=Site(Door(listen="127.0.0.1:0"))))
        with a_page(sink.site.url.rstrip("/"), quality) as taken:
            seen.append(paces(engine, images, frames, [sink]))
        pictures.append(taken[0])
    fps = [statistics.median(found[0] for found in side) for side in (without, seen)]
    ratio = statistics.median(w[0] / n[0] for w, n in zip(seen, without, strict=True))
    processor = [statistics.median(found[1] for found in side) for side in (without, seen)]
    return {
        "quality": quality,
        "frames": frames,
        "repeats": REPEATS,
        "pictures": statistics.median(pictures),
        "fps_without": round(fps[0], 2),
        "fps_with": round(fps[1], 2),
        "with_of_without": round(ratio, 4),
        "cpu_ms_without": round(1000 * processor[0], 2),
        "cpu_ms_with": round(1000 * processor[1], 2),
        "cpu_share_of_view": round(processor[1] / processor[0] - 1, 4),
    }


@click.command()
@click.option("--output", default="benchmarks/results/browser.json", show_default=True)
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--fps", default=12.0, show_default=True)
@click.option("--quality", default=90, show_default=True, help="Of JPEG; 0 is PNG.")
def main(output: str, seconds: float, fps: float, quality: int) -> None:
    """Measure and write JSON."""
    engine = open_engine("auto", find_model("fast", SCALE), SCALE, (SIZE, SIZE))
    close, name = keep_open(engine), str(engine.info)
    costs = cost(engine, quality)
    click.echo(costs)
    with chromium() as tab:
        found = latency(tab(), engine, fps, quality, seconds)
    close()
    click.echo(found)
    result = {
        "benchmark": "browser",
        **environment(),
        "engine": name,
        "size": SIZE,
        "latency": found,
        "cost": costs,
    }
    write_json(Path(output), result, OWN)
    click.echo(f"wrote {output}")


if __name__ == "__main__":
    main()
