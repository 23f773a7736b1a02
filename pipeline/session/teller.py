"""What the recorder says: to whoever listens, and to nobody where that breaks."""

from __future__ import annotations

from collections.abc import Callable


class Teller:
    """Hands lines to ``tell``, whose errors are counted and end here. Any thread."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.unheard = 0

    def __call__(self, message: str) -> None:
        try:
            self._tell(message)
        except Exception:  # noqa: BLE001 - a terminal or pipe that is gone must not end a recording; what is said in
            self.unheard += 1  # vain here stands in the session too, or is raised when the recorder is closed
