"""When frames are recorded: ordered from any thread, carried out by the recorder thread."""

from __future__ import annotations

import threading


class Trigger:
    """``armed`` while frames are taken notice of at all, ``recording`` while they go into a recording."""

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
