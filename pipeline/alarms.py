"""What the user must not overlook: what went wrong with recording or outputs, until it is acknowledged."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

ALARMS = 20  # that wait to be acknowledged, and that are remembered when they were
LONGEST = 1000  # characters of one


class Alarms:
    """Alarms that stay until somebody has seen them, one by one: the newest is shown. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, None] = {}
        self._acknowledged: deque[str] = deque(maxlen=ALARMS)

    def add(self, text: str) -> None:
        """It becomes the newest; the same text stands there once. The oldest goes where there are too many."""
        text = text[:LONGEST]
        with self._lock:
            self._open.pop(text, None)
            self._open[text] = None
            if len(self._open) > ALARMS:
                del self._open[next(iter(self._open))]

    def acknowledge(self, text: str = "") -> str:
        """The alarm ``text`` was seen, "" for the one that is shown; which it was, "" where it does not wait."""
        with self._lock:
            seen = text or next(reversed(self._open), "")
            if seen not in self._open:
                return ""
            del self._open[seen]
            self._acknowledged.append(seen)
        return seen

    def status(self) -> dict[str, Any]:
        """What a Status says of alarms."""
        waiting = self.waiting
        return {"alarm": next(iter(waiting), ""), "alarms": waiting, "acknowledged": self.acknowledged}

    @property
    def waiting(self) -> tuple[str, ...]:
        """Those that were not acknowledged, the one that is shown first."""
        with self._lock:
            return tuple(reversed(self._open))

    @property
    def acknowledged(self) -> tuple[str, ...]:
        """Those that were, the last one last."""
        with self._lock:
            return tuple(self._acknowledged)
