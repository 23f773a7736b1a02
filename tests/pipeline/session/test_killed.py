"""Recordings that end by kill -9."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import until
from waits import line_from

from clesr.engines.common.clock import SYSTEM
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.repair import repair
from clesr.pipeline.session.verify import verify

CHILD = Path(__file__).parents[2] / "helpers" / "session_child.py"
PATIENCE_S = 60.0
LOST_NS = 1_000_000_000

Begin = Callable[[str], int]


@pytest.fixture(scope="module")
def begin() -> Iterator[Begin]:
    """Gives a line to the child, and the process id that it answers."""
    parent = subprocess.Popen(
        [sys.executable, str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    started: list[int] = []

    def start(line: str) -> int:
        print(line, file=parent.stdin, flush=True)
        started.append(int(line_from(parent.stdout)))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    parent.stdin.close()
    parent.wait(PATIENCE_S)
    parent.stdout.close()


def killed(begin: Begin, folder: Path, codec: str, after_s: float, *, slow_s: float = 0.0) -> int:
    """Record into ``folder``, on a disk slower by ``slow_s``, and kill that ``after_s`` seconds after its begin; when
    that was, ns."""
    process = begin(f"{folder} {codec} {slow_s}")
    until((folder / "session.json").exists, PATIENCE_S)
    threading.Event().wait(after_s)
    now = SYSTEM.now_ns()
    os.kill(process, signal.SIGKILL)
    assert begin("") == process, "it has ended, and given back what it held"
    return now


def check(folder: Path, killed_ns: int) -> None:
    """It opens, verify says what is there, at most the last second is missing, and repair closes it."""
    session = read_session(folder)
    before = verify(folder)
    lines = list(session.records())
    assert not session.info.closed
    assert "not closed" in before.problems[0]
    assert all("the recording was cut off before that was written" in p for p in before.problems[1:]), before

    said = repair(folder)
    after = verify(folder)
    assert after.problems == ()
    assert after.info.closed
    assert after.info.ended.startswith("repaired")
    records = list(read_session(folder).records())
    assert [r for r in records if not r.recovered] == lines
    found = sum(r.recovered for r in records)
    assert found == after.totals.get("unfinished", 0)
    assert not found or f"{found} frames were found in the video alone" in said[0]
    last = records[-1].captured_ns if records else session.info.started_ns
    assert killed_ns - last < LOST_NS
    assert (folder / "before-repair" / "frames.jsonl").exists()
    raw = list(read_session(folder).images("raw"))
    assert len(raw) == after.totals.get("raw", 0)


@pytest.mark.parametrize("codec", ["ffv1", "hevc"])
def test_killed_at_a_random_moment(begin: Begin, tmp_path: Path, codec: str) -> None:
    check(tmp_path / "s", killed(begin, tmp_path / "s", codec, random.uniform(0, 2)))


def test_killed_while_the_disk_takes_long(begin: Begin, tmp_path: Path) -> None:
    check(tmp_path / "s", killed(begin, tmp_path / "s", "ffv1", 1.5, slow_s=60.0))


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(30))
def test_killed_thirty_times(begin: Begin, tmp_path: Path, attempt: int) -> None:
    check(tmp_path / "s", killed(begin, tmp_path / "s", "ffv1", random.uniform(0, 2)))
