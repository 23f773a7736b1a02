"""The processor: its name, and how many of its cores there are for this process."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path


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


def core_count() -> int:
    """The cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
