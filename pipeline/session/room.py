"""How long the disk of a recording lasts, and when up-scaled images make room for raw ones."""

from __future__ import annotations

import math
from collections import deque

MARKS = 25  # commits, over whose time the rate is measured at which a session grows
LEAST_NS = 1_000_000_000  # of recording, before anything is said of that
STEADY_NS = 3_000_000_000  # before images are left out: the first seconds may hold what was kept
TOLD_MIN = (10.0, 2.0)  # minutes that are left when it is told
OTHERS_MARKS = 150  # commits, over whose time it is measured what others write on the disk
OTHERS_NS = 30_000_000_000  # of recording, before anything is said of that
LOW_MIN, ROOM_MIN = 2.0, 4.0  # up-scaled images: left out below the first, back above the second


class DiskRoom:
    """How many ``minutes`` the disk lasts at the rate at which a session grows and others fill it, and whether that is
    so ``low`` that up-scaled images are left out. One thread writes; any may look, and ``forget`` that it was low."""

    def __init__(self) -> None:
        self.minutes: float | None = None
        self.size: int | None = None  # bytes of the session
        self.free: int | None = None  # on its disk
        self.low = False
        self._of: object = None
        self._marks: deque[tuple[int, int]] = deque(maxlen=MARKS)
        self._rooms: deque[tuple[int, int]] = deque(maxlen=OTHERS_MARKS)  # when, and bytes without others
        self._rate = 0.0  # bytes a second with up-scaled images, 0 where that is not known
        self._rate_of_others = 0.0  # at that time: they may leave images out, too
        self._told = math.inf  # of TOLD_MIN

    def forget(self) -> None:
        """A recording is ordered anew, or goes on at another rate: let the disk show how full it is now."""
        self.low, self.minutes, self.size, self.free = False, None, None, None
        self._of, self._rate = None, 0.0

    def note(self, session: object, time_ns: int, size: int, free: int) -> str:
        """At ``time_ns`` the ``session`` had ``size`` bytes, and its disk room for ``free`` more. What is to be told of
        that, mostly nothing."""
        if session is not self._of:
            self._of, self.minutes, self._told = session, None, math.inf
            self._marks.clear()
            self._rooms.clear()
        self.size, self.free = size, free
        self._marks.append((time_ns, size))
        self._rooms.append((time_ns, size + free))
        first_ns, first = self._marks[0]
        grown, passed_ns = size - first, time_ns - first_ns
        if passed_ns >= LEAST_NS and grown > 0:
            rate = grown / (passed_ns / 1e9)
            self.minutes = free / (rate + self._others()) / 60
            if not self.low and passed_ns >= STEADY_NS:
                self._rate, self._rate_of_others = rate, self._others()
        return self._changed(free) or self._fewer()

    def _others(self) -> float:
        """Bytes a second that others write on this disk, such as a second recording. What they write in but one half of
        the time, such as a large file, is no rate."""
        (first_ns, first), (middle_ns, middle), (last_ns, last) = (
            self._rooms[at] for at in (0, len(self._rooms) // 2, -1)
        )
        if last_ns - first_ns < OTHERS_NS or not first_ns < middle_ns < last_ns:
            return 0.0
        halves = (first - middle) / (middle_ns - first_ns), (middle - last) / (last_ns - middle_ns)
        return max(0.0, min(halves)) * 1e9

    def _changed(self, free: int) -> str:
        """What is to be told where ``low`` is another now."""
        rate = self._rate + self._rate_of_others
        whole = free / rate / 60 if self._rate else None  # minutes with up-scaled images
        if whole is None or (whole >= LOW_MIN and not self.low) or (whole <= ROOM_MIN and self.low):
            return ""
        self.low = not self.low
        self._marks.clear()  # the session grows at another rate from here on
        self.minutes, self._told = None, math.inf
        if not self.low:
            return "there is room on the disk again: up-scaled images are recorded from here on"
        return (
            f"the disk is full in {whole:.1f} minutes: up-scaled images are left out from here on, "
            "raw frames are recorded; free some space"
        )

    def _fewer(self) -> str:
        """What is to be told where the minutes that are left have become few."""
        minutes = math.inf if self.minutes is None else self.minutes
        below = min((limit for limit in TOLD_MIN if minutes < limit), default=math.inf)
        if below >= self._told:
            return ""
        self._told = below
        alone = ", that of raw frames alone" if self.low else ""
        return f"the disk is full in {minutes:.1f} minutes at the present rate{alone}; free some space"
