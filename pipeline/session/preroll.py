"""Before a recording: when one is wanted, and the last seconds that one begun late contains."""

from __future__ import annotations

import threading
from collections import deque

from clesr.pipeline.session.writer import Entry


class Trigger:
    """When frames are recorded: ordered from any thread, carried out by the recorder thread. ``armed`` while frames are
    taken notice of at all, ``recording`` while they go into a recording."""

    def __init__(self, *, armed: bool) -> None:
        self.armed, self.recording = armed, False
        self._ordered = self._begun = 0  # recordings
        self._lock = threading.RLock()  # so that a recording can be ordered in a signal handler

    def order(self) -> None:
        """A recording is wanted from now on; ``begin`` follows on the recorder thread."""
        with self._lock:
            self.armed = self.recording = True
            self._ordered += 1

    def begin(self) -> None:
        """The oldest order is being carried out."""
        self._begun += 1

    def rest(self) -> None:
        """Nothing is recorded: disarm, unless a recording was ordered meanwhile."""
        with self._lock:
            if self._ordered == self._begun:
                self.armed = False

    def disarm(self) -> None:
        self.armed = self.recording = False


class PreRollBuffer:
    """Entries of the last ``seconds``, as long as their encoded images fit ``budget`` bytes."""

    def __init__(self, seconds: float, budget: int) -> None:
        self.seconds, self.budget = seconds, budget
        self._entries: deque[Entry] = deque()
        self._size = 0

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self.grew(entry.size)

    def grew(self, count: int) -> None:
        """There are ``count`` bytes more in here: the oldest entries go where that is too much."""
        self._size += count
        while len(self._entries) > 1:
            oldest, newest = self._entries[0], self._entries[-1]
            kept_ns = newest.record.captured_ns - oldest.record.captured_ns
            if self._size <= self.budget and kept_ns <= self.seconds * 1e9:
                return
            self._entries.popleft()
            self._size -= oldest.size
            oldest.kept = False

    def take(self) -> list[Entry]:
        """Everything, which is then the caller's."""
        taken = list(self._entries)
        self._entries.clear()
        self._size = 0
        return taken
