"""Processes that end with the one that started them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any


def start_child(
    program: str, *words: object, descriptors: Sequence[int], **more: Any
) -> subprocess.Popen[bytes]:
    """The Python module ``program``, run with ``words`` in a process that has these ``descriptors``, and calls
    ``end_with_parent``; ``more`` is for Popen. Raises OSError."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", program, *map(str, words)],
        stdin=subprocess.PIPE,  # whose end tells it that we are gone
        stdout=subprocess.DEVNULL,
        pass_fds=descriptors,
        # Ctrl-C is for this process, which then ends the other. A session of its own keeps it away as well, but Linux
        # shares the cores among sessions first (autogroups): no ``nice`` counts between them.
        process_group=0,
        **more,
    )


def end_with_parent() -> None:
    """End this process as soon as its standard input ends, a pipe into which the parent writes nothing: when that one
    ends, in whatever way, and whatever hangs here. A signal does so even where native code keeps Python's lock."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    # Where it has ended by now, or there is no such signal.
    threading.Thread(target=_end, daemon=True).start()


def _end() -> None:
    os.read(0, 1)
    os._exit(1)
