"""A disk that takes nothing any more is given up, so that what waits for it stays bounded."""

from __future__ import annotations

from clesr.pipeline.clock import Clock

DEAD_NS = 30_000_000_000  # without any progress after which a disk is given up
DEAD = f"the disk took nothing for {DEAD_NS / 1e9:.0f} s"


class Watchdog:
    """Compares when the recorder thread last came on with how long there has been no room for frames."""

    def __init__(self, clock: Clock) -> None:
        self.dead = False
        self._clock = clock
        self._full_since_ns: int | None = None
        self._progress_ns = clock.now_ns()

    def progress(self) -> int:
        """Recorder thread: something was done; the time."""
        self._progress_ns = self._clock.now_ns()
        return self._progress_ns

    def room(self) -> None:
        """Source thread: a frame found room."""
        self._full_since_ns = None

    def full(self) -> bool:
        """Source thread: a frame found none; whether the disk is given up now."""
        now = self._clock.now_ns()
        if self._full_since_ns is None:
            self._full_since_ns = now
        if self.dead or now - max(self._full_since_ns, self._progress_ns) <= DEAD_NS:
            return False
        self.dead = True
        return True
