"""The processor: its name, and how many of its cores there are for this process."""

from __future__ import annotations

import functools
import os
import platform
from contextlib import suppress
from pathlib import Path

NICE = 10  # weighs a tenth of what has none (sched(7))


@functools.cache
def cpu_info() -> dict[str, str]:
    """What Linux says of the first core, such as ``model name`` and ``flags``; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def cpu_name() -> str:
    """The processor's name, as the system gives it."""
    return cpu_info().get("model name") or platform.processor() or platform.machine() or "CPU"


def cores() -> set[int]:
    """The cores that the calling thread may use, by number; at least one."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def core_count() -> int:
    """How many cores the calling thread may use, at least 1."""
    return len(cores())


def schedule(policy: str) -> None:
    """Have the calling thread, and what it starts, share the cores by ``policy``: ``SCHED_BATCH`` takes none from
    another thread that is at work, ``SCHED_IDLE`` takes only those that nobody wants, ``SCHED_OTHER`` is the usual.
    Nothing happens on systems without it."""
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, getattr(os, policy), os.sched_param(0))


def give_way() -> None:
    """Have others go first where they want a core: the calling thread, and what it starts, gets a tenth of it."""
    with suppress(OSError):
        os.nice(NICE)
    schedule("SCHED_BATCH")


def seconds_used(pid: int) -> float:
    """Seconds of a core that the first thread of process ``pid`` has used; 0 where nobody tells."""
    import psutil  # which machines for a benchmark may lack

    with suppress(psutil.Error, OSError):
        for thread in psutil.Process(pid).threads():
            if thread.id == pid:
                return float(thread.user_time + thread.system_time)
    return 0.0
