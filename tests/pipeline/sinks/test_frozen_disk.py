"""A disk that does not answer stops the thread that writes to it, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waits import line_from

SCRIPT = """
import os, sys, threading, time
import numpy as np
from fractions import Fraction
from pathlib import Path
from clesr.pipeline.video.encoding import VideoWriter, choose_encoding

path, moment, frozen = Path(sys.argv[1]), sys.argv[2], Path(os.environ["FREEZE_WHILE"])
shape = (256, 256)
image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
step = threading.Event()

def work():
    encoding = choose_encoding("ffv1" if path.suffix == ".mkv" else "h264", path.suffix, image.dtype, shape)
    writer = VideoWriter(path, encoding, shape, tick=Fraction(1, 1000), fps=25)
    for n in range(60):
        if (moment, n) in (("header", 0), ("frames", 10)):
            frozen.touch()
        writer.write(image, 40 * n)
    if moment == "end":
        frozen.touch()
    writer.close()
    step.set()

worker = threading.Thread(target=work)
worker.start()
while not frozen.exists():
    time.sleep(0.01)
assert not step.wait(0.5), "the disk is frozen"
print("alive", flush=True)
frozen.unlink()
worker.join()
print("written", flush=True)
"""


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("moment", ["header", "frames", "end"])
def test_other_threads_go_on_while_a_disk_is_frozen(
    tmp_path: Path, freezer: Path, moment: str, suffix: str
) -> None:
    (tmp_path / "disk").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "disk" / f"out{suffix}", moment],
        capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {
            "LD_PRELOAD": str(freezer), "FREEZE_FOLDER": str(tmp_path / "disk"),
            "FREEZE_WHILE": str(tmp_path / "frozen"),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "alive\nwritten\n"


def test_the_disk_of_these_tests_really_freezes(tmp_path: Path, freezer: Path) -> None:
    frozen = tmp_path / "frozen"
    frozen.touch()
    file = tmp_path / "file"
    script = f"print('begins', flush=True); open({str(file)!r}, 'w').write('x'); print('ends', flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"LD_PRELOAD": str(freezer), "FREEZE_FOLDER": str(tmp_path), "FREEZE_WHILE": str(frozen)},
    )  # fmt: skip
    assert process.stdout is not None
    assert line_from(process.stdout) == "begins\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    frozen.unlink()
    assert process.stdout.read() == "ends\n"
    assert process.wait(20) == 0
    process.stdout.close()
