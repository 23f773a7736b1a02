"""Messages between two processes in memory that both see."""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

ALIGNED = 64  # bytes: where a part of a message may begin


class SharedMessage:
    """Room for one message, as large as it needs. The memory has no name, so nothing is left of it when both processes
    have ended, in whatever way. ``descriptor`` is that of the other process, None where the memory is made.

    Who writes and who reads is agreed on elsewhere. Messages are pickles with their arrays beside them, for a process
    that trusts the writer: its parent.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = _new_memory() if descriptor is None else descriptor
        self._map: mmap.mmap | None = None

    def put(self, message: object) -> list[int]:
        """Write ``message``; the sizes of its parts, which ``get`` needs."""
        arrays: list[pickle.PickleBuffer] = []
        head = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
        parts = [memoryview(head), *[array.raw() for array in arrays]]
        sizes = [part.nbytes for part in parts]
        *places, end = _places(sizes)
        if self._map is None or len(self._map) < end:
            os.ftruncate(self.descriptor, end)
            self._map = mmap.mmap(self.descriptor, end)
        for at, part in zip(places, parts, strict=True):
            self._map[at : at + part.nbytes] = part
        return sizes

    def get(self, sizes: Sequence[int]) -> Any:
        """The message, whose arrays lie in the shared memory: valid until the other process writes again."""
        *places, end = _places(sizes)
        if self._map is None or len(self._map) < end:
            self._map = mmap.mmap(self.descriptor, end, access=mmap.ACCESS_READ)
        whole = memoryview(self._map)
        head, *arrays = [whole[at : at + size] for at, size in zip(places, sizes, strict=True)]
        return pickle.loads(head, buffers=arrays)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor, self._map = -1, None


def _places(sizes: Sequence[int]) -> list[int]:
    """Where parts of these ``sizes`` begin, and where the last one ends."""
    return list(accumulate([-(-size // ALIGNED) * ALIGNED for size in sizes], initial=0))


def _new_memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("clesr")
    with tempfile.TemporaryFile() as file:  # has no name either
        return os.dup(file.fileno())
