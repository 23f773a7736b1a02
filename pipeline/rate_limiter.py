"""Messages that may come with every frame, told ever more seldom."""

from __future__ import annotations

from collections.abc import Callable

from clesr.engines.common.clock import Clock

FIRST_NS, LAST_NS = 1_000_000_000, 60_000_000_000  # between two lines: at first, and at most


class RateLimiter:
    """Tells the first message; of those that follow one after a second, after two, four, and so on up to a minute, with
    how many were not told. After a minute of silence it begins anew. One thread."""

    def __init__(self, tell: Callable[[str], None], clock: Clock) -> None:
        self._tell, self._clock = tell, clock
        self._told_ns: int | None = None
        self._wait_ns = FIRST_NS
        self._came_ns = 0
        self._untold: str | None = None
        self._count = 0  # not told

    def __call__(self, message: str) -> None:
        now = self._clock.now_ns()
        if self._told_ns is not None and now - self._came_ns > LAST_NS:
            self._told_ns, self._wait_ns = None, FIRST_NS
        self._came_ns = now
        if self._told_ns is not None:
            if now - self._told_ns < self._wait_ns:
                self._untold, self._count = message, self._count + 1
                return
            self._wait_ns = min(2 * self._wait_ns, LAST_NS)
        self._told_ns = now
        self._say(message)

    def rest(self) -> None:
        """Nothing follows: tell the last one, where it was not told."""
        if self._untold is not None:
            self._count -= 1
            self._say(self._untold)

    def _say(self, message: str) -> None:
        more = f" (and {self._count} more like that)" if self._count else ""
        self._untold, self._count = None, 0
        self._tell(message + more)
