"""``frames.jsonl`` while it is written."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from io import FileIO
from typing import NamedTuple

from clesr.pipeline.session.format import FRAMES, FileFacts, Record, digest_open, format_line
from clesr.pipeline.session.place import Held


class Block(NamedTuple):
    """Lines in a row, and the chain value of the last."""

    text: bytes
    chain: str
    lines: int


class LineFile:
    """The new ``file``, locked, whose lines are chained from ``session`` (its id) on. Raises OSError."""

    def __init__(self, file: FileIO, session: str) -> None:
        self._file = file
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.chain, self.count, self._size = session, 0, 0

    @property
    def held(self) -> Held:
        """The file, to be checked."""
        return Held(FRAMES, self._file.fileno(), self._size)

    def format(self, records: Iterable[Record]) -> Block:
        """``records`` as the lines that come next."""
        lines, chain = [], self.chain
        for record in records:
            line, chain = format_line(record, chain)
            lines.append(line)
        return Block(b"".join(lines), chain, len(lines))

    def append(self, block: Block) -> None:
        """Bring ``block`` to the disk; where that fails, none of it is in the file. Any thread, one at a time."""
        self._file.seek(self._size)
        view = memoryview(block.text)
        try:
            while len(view):
                view = view[self._file.write(view) :]
            os.fdatasync(self._file.fileno())
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(block.text)
        self.chain, self.count = block.chain, self.count + block.lines

    def digest(self) -> FileFacts:
        """Size and digest of what is in it."""
        return digest_open(self._file)

    def close(self) -> None:
        self._file.close()
