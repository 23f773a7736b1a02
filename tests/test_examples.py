"""The programs in examples/, each run as a user runs it."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from documents import EXAMPLES, ROOT, commands
from session_runs import frames, record

FOLDER = ROOT / "examples"


Lines = Callable[..., list[str]]


def run(folder: Path, name: str, *arguments: str) -> list[str]:
    """What the example prints, from a process of its own that works in ``folder``."""
    command = [sys.executable, "-W", "error", str(FOLDER / name), *arguments]
    finished = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Lines:
    """The same in this process, which has loaded PyTorch already; for an example that leaves nothing behind in it."""

    def invoke(name: str, *arguments: str) -> list[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", [name, *arguments])
        runpy.run_path(str(FOLDER / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return invoke


def test_upscale_array(run_here: Lines) -> None:
    assert run_here("upscale_array.py") == [
        "(96, 128) uint8 -> (384, 512) uint8",
        "16 bits stay 16 bits: (192, 256) uint16",
    ]


def test_camera_loop(run_here: Lines) -> None:
    *lines, engine = run_here("camera_loop.py", "3")
    assert [line.partition(", mean")[0] for line in lines] == [
        f"frame {n}: (128, 128) uint8" for n in range(3)
    ]
    assert "fast x2" in engine


def test_read_session(tmp_path: Path) -> None:
    record(tmp_path / "session", frames([0, 1, 4]))
    first, *lines, last = run(tmp_path, "read_session.py", "session")
    assert first.endswith("nothing was changed")
    assert lines == [
        "frame 0 at 0.000 s: upscaled",
        "frame 1 at 0.040 s: upscaled",
        "frame 2 at 0.160 s: lost-at-source",
        "frame 4 at 0.160 s: upscaled",
    ]
    assert last == "captured (3, 12, 18) uint8, up-scaled (3, 24, 36) uint8"


def test_own_source(run_here: Lines, tmp_path: Path) -> None:
    (line,) = run_here("own_source.py", "out.mkv")
    assert line.startswith("out.mkv: 10 frames, 0.40 s")
    with av.open(str(tmp_path / "out.mkv")) as container:
        shapes = {frame.to_ndarray(format="gray").shape for frame in container.decode(video=0)}
    assert shapes == {(128, 128)}


@pytest.mark.slow
def test_own_model(tmp_path: Path) -> None:
    assert run(tmp_path, "own_model.py") == ["(128, 128)"]
    assert (tmp_path / "sharpen-x2.safetensors").is_file()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_what_an_example_says_of_itself_is_so(path: Path) -> None:
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert ("python", f"examples/{path.name}") in [command.words[:2] for command in commands(path)]
    for name in re.findall(r"``(\w+)``", said):
        assert re.search(rf"^(class|def) {name}\b", path.read_text(), re.MULTILINE), f"there is no {name}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_short_and_tested(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 40
    assert f"def test_{path.stem}(" in Path(__file__).read_text()
