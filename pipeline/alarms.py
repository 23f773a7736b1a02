"""What the user must not overlook: what went wrong with recording or outputs, until it is acknowledged."""

from __future__ import annotations

import threading

ALARMS = 20  # that wait to be acknowledged


class Alarms:
    """Alarms that stay until somebody has seen them. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, None] = {}

    def add(self, text: str) -> None:
        """It becomes the newest; the same text stands there once. The oldest goes where there are too many."""
        with self._lock:
            self._open.pop(text, None)
            self._open[text] = None
            if len(self._open) > ALARMS:
                del self._open[next(iter(self._open))]

    def acknowledge(self) -> list[str]:
        """They were seen; which there were."""
        with self._lock:
            seen, self._open = list(self._open), {}
        return seen

    def __str__(self) -> str:
        """The newest, and how many there are."""
        with self._lock:
            count, newest = len(self._open), next(reversed(self._open), "")
        return f"{newest} (and {count - 1} more)" if count > 1 else newest
