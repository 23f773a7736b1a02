"""Standard error and output that nobody reads, or that cannot be written: no work depends on them."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from clesr.pipeline.session.verify import verify

PATIENCE_S = 60
BROKEN = ["reader gone", "frozen pipe", "frozen terminal", "closed", "full disk"]
TELLING = """
import sys, threading
import logging
from clesr.tools.common.console import user_logging
from clesr.tools.common.stderr import stderr
log = logging.getLogger("clesr.test")
worker = threading.Thread(target=lambda: [log.info(f"line {i} {'x' * 100}") for i in range(5000)])
with user_logging():
    worker.start()
    worker.join()
stderr.settle(0.2)
print("done")
"""
ENTRY = "from clesr.tools.entry import main; main()"


@contextmanager
def broken(kind: str) -> Iterator[int | None]:
    """A descriptor for standard error that is broken as ``kind`` says; None where it is to be closed."""
    with ExitStack() as stack:
        if kind == "closed":
            yield None
            return
        if kind == "full disk":
            yield stack.enter_context(open("/dev/full", "wb")).fileno()
            return
        reader, writer = pty.openpty() if kind == "frozen terminal" else os.pipe()
        stack.callback(os.close, writer)
        if kind == "reader gone":
            os.close(reader)
        else:
            stack.callback(os.close, reader)
        if kind == "frozen terminal":
            termios.tcflow(writer, termios.TCOOFF)  # what Ctrl-S does
        if kind == "frozen pipe":
            fill(writer)
        yield writer


def fill(descriptor: int) -> None:
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    try:
        while True:
            os.write(descriptor, bytes(4096))
    except BlockingIOError:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)


def run(code: str, *arguments: object, stderr: int | None) -> subprocess.CompletedProcess[str]:
    """Python with ``code`` and this standard error; None: with none at all."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        preexec_fn=None if stderr is not None else lambda: os.close(2),
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_said_neither_raises_nor_blocks(kind: str) -> None:
    with broken(kind) as descriptor:
        done = run(TELLING, stderr=descriptor)
    assert (done.returncode, done.stdout) == (0, "done\n")


@pytest.mark.slow
@pytest.mark.parametrize("kind", BROKEN)
def test_a_recording_does_not_depend_on_standard_error(kind: str, tmp_path: Path) -> None:
    with broken(kind) as descriptor:
        done = run(
            ENTRY, "live", "--source", "demo:?size=64&fps=50", "--model", "nearest", "--scale", 2, "--display", "none",
            "--record", tmp_path / "s", "--frames", 40, stderr=descriptor,
        )  # fmt: skip
    assert done.returncode == 0
    found = verify(tmp_path / "s")
    assert found.holds, found.problems
    assert found.totals["captured"] == found.totals["raw"] + found.totals.get("lost-at-source", 0) >= 40


def test_lines_that_had_no_room_are_counted_where_they_are_missing() -> None:
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", TELLING.replace("0.2", "30")], stdout=subprocess.PIPE, stderr=writer, text=True
    )
    os.close(writer)
    with os.fdopen(reader, errors="replace") as pipe:
        signal.sigtimedwait([], 1.5)  # nobody reads for a while
        lines = pipe.read().splitlines()
    assert process.communicate(timeout=PATIENCE_S)[0] == "done\n"
    told = [line for line in lines if line.startswith("line ")]
    missing = [int(line[1:].split()[0]) for line in lines if "were left out here" in line]
    assert len(told) + sum(missing) == 5000
    assert told == sorted(told, key=lambda line: int(line.split()[1]))


def test_no_file_gets_the_number_of_a_standard_descriptor() -> None:
    code = (
        "import os; [os.close(n) for n in (0, 1, 2)]\n"
        "from clesr.tools.entry import keep_standard_descriptors as keep; keep()\n"
        "os._exit(os.open('/dev/null', os.O_RDONLY))"
    )
    assert run(code, stderr=subprocess.DEVNULL).returncode >= 3


@pytest.mark.slow
@pytest.mark.parametrize("command", [["models"], ["models", "--json"], ["live", "--help"]])
def test_who_reads_only_the_beginning_gets_no_traceback(command: list[str]) -> None:
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", ENTRY, *command], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    os.close(reader)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert err == ""
    assert process.returncode in (0, 1)


@pytest.mark.slow
def test_output_on_a_full_disk_is_one_line_and_a_failure() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", ENTRY, "models"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("clesr: error: what was printed could not be written: No space left")
    assert done.stderr.count("\n") == 1
