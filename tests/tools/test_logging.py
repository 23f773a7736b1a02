"""Who hears what clesr says: the user of a command, under names of streams; an application that asks for it."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from session_runs import frames, make_run
from support import FakeEngine

from clesr.pipeline.frame import Corrupt
from clesr.pipeline.messages import naming
from clesr.pipeline.sharing import run_together
from clesr.tools.common.console import user_logging
from clesr.tools.common.stderr import stderr

if TYPE_CHECKING:
    from commands import Run

PROGRAM = """
import logging, sys
import numpy as np
import clesr
image = np.zeros((16, 16), np.uint8)
for level in (None, logging.WARNING, logging.INFO):
    if level:
        logging.basicConfig(level=level, force=True)
    sys.stderr.write(f"{level}\\n")
    clesr.upscale(image, 2, "nearest")
    logging.getLogger("clesr.pipeline").warning("a warning")
"""
VERBOSE = r"\d\d:\d\d:\d\d\.\d{3} clesr\.[a-z_.]+: "
DEMO = ("--source", "demo:?size=64&frames=5", "--pace", "max", "--display", "none")


@pytest.mark.slow
def test_a_program_hears_what_it_asks_for_and_nothing_by_default() -> None:
    finished = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300)
    assert (finished.returncode, finished.stdout) == (0, ""), finished.stderr
    *_, nothing, warnings, all_of_it = re.split(r"^(?:None|30|20)\n", finished.stderr, flags=re.M)
    assert nothing == ""
    assert warnings == "WARNING:clesr.pipeline:a warning\n"
    assert re.match(r"INFO:clesr\.engines\.opener:engine: interpolation .*\nWARNING:clesr.pipe", all_of_it)


@pytest.fixture(params=["clesr-live", "clesr upscale"])
def command(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[object, ...]:
    if request.param == "clesr-live":
        return ("clesr-live", *DEMO, "--scale", 2, "--model", "nearest")
    (tmp_path / "a.pgm").write_bytes(b"P5 16 12 255\n" + bytes(16 * 12))
    return ("clesr", "upscale", tmp_path / "a.pgm", "-o", tmp_path / "o", "--scale", 2, "--model", "nearest")


def test_quiet_leaves_warnings_and_errors_alone(command: tuple[str, ...], run: Run) -> None:
    assert run(*command, "--quiet") == (0, "", "")
    assert run(*command, "--roi", "0,0,999,999", "--quiet")[2].startswith("clesr: error: ")
    assert "engine: interpolation" in run(*command, "--overwrite")[2]


def test_verbose_says_more_with_times_and_modules(
    command: tuple[str, ...], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLESR_LIVE_QUIET", "1")  # it is the weaker one
    monkeypatch.setenv("CLESR_UPSCALE_QUIET", "1")
    code, _, err = run(*command, "--verbose")
    assert code == 0
    assert re.search(VERBOSE + r"reading .* begins$", err, re.M)
    assert re.search(VERBOSE + "engine: interpolation", err, re.M)
    table = ("latency, ms", "prepare ", "wait ", "engine ", "total ")
    assert all(re.match(VERBOSE, line) for line in err.splitlines() if not line.startswith(table)), err


def test_lines_have_the_names_of_their_streams(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Those of every thread: source, engine, recorder, committer."""

    def failing() -> Callable[[tuple[int, int]], FakeEngine]:
        asked: list[tuple[int, int]] = []

        def make(shape: tuple[int, int]) -> FakeEngine:
            asked.append(shape)
            if len(asked) == 1:
                raise RuntimeError("not yet")
            return FakeEngine(shape)

        return make

    with user_logging():
        runs = []
        for name in ("left", "right", None):
            with naming(name):
                run, _ = make_run([*frames(range(3)), Corrupt(3, 0, "bad")], factory=failing())
            run.start_recording(tmp_path / str(name))
            runs.append(run)
        run_together(runs)
    assert stderr.settle()
    lines = capfd.readouterr().err.splitlines()
    for name in ("left", "right"):
        own = [line.removeprefix(f"{name}: ") for line in lines if line.startswith(f"{name}: ")]
        assert f"recording to {tmp_path / name}" in own
        assert "frame 3 of scripted is corrupt: bad" in own
        assert any(line.startswith("the engine failed (not yet)") for line in own)
    assert all(line.startswith(("left: ", "right: ")) for line in lines), lines


def test_what_is_said_of_engines_is_said_once_a_command(capfd: pytest.CaptureFixture[str]) -> None:
    with user_logging():
        for name in ("clesr.engines.tiles", "clesr.pipeline.capture"):
            for _ in range(2):
                logging.getLogger(name).warning(name)
    assert stderr.settle()
    assert capfd.readouterr().err.splitlines() == ["clesr.engines.tiles", *["clesr.pipeline.capture"] * 2]
