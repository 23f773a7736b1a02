"""What lies under a mask is seen by nobody: neither shown, nor recorded, nor up-scaled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recordings import read_all
from support import FakeEngine, ListSink, ScriptedSource

from clesr.pipeline.frame import Frame
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.prepare import Roi
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.sources.masked import Masked
from clesr.pipeline.sources.registry import open_source

BRIGHT = np.full((20, 30), 200, np.uint8)
REGION = Roi(4, 6, 10, 5)


def test_the_region_is_black_and_all_else_as_it_was() -> None:
    source = Masked(ScriptedSource([Frame(BRIGHT.copy(), 0, 1), Frame(BRIGHT.copy(), 1, 2)]), [REGION])
    frames, _ = read_all(source)
    assert len(frames) == 2
    for frame in frames:
        assert (frame.image[6:11, 4:14] == 0).all()
        left = frame.image.copy()
        left[6:11, 4:14] = 200
        np.testing.assert_array_equal(left, BRIGHT)


def test_neither_a_sink_nor_the_recording_has_seen_it(tmp_path: Path) -> None:
    source = Masked(ScriptedSource([Frame(BRIGHT.copy(), n, n + 1) for n in range(3)]), [REGION])
    recorder = Recorder(source.info, scale=2)
    sink = ListSink()
    run = Pipeline(source, FakeEngine, [sink], scale=2, recorder=recorder)
    run.start_recording(tmp_path / "session")
    run.run()
    assert len(sink.results) == 3
    for result in sink.results:
        assert (result.frame.image[6:11, 4:14] == 0).all()
        assert (result.lr[6:11, 4:14] == 0).all()
        assert (result.image[12:22, 8:28] == 0).all()
        assert (result.image[24:] == 200).all()
    recorded, _ = read_all(open_source(str(tmp_path / "session"), pace="max"))
    assert len(recorded) == 3
    for frame in recorded:
        assert (frame.image[6:11, 4:14] == 0).all()
        assert (frame.image[11:] == 200).all()


@pytest.mark.slow
def test_the_option_masks_what_is_recorded(tmp_path: Path) -> None:
    """In the middle, where the phantom is bright."""
    command = [str(Path(sys.executable).with_name("clesr")), "live"]
    options = [
        "--source",
        "demo:?size=64&fps=100",
        "--mask",
        "24,26,16,10",
        "--frames",
        "4",
        "--display",
        "none",
    ]
    model = ["--model", "bicubic", "--scale", "2", "--record", str(tmp_path / "session")]
    done = subprocess.run(
        [*command, *options, *model], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    frames, _ = read_all(open_source(str(tmp_path / "session"), pace="max"))
    assert frames
    for frame in frames:
        assert (frame.image[26:36, 24:40] == 0).all()
        assert frame.image[26:36, 40:56].mean() > 20
