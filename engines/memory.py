"""Memory that does not suffice."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

from clesr.engines.common.errors import EngineError, chain

WORDS = ("out of memory", "outofmemory", "not enough memory", "bad_alloc")

ARENA_MAX = -8  # of mallopt(3)
ARENAS = 2


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether ``error``, or what it was raised from or after, says that memory did not suffice: the end of a graph's
    capture that ran out of it raises an error of its own."""
    import torch

    return any(
        isinstance(one, torch.OutOfMemoryError | MemoryError)
        or (isinstance(one, EngineError | RuntimeError) and any(w in str(one).lower() for w in WORDS))
        for one in chain(error)
    )


def free_memory() -> None:
    """Give back what closed engines held, on a GPU too, so that others than torch can have it."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gc.collect()
        torch.cuda.empty_cache()
    trim_memory()


def trim_memory() -> None:
    """Give back what this process has freed; glibc alone does so only with what lies at the end of an arena. Takes 10
    to 25 ms, in which other threads that take memory may wait."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def share_arenas() -> None:
    """Have all threads of this process that begin from now on take memory from the same few places (glibc's arenas).

    Else each thread has its own, which keeps what engines that were closed long ago had there.
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(ARENA_MAX, ARENAS)
