"""Keeps a target running in processes of its own, and sees what they cannot say themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fuzz.board import Board
from fuzz.child import CAUGHT, HANG_S
from fuzz.findings import Findings, read

STUCK_S = 3 * HANG_S  # until a process that does not react is killed
LOOK_S = 0.25
STARTS = 25  # processes that may end early before a target is given up
TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Result:
    """What ``inputs`` of a target in ``seconds`` (of which ``working`` without the starts of processes) came to."""

    target: str
    inputs: int
    seconds: float
    working: float
    findings: int
    given_up: bool

    @property
    def rate(self) -> float:
        return self.inputs / (self.working or self.seconds)

    def __str__(self) -> str:
        ended = f", given up after {STARTS} processes that ended early" if self.given_up else ""
        return (
            f"{self.target:12} {self.inputs:9,} inputs in {self.seconds:6.1f} s, {self.rate:8,.0f} a second, "
            f"{self.findings} findings{ended}"
        )


def watch(
    name: str, *, inputs: int, seconds: float, seed: str, scratch: Path, findings: Path, most: int = STARTS
) -> Result:
    """Try ``inputs`` of the target ``name``, for ``seconds`` and in ``most`` processes at most."""
    started = time.monotonic()
    board = Board(scratch / "board", create=True)
    found, before = Findings(findings, name), _count(findings, name)
    starts, working, again, deaths = 0, 0.0, True, 0
    while again and starts < most:
        board.rest(board.read()[0])
        process = _start(name, f"{seed} {starts}", inputs, started + seconds, scratch, findings)
        starts += 1
        code, worked = _follow(process, board)
        working += worked
        if code not in (0, CAUGHT):
            deaths += 1
            cause = _death(code, scratch)
            if deaths > 1 or _dies_again(name, scratch):
                found.add("death", cause, (), board.read()[2])
            found.avoid(board.read()[2])
        count = board.read()[0]
        again = code != 0 and count < inputs and time.monotonic() < started + seconds
    board.close()
    return Result(name, count, time.monotonic() - started, working, _count(findings, name) - before, again)


def _start(
    name: str, seed: str, inputs: int, end: float, scratch: Path, findings: Path
) -> subprocess.Popen[bytes]:
    return _process([name, seed, str(inputs), str(end), str(scratch), str(findings)], scratch)


def _dies_again(name: str, scratch: Path) -> bool:
    """Whether the input on the board ends another process too: a machine has its own faults, once in a while."""
    process = _process([name, str(scratch)], scratch)
    try:
        return process.wait(STUCK_S) != 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(60)
        return True


def _process(words: list[str], scratch: Path) -> subprocess.Popen[bytes]:
    own = {
        "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS / "helpers"))),
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    log = (scratch / "log").open("ab")
    with log:
        return subprocess.Popen(
            [sys.executable, "-m", "fuzz.child", *words],
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )


def _follow(process: subprocess.Popen[bytes], board: Board) -> tuple[int, float]:
    """The exit status of ``process``, and the seconds in which it tried inputs."""
    first: float | None = None
    while True:
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(LOOK_S)
            return code, time.monotonic() - first if first is not None else 0.0
        _, since, _ = board.read()
        first = first or since or None
        late = time.monotonic() - since if since else 0.0
        if late > STUCK_S:
            process.kill()
        elif late > HANG_S:
            process.send_signal(signal.SIGALRM)


def _death(code: int, scratch: Path) -> str:
    """In a line, why a process ended by itself."""
    if code == -signal.SIGKILL:
        return f"it does not react for {STUCK_S:g} s"
    if code < 0:
        faults = [line.strip() for line in (scratch / "faults").read_text().splitlines() if "File" in line]
        return f"{signal.Signals(-code).name}: {faults[0] if faults else ''}"
    said = (scratch / "log").read_text(errors="replace").strip().splitlines()
    return f"exit status {code}: {said[-1] if said else ''}"


def _count(folder: Path, name: str) -> int:
    return sum(finding.target == name for finding in read(folder))
