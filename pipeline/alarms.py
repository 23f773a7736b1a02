"""What the user must not overlook: what went wrong with recording or outputs, until it is acknowledged."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

ALARMS = 20  # that wait to be acknowledged by their words, and that are remembered when they were
LONGEST = 1000  # characters of one
EARLIER = 1000  # that are counted


class Alarms:
    """Alarms that stay until somebody has seen them, one by one: the newest is shown. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, None] = {}
        self._earlier: set[str] = set()  # that were too many to be shown
        self._acknowledged: deque[str] = deque(maxlen=ALARMS)

    def add(self, text: str) -> None:
        """It becomes the newest; the same text stands there once. Where there are too many, the oldest are but counted,
        in an alarm of their own."""
        text = text[:LONGEST]
        with self._lock:
            self._open.pop(text, None)
            self._earlier.discard(text)
            self._open[text] = None
            if len(self._open) > ALARMS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                if len(self._earlier) < EARLIER:
                    self._earlier.add(oldest)

    def acknowledge(self, text: str = "") -> str:
        """The alarm ``text`` was seen, "" for the one that is shown; which it was, "" where it does not wait."""
        with self._lock:
            waiting = self._waiting()
            seen = text or next(iter(waiting), "")
            if seen not in waiting:
                return ""
            if seen in self._open:
                del self._open[seen]
            else:
                self._earlier.clear()
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
            return self._waiting()

    def _waiting(self) -> tuple[str, ...]:
        least = "at least " if len(self._earlier) == EARLIER else ""
        earlier = f"EARLIER ALARMS: {least}{len(self._earlier)} more, which stand among the messages"
        return (*reversed(self._open), *([earlier] if self._earlier else []))

    @property
    def acknowledged(self) -> tuple[str, ...]:
        """Those that were, the last one last."""
        with self._lock:
            return tuple(self._acknowledged)
