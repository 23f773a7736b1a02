"""Memory that the process with the target and the one that watches it share: what is being tried, since when."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_HEAD = struct.Struct("<QdQ")  # inputs tried, when the present one began (0: none is being tried), its size
LARGEST = 1 << 20


class Board:
    """In the file at ``path``, made with ``create``."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        with path.open("w+b" if create else "r+b") as file:
            if create:
                file.truncate(_HEAD.size + LARGEST)
            self._memory = mmap.mmap(file.fileno(), _HEAD.size + LARGEST)

    def begin(self, count: int, now: float, data: bytes) -> None:
        """The input ``data``, the ``count``-th, is tried from ``now`` on (seconds, monotonic)."""
        data = data[:LARGEST]
        self._memory[_HEAD.size : _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._memory, 0, count, now, len(data))

    def rest(self, count: int) -> None:
        """None is being tried; ``count`` were."""
        _HEAD.pack_into(self._memory, 0, count, 0.0, 0)

    def read(self) -> tuple[int, float, bytes]:
        """Inputs tried, when the present one began (0: none is being tried), and that one."""
        count, since, size = _HEAD.unpack_from(self._memory, 0)
        return count, since, self._memory[_HEAD.size : _HEAD.size + size]

    def close(self) -> None:
        self._memory.close()
