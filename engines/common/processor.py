"""The processor: its name, and how many of its cores there are for this process."""

from __future__ import annotations

import contextlib
import functools
import os
import platform


@functools.cache
def cpu_name() -> str:
    """The processor's name, as the system gives it."""
    return cpu_info("model name") or platform.processor() or platform.machine() or "CPU"


def cpu_info(field: str) -> str:
    """What Linux says of the first processor's ``field`` in /proc/cpuinfo; empty where it says nothing."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith(field):
                return line.partition(":")[2].strip()
    return ""


def core_count() -> int:
    """The cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
