"""Memory that closed engines had does not stay with threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

THREADS = """
import ctypes, sys, threading
from clesr.engines.memory import share_arenas
if sys.argv[1] == "shared":
    share_arenas()
libc = ctypes.CDLL(None)
all_there = threading.Barrier(8)
def take():
    all_there.wait(60)
    libc.malloc(100_000)
    all_there.wait(60)
threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""


TRIMMED = """
import psutil
from clesr.engines.memory import trim_memory
held = [bytes(100_000) for _ in range(2000)]
kept = held[::100]
del held
before = psutil.Process().memory_info().rss
trim_memory()
print(before - psutil.Process().memory_info().rss)
"""


def arenas(how: str) -> int:
    """Of a process with eight threads that take memory at the same time."""
    told = subprocess.run(
        [sys.executable, "-c", THREADS, how], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    return told.count("<heap nr=")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc")
def test_threads_share_few_places_of_memory() -> None:
    assert arenas("shared") <= 2 < arenas("each")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc")
def test_what_lies_freed_among_what_is_held_goes_back_to_the_system() -> None:
    told = subprocess.run(
        [sys.executable, "-c", TRIMMED], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    assert int(told) > 100e6
