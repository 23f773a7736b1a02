"""A disk that takes nothing any more is given up, so that what waits for it stays bounded."""

from __future__ import annotations

from clesr.engines.common.clock import Clock

DEAD_NS = 30_000_000_000  # without any progress after which a disk is given up
LOOK_NS = 5_000_000_000  # that one look counts at most
DEAD = f"the disk took nothing for {DEAD_NS / 1e9:.0f} s"


class Wait:
    """How long something has been waited for, by those who look again and again. A look long after the one before
    counts little: this process was stopped (Ctrl-Z, a paused machine), and the other side had no time either."""

    def __init__(self, now_ns: int) -> None:
        self.looked_ns = now_ns
        self._waited_ns = 0

    def is_too_long(self, now_ns: int) -> bool:
        self._waited_ns += min(now_ns - self.looked_ns, LOOK_NS)
        self.looked_ns = now_ns
        return self._waited_ns > DEAD_NS


class Watchdog:
    """Compares when the recorder thread last came on with how long there has been no room for frames."""

    def __init__(self, clock: Clock) -> None:
        self.dead = False
        self._clock = clock
        self._wait: Wait | None = None
        self._progress_ns = clock.now_ns()

    def progress(self) -> int:
        """Recorder thread: something was done; the time."""
        self._progress_ns = self._clock.now_ns()
        return self._progress_ns

    def room(self) -> None:
        """Source thread: a frame found room."""
        self._wait = None

    def full(self) -> bool:
        """Source thread: a frame found none; whether the disk is given up now."""
        now = self._clock.now_ns()
        if self._wait is None or self._progress_ns > self._wait.looked_ns:
            self._wait = Wait(now)
        if self.dead or not self._wait.is_too_long(now):
            return False
        self.dead = True
        return True
