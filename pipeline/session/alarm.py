"""What went wrong with recordings that were asked for."""

from __future__ import annotations

from collections.abc import Callable

KEPT = 20  # messages that are told and kept


class Alarm:
    """``last`` is the last thing that went wrong, None where nothing did; ``messages`` is all, told as it comes. One
    thread writes."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.last: str | None = None
        self.messages: list[str] = []

    def sound(self, message: str) -> None:
        """A recording could not begin, or something broke: ``message`` says it in one line."""
        self.last = message
        if message not in self.messages and len(self.messages) < KEPT:
            self.messages.append(message)
            self._tell(message)
