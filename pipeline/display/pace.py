"""How often a picture is drawn: whenever there is a new one, but on a machine without a core to spare less often."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.core_use import CoreUse

SHARE = 0.03  # of one core for drawing, on a busy machine
LIVE_SHARE = 0.1  # where somebody looks at tissue: rather a few frames less than a picture that stutters
LONGEST_S = 0.5  # rest: on a page, images of a run that is well must not get old meanwhile
BUSY, FREE = 92.0, 70.0  # percent of all cores that make a machine busy, and free again
LOOK_NS = 500_000_000  # between two looks at the cores


def share_of(live: bool) -> float:
    """What drawing may take of one core on a busy machine: more where ``live`` images are looked at."""
    return LIVE_SHARE if live else SHARE


class DrawingPace:
    """Says how long to rest after a drawing; each kind of ``what`` is drawn rests by itself. One thread at a time."""

    def __init__(
        self,
        clock: Clock = SYSTEM,
        used: Callable[[], float] | None = None,
        *,
        share: float = SHARE,
    ) -> None:
        """``used`` gives the percent that were used, since it was last asked, of the cores that this process may use;
        ``share`` is what a kind of drawing may take of one, where they are busy."""
        self._clock, self._used, self._share = clock, used or CoreUse().percent, share
        self._looked_ns = clock.now_ns()
        self._busy = False
        self._until_ns: dict[Hashable, int] = {}

    def drew(self, took_s: float, what: Hashable = None) -> None:
        """A drawing of ``what`` took ``took_s`` seconds of a core: it is to rest now."""
        now = self._clock.now_ns()
        if now - self._looked_ns >= LOOK_NS:
            self._looked_ns = now
            self._busy = self._used() > (FREE if self._busy else BUSY)
        rest_s = min(took_s / self._share, LONGEST_S) if self._busy else 0.0
        self._until_ns[what] = now + int(rest_s * 1e9)

    def rest_s(self, what: Hashable = None) -> float:
        """Seconds until ``what`` is to be drawn again; 0 where that may be now."""
        return max(self._until_ns.get(what, 0) - self._clock.now_ns(), 0) / 1e9
