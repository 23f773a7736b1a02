"""``frames.jsonl`` while it is written."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from clesr.pipeline.session.format import Record, format_line


class Block(NamedTuple):
    """Lines in a row, and the chain value of the last."""

    text: bytes
    chain: str
    lines: int


class LineFile:
    """A new ``path``, locked, whose lines are chained from ``session`` (its id) on. Raises OSError."""

    def __init__(self, path: Path, session: str) -> None:
        self._file = path.open("xb", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.chain, self.count = session, 0

    def format(self, records: Iterable[Record]) -> Block:
        """``records`` as the lines that come next."""
        lines, chain = [], self.chain
        for record in records:
            line, chain = format_line(record, chain)
            lines.append(line)
        return Block(b"".join(lines), chain, len(lines))

    def append(self, block: Block) -> None:
        """Bring ``block`` to the disk; where that fails, none of it is in the file. Any thread, one at a time."""
        size = self._file.seek(0, os.SEEK_END)
        view = memoryview(block.text)
        try:
            while len(view):
                view = view[self._file.write(view) :]
            os.fdatasync(self._file.fileno())
        except OSError:
            self._file.truncate(size)
            raise
        self.chain, self.count = block.chain, self.count + block.lines

    def close(self) -> None:
        self._file.close()
