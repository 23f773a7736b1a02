"""The last seconds, coded, in memory: so that a recording begun late contains them."""

from __future__ import annotations

from collections import deque

from clesr.pipeline.session.writer import Entry


class Retro:
    """Entries of the last ``seconds``, as long as their pictures fit ``budget`` bytes."""

    def __init__(self, seconds: float, budget: int) -> None:
        self.seconds, self.budget = seconds, budget
        self._entries: deque[Entry] = deque()
        self._size = 0

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._size += entry.size
        self._trim()

    def grew(self, count: int) -> None:
        """An entry in here got ``count`` bytes more."""
        self._size += count
        self._trim()

    def take(self) -> list[Entry]:
        """Everything, which is then the caller's."""
        taken = list(self._entries)
        self._entries.clear()
        self._size = 0
        return taken

    def _trim(self) -> None:
        newest = self._entries[-1].record.captured_ns
        while len(self._entries) > 1:
            oldest = self._entries[0]
            if self._size <= self.budget and newest - oldest.record.captured_ns <= self.seconds * 1e9:
                return
            self._entries.popleft()
            self._size -= oldest.size
            oldest.kept = False
