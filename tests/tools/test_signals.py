"""Ctrl-C, SIGTERM and a closed terminal, at every moment and whatever hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waits import line_from

from clesr.pipeline.session.verify import verify

PATIENCE_S = 90
CHILD = Path(__file__).with_name("hanging_child.py")
INTERRUPTED = "clesr: error: interrupted\n"
slow = pytest.mark.slow  # starts whole commands, and waits for their deadlines
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `clesr-live` in which PART hangs, with a recording and a video in the test's folder."""
    processes: list[subprocess.Popen[str]] = []

    def begin(part: str, *options: object) -> subprocess.Popen[str]:
        command = [
            sys.executable, CHILD, part, "--source", "demo:?size=64&fps=50", "--model", "nearest", "--scale", 2,
            "--display", "none", "--record", tmp_path / "s", "--output", tmp_path / "out.mkv", *options,
        ]  # fmt: skip
        return launch([*map(str, command)])

    def launch(command: list[str], **options: str) -> subprocess.Popen[str]:
        heeding = ["env", "--default-signal=HUP", *command]  # not deaf to it as what runs under nohup
        process = subprocess.Popen(
            heeding, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **options},
        )  # fmt: skip
        processes.append(process)
        return process

    begin.launch = launch  # type: ignore[attr-defined]
    yield begin
    for process in processes:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def says(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    pytest.fail(f"it ended without {word!r}: {process.communicate(timeout=PATIENCE_S)[1]}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_everything_is_imported_is_one_line(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "rich_click.py").write_text("import time\nprint('imports', flush=True)\ntime.sleep(600)\n")
    code = "from clesr.tools.entry import live_main; live_main()"
    process = start.launch([sys.executable, "-c", code], PYTHONPATH=str(tmp_path))  # type: ignore[attr-defined]
    says(process, "imports")
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (128 + number, INTERRUPTED)


def test_a_signal_for_a_recording_that_comes_too_early_is_told_and_ends_nothing(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "rich_click.py").write_text("import time\nprint('imports', flush=True)\ntime.sleep(600)\n")
    code = "from clesr.tools.entry import live_main; live_main()"
    process = start.launch([sys.executable, "-c", code], PYTHONPATH=str(tmp_path))  # type: ignore[attr-defined]
    says(process, "imports")
    process.send_signal(signal.SIGUSR1)
    assert process.stderr is not None
    assert "by SIGUSR1" in line_from(process.stderr)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (128 + signal.SIGTERM, INTERRUPTED)


@slow
@pytest.mark.parametrize("part", ["engine opening", "source opening"])
def test_ctrl_c_while_something_is_opened_that_never_opens_leaves_no_file(
    start: Start, tmp_path: Path, part: str
) -> None:
    process = start(part)
    says(process, "hangs")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert [line for line in err.splitlines() if "error:" in line] == [err.splitlines()[-1]]
    assert "interrupted" in err.splitlines()[-1]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@slow
def test_ctrl_c_while_an_engine_is_slowly_opened_is_one_line(start: Start, tmp_path: Path) -> None:
    script = (
        "import time; from clesr.tools import entry; from clesr.engines import opener\n"
        "def slow(*a, **k): print('opens', flush=True); time.sleep(600)\n"
        "opener.open_engine = slow; entry.live_main()"
    )
    options = ["--source", "demo:?size=64", "--display", "none", "--record", str(tmp_path / "s")]
    process = start.launch([sys.executable, "-c", script, *options])  # type: ignore[attr-defined]
    says(process, "opens")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert err.splitlines()[-1] == INTERRUPTED.strip()
    assert "Traceback" not in err


@slow
@pytest.mark.parametrize("part", ["engine", "source", "sink", "closing", "window"])
def test_a_second_ctrl_c_ends_a_run_whatever_hangs_and_the_recording_holds(
    start: Start, tmp_path: Path, part: str
) -> None:
    process = start(part, *(["--frames", 30] if part == "closing" else []))
    says(process, "hangs")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("stopping: "):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode in (1, 130), err
    assert "Traceback" not in err
    assert "given up" in err.splitlines()[-1]
    found = verify(tmp_path / "s")
    assert found.holds, found.problems
    assert found.totals["captured"] > 0


@slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_nobody_can_repeat_ends_a_run_that_hangs(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    process = start("engine")
    says(process, "hangs")
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode in (1, 128 + number), err
    assert verify(tmp_path / "s").holds


@slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_drains_a_run_and_closes_its_session(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    code = "from clesr.tools.entry import live_main; live_main()"
    options = [
        "--source", "demo:?size=64&fps=50", "--model", "nearest", "--scale", "2", "--display", "none",
        "--record", str(tmp_path / "s"),
    ]  # fmt: skip
    process = start.launch([sys.executable, "-c", code, *options])  # type: ignore[attr-defined]
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("live: "):
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    found = verify(tmp_path / "s")
    assert found.holds
    assert found.info.ended == "stopped"
