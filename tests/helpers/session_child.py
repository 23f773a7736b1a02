"""Records the simulated endomicroscope until it is killed: one forked process for each folder named on a line of
standard input, whose process id is written to standard output. An empty line waits until the last has ended.

A line is ``FOLDER CODEC SECONDS``; to bring something to the disk takes so many seconds longer than it does.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from clesr.engines.factory import open_engine
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.session.manifest import RecorderSettings
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.sources.registry import open_source


def record(folder: Path, codec: str, seconds: float) -> None:
    os.fsync, os.fdatasync = slower(os.fsync, seconds), slower(os.fdatasync, seconds)  # type: ignore[assignment]
    source = open_source("demo:?size=64&fps=25&drop=0.05")
    prepare = Prepare()
    recorder = Recorder(
        source.info,
        scale=2,
        settings=RecorderSettings(codec=codec),
    )
    run = Pipeline(
        source,
        lambda shape: open_engine("auto", "bicubic", 2, shape),
        [],
        scale=2,
        prepare=prepare,
        recorder=recorder,
    )
    run.start_recording(folder)
    run.run()


def slower(sync: Callable[[int], None], seconds: float) -> Callable[[int], None]:
    def slow(file: int) -> None:
        time.sleep(seconds)
        sync(file)

    return slow


for line in sys.stdin:
    if not line.strip():
        print(os.wait()[0], flush=True)
        continue
    name, codec, slow = line.split()
    child = os.fork()
    if not child:
        record(Path(name), codec, float(slow))
        os._exit(0)
    print(child, flush=True)
