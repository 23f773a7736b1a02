"""Records the simulated endomicroscope until it is killed: one forked process for each folder named on a line of
standard input, whose process id is written to standard output. An empty line waits until the last has ended."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from clesr.engines import open_engine
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.runner import Pipeline
from clesr.pipeline.session.recorder import Recorder, RecorderSettings
from clesr.pipeline.sources import open_source


def record(folder: Path, codec: str) -> None:
    source = open_source("demo:?size=64&fps=25&drop=0.05")
    prepare = Prepare()
    recorder = Recorder(
        source.info,
        scale=2,
        sr_shape=lambda raw: (2 * raw[0], 2 * raw[1]),
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


for line in sys.stdin:
    name, _, codec = line.strip().partition(" ")
    if not name:
        print(os.wait()[0], flush=True)
        continue
    child = os.fork()
    if not child:
        record(Path(name), codec)
        os._exit(0)
    print(child, flush=True)
