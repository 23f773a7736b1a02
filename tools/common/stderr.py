"""Standard error that nobody has to wait for: its reader may be slow, frozen or gone. As text, or as JSON."""

from __future__ import annotations

import io
import json
import os
import queue
import select
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import TextIO

from clesr.engines.common.text import presentable

MOST = 2000  # texts that may wait; later ones are left out and counted
LONGEST = 1 << 16  # bytes of a line that somebody else wrote
OPTION = "--log"


def wants_json(arguments: Sequence[str], environment: Mapping[str, str], program: str) -> bool:
    """Whether the command line of ``program``, "clesr" or "clesr-live", or its environment asks for JSON, as far as
    that can be seen before it is parsed."""
    following = dict(pairwise(arguments))
    if OPTION in arguments or any(word.startswith(f"{OPTION}=") for word in arguments):
        return following.get(OPTION) == "json" or f"{OPTION}=json" in arguments
    own = program == "clesr-live"
    command = "live" if own else next((word for word in arguments if not word.startswith("-")), "")
    return environment.get(f"CLESR_{command.upper().replace('-', '_')}_LOG", "").lower() == "json"


def json_line(message: str, *, level: str = "info", logger: str = "clesr", stream: str | None = None) -> str:
    """``message`` as a JSON object in one line, of now."""
    values = {
        "time": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": level,
        "logger": logger,
        "stream": stream or None,
        "message": presentable(message),
    }
    return json.dumps(values) + "\n"


class DetachedStream(io.TextIOBase):
    """Text for ``sys.stderr`` from any thread. ``write`` returns at once and never raises: one thread writes. What has
    no room, and what nobody reads any more, is lost; no work depends on it.

    Where it ``speaks_json``, each line becomes a JSON object; so does, between ``capture`` and ``release``, what
    libraries and child processes write on their own.
    """

    def __init__(self) -> None:
        self.speaks_json = False
        self._captured: _CapturedDescriptor | None = None
        self._spoke_json = False
        self._waiting: queue.SimpleQueue[bytes | threading.Event] = queue.SimpleQueue()
        self._left_out = 0
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        lines = text
        if self.speaks_json:
            lines = "".join(json_line(line, level=_level(line)) for line in text.splitlines() if line.strip())
        self.send(lines)
        return len(text)

    def send(self, text: str) -> None:
        """As ``write``, of what is in its form already."""
        target = _target()
        if target is None or not text:
            return
        if not _is_descriptor_2(target):
            with suppress(OSError, ValueError):  # in memory, or a file that somebody put in its place
                target.write(text)
                target.flush()
        elif self._waiting.qsize() >= MOST:
            self._left_out += 1
        else:
            self._put(text.encode(target.encoding or "utf-8", "backslashreplace"))

    def capture(self, tell: Callable[[str], None]) -> None:
        """From now on ``tell`` gets each line that somebody else writes on descriptor 2."""
        if self._captured is None:
            with suppress(OSError):  # there is no descriptor 2
                self._captured = _CapturedDescriptor(tell)

    def release(self) -> None:
        """End ``capture``, and JSON."""
        if self._captured is not None:
            self._captured.end(self.settle)
            self._captured, self._spoke_json = None, True
        self.speaks_json = False

    def silence(self) -> None:
        """At the very end: where JSON was spoken, libraries that say something when they are unloaded are not heard."""
        if self._spoke_json:
            self._spoke_json = False
            with suppress(OSError), open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), 2)

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
            captured = self._captured
            descriptor = captured.out if captured is not None else 2
            if not isinstance(item, threading.Event):
                _write(item, descriptor)
            if self._left_out and (isinstance(item, threading.Event) or self._waiting.empty()):
                count, self._left_out = self._left_out, 0
                words = f"({count} lines were left out here: nobody read them in time)"
                _write((json_line(words) if self.speaks_json else words + "\n").encode(), descriptor)
            if isinstance(item, threading.Event):
                item.set()


def _level(line: str) -> str:
    return "error" if line.startswith("clesr: error: ") else "info"


class _CapturedDescriptor:
    """Descriptor 2 as a pipe, of which ``tell`` gets each line; ``out`` is what it was before. Who writes never waits:
    what has no room is lost."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.out = os.dup(2)
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        os.dup2(writer, 2)
        os.close(writer)
        self._thread = threading.Thread(target=self._read, name="clesr stderr lines", daemon=True)
        self._thread.start()

    def end(self, settle: Callable[[], object]) -> None:
        """Descriptor 2 is again what it was, when ``settle`` has written what came."""
        os.dup2(self.out, 2)  # ``out`` stays open: who writes there may be held up
        self._thread.join(0.2)  # others that still run may have it open
        settle()

    def _read(self) -> None:
        rest = b""
        while data := os.read(self._reader, LONGEST):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > LONGEST:
                lines, rest = [*lines, rest], b""
            self._tell_all(lines)
        self._tell_all([rest])
        os.close(self._reader)

    def _tell_all(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            text = line.decode(errors="backslashreplace").strip()
            if text:
                self._tell(text)


def _target() -> TextIO | None:
    """What standard error is now; behind a progress bar what that has taken the place of."""
    return getattr(sys.stderr, "rich_proxied_file", sys.stderr)


def _is_descriptor_2(target: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(target.fileno()), os.fstat(2))
    except (OSError, ValueError):
        return False


def _write(data: bytes, descriptor: int) -> None:
    rest = memoryview(data)
    with suppress(OSError, ValueError):  # gone, or full: nobody can be told
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:  # somebody else made it so
                select.select([], [descriptor], [])


stderr = DetachedStream()
