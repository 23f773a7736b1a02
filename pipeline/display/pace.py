"""How often a picture is drawn: whenever there is a new one, but on a machine without a core to spare less often."""

from __future__ import annotations

from collections.abc import Callable

import psutil  # type: ignore[import-untyped]

from clesr.engines.common.clock import SYSTEM, Clock

SHARE = 0.04  # of one core for drawing, on a busy machine
LIVE_SHARE = 0.12  # where somebody looks at tissue: rather a few frames less than a picture that stutters
LONGEST_S = 1.0  # rest, after which at least the figures are drawn anew
BUSY, FREE = 92.0, 70.0  # percent of all cores that make a machine busy, and free again
LOOK_NS = 500_000_000  # between two looks at the cores


def share_of(live: bool) -> float:
    """What drawing may take of one core on a busy machine: more where ``live`` images are looked at."""
    return LIVE_SHARE if live else SHARE


class DrawingPace:
    """Says how long to rest after a drawing. One thread."""

    def __init__(
        self,
        clock: Clock = SYSTEM,
        used: Callable[[], float] = psutil.cpu_percent,
        *,
        share: float = SHARE,
    ) -> None:
        """``used`` gives the percent of all cores that were used since it was last asked."""
        self._clock, self._used, self._share = clock, used, share
        self._looked_ns = clock.now_ns()
        self._busy = False
        used()

    def rest_s(self, took_s: float) -> float:
        """Seconds until the next drawing, after one that took ``took_s`` seconds of a core."""
        now = self._clock.now_ns()
        if now - self._looked_ns >= LOOK_NS:
            self._looked_ns = now
            self._busy = self._used() > (FREE if self._busy else BUSY)
        return min(took_s / self._share, LONGEST_S) if self._busy else 0.0
