"""The one source of time: monotonic, and replaceable by tests."""

from __future__ import annotations

import time
from typing import Protocol

ASSUMED_FPS = 25.0  # of what states no rate


class Clock(Protocol):
    """Monotonic time that can be waited on."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds."""

    def sleep_until(self, time_ns: int) -> None:
        """Return at ``time_ns``, at once where that is past."""


class SystemClock:
    """``time.monotonic_ns``."""

    now_ns = staticmethod(time.monotonic_ns)

    def sleep_until(self, time_ns: int) -> None:
        remaining = time_ns - time.monotonic_ns()
        if remaining > 0:
            time.sleep(remaining / 1e9)


SYSTEM = SystemClock()
