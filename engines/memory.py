"""Memory that does not suffice."""

from __future__ import annotations

import gc

from clesr.engines.common.errors import EngineError, chain

WORDS = ("out of memory", "outofmemory", "not enough memory", "bad_alloc")


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
    """Give back what closed engines held on a GPU, so that others than torch can have it."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gc.collect()
        torch.cuda.empty_cache()
