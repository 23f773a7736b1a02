"""How a process ends with the one that started it."""

from __future__ import annotations

import fcntl
import os
import signal
import threading


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
