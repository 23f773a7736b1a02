"""Standard error that nobody has to wait for: its reader may be slow, frozen or gone."""

from __future__ import annotations

import io
import os
import queue
import select
import sys
import threading
from contextlib import suppress
from typing import TextIO

MOST = 2000  # texts that may wait; later ones are left out and counted


class DetachedStream(io.TextIOBase):
    """Text for ``sys.stderr`` from any thread. ``write`` returns at once and never raises: one thread writes. What has
    no room, and what nobody reads any more, is lost; no work depends on it."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[bytes | threading.Event] = queue.SimpleQueue()
        self._left_out = 0
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        target = _target()
        if target is None:
            return len(text)
        if not _is_descriptor_2(target):
            with suppress(OSError, ValueError):  # in memory, or a file that somebody put in its place
                target.write(text)
                target.flush()
        elif self._waiting.qsize() >= MOST:
            self._left_out += 1
        else:
            self._put(text.encode(target.encoding or "utf-8", "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        pass

    def settle(self, seconds: float = 1.0) -> bool:
        """Wait until what was said so far is written, at most so long; whether it is."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._put(done)
        return done.wait(seconds)

    def isatty(self) -> bool:
        target = _target()
        return target is not None and not target.closed and target.isatty()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]  # the base class has a plain attribute
        return getattr(_target(), "encoding", None) or "utf-8"

    def _put(self, item: bytes | threading.Event) -> None:
        self._waiting.put(item)
        if self._thread is None or not self._thread.is_alive():  # not yet, or not in this forked process
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._work, name="clesr stderr", daemon=True)
                    self._thread.start()

    def _work(self) -> None:
        while True:
            item = self._waiting.get()
            if not isinstance(item, threading.Event):
                _write(item)
            if self._left_out and (isinstance(item, threading.Event) or self._waiting.empty()):
                count, self._left_out = self._left_out, 0
                _write(f"({count} lines were left out here: nobody read them in time)\n".encode())
            if isinstance(item, threading.Event):
                item.set()


def _target() -> TextIO | None:
    """What standard error is now; behind a progress bar what that has taken the place of."""
    return getattr(sys.stderr, "rich_proxied_file", sys.stderr)


def _is_descriptor_2(target: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(target.fileno()), os.fstat(2))
    except (OSError, ValueError):
        return False


def _write(data: bytes) -> None:
    rest = memoryview(data)
    with suppress(OSError, ValueError):  # gone, or full: nobody can be told
        while rest:
            try:
                rest = rest[os.write(2, rest) :]
            except BlockingIOError:  # somebody else made it so
                select.select([], [2], [])


stderr = DetachedStream()
