"""What the script for GPUs does with nothing but Python itself: processes that end, and what the driver's tool says."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EVERY_S = 0.1  # between two looks at a process
PR_SET_PDEATHSIG = 1


def run_within(
    command: Sequence[str], seconds: float, *, meanwhile: Callable[[], object] = lambda: None, **options: Any
) -> int | None:
    """The exit status of ``command``; None where it and all it started were ended after ``seconds``. ``meanwhile`` is
    called again and again; ``options`` are those of subprocess.Popen. What is started dies with this thread."""
    end = monotonic() + seconds
    die = functools.partial(_die_with, os.getpid(), ctypes.CDLL(None))
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, preexec_fn=die, **options)
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(max(0.0, min(EVERY_S, end - monotonic())))
            meanwhile()
            if monotonic() >= end:
                return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _die_with(parent: int, libc: ctypes.CDLL) -> None:
    """In the child: be killed when the parent's thread ends, however that happens."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def card_says(*fields: str) -> str:
    """What nvidia-smi says of the first GPU's ``fields``, in its words; why it says nothing where it does not."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi does not answer: {error}"
    return " ".join((done.stdout or done.stderr).split())
