"""Numbers that rise and times that never fall, whatever a source says."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.source import SourceInfo

SLACK = 1000  # numbers that may be missing whatever the time: drivers count fields, and clocks have steps
FASTEST = 10_000.0  # frames/s of a source that does not say, and the most that is believed of one that does
DAY_S = 24 * 3600.0  # longest gap in presentation times
LAST_NUMBER = 1 << 53  # beyond it, numbers are not exact in every program that reads JSON


class Placed(NamedTuple):
    """A frame as it is taken: with the number and time that it gets, ``lost`` frames before it, and ``remark``: what
    the source said instead, or empty."""

    item: Frame | Corrupt
    lost: int
    remark: str


class Continuity:
    """Places each frame of one source behind the one before it. Numbers rise, and times never fall nor lie ahead.

    A source's number stands where it follows the last, with a gap at most of what the time that passed allows (at twice
    the source's rate, and ``SLACK``). Otherwise the frame gets the number after the last, and the source's numbers
    count from there; a source that comes back to its old numbers is followed. Its times are treated alike: one before
    the last or after ``now_ns`` is replaced by the present less the usual delay, and those that follow are shifted as
    much as it, until the source's own are possible again. So a counter or clock that was set, once or for good, costs
    no frame.
    """

    def __init__(self, info: SourceInfo) -> None:
        self._rate = 2 * min(info.fps or FASTEST, FASTEST)
        self._next: int | None = None
        self._number_shift = self._time_shift = 0
        self._time_ns = self._arrived_ns = self._delay_ns = 0
        self._presented: float | None = None

    @property
    def begun(self) -> bool:
        """Whether a frame was placed."""
        return self._next is not None

    @property
    def next(self) -> int:
        """The number after that of the last frame."""
        return self._next or 0

    @property
    def time_ns(self) -> int:
        """Of the last frame."""
        return self._time_ns

    @property
    def expected(self) -> int:
        """The number that comes next, as the source would say it."""
        return max(0, (self._next or 0) - self._number_shift)

    def place(self, item: Frame | Corrupt, now_ns: int, since_ns: int) -> Placed:
        """``item`` came at ``now_ns``; a first one was captured at ``since_ns`` or later."""
        remarks = []
        time_ns = self._time(item.time_ns, now_ns, since_ns)
        if time_ns != item.time_ns:
            remarks.append(f"the source's time for it was off by {_seconds(item.time_ns - time_ns)}")
        elapsed = max(now_ns - self._arrived_ns, time_ns - self._time_ns) / 1e9
        presented, remark = self._presentation(item)
        if remark:
            remarks.append(remark)
        if presented is not None and self._presented is not None:
            elapsed = max(elapsed, presented - self._presented)
        number, lost = self._number(item.number, elapsed)
        if number != item.number:
            remarks.append(f"the source called it frame {_whole(item.number)}")
        self._next, self._presented = number + 1, presented
        self._time_ns, self._arrived_ns = time_ns, now_ns
        if remarks:
            changes = {"number": number, "time_ns": time_ns}
            item = replace(item, **(changes | ({"pts": None, "time_base": None} if remark else {})))  # type: ignore[arg-type]
        return Placed(item, lost, "; ".join(remarks))

    def _number(self, number: int, elapsed_s: float) -> tuple[int, int]:
        """The number that a frame gets, and how many are missing before it."""
        if self._next is None:
            self._next = number if 0 <= number < LAST_NUMBER else 0
        allowed = SLACK + int(self._rate * elapsed_s)
        shifts = (self._number_shift, 0)
        for most in (0, allowed):
            for shift in shifts:
                if 0 <= number + shift - self._next <= most and number + shift < LAST_NUMBER:
                    self._number_shift = shift
                    return number + shift, number + shift - self._next
        self._number_shift = self._next - number
        return self._next, 0

    def _time(self, time_ns: int, now_ns: int, since_ns: int) -> int:
        earliest = since_ns if self._next is None else self._time_ns
        for shift in (self._time_shift, 0):
            if earliest <= time_ns + shift <= now_ns:
                self._time_shift = shift
                if not shift:
                    self._delay_ns = now_ns - time_ns
                return time_ns + shift
        placed = max(min(earliest, now_ns), now_ns - self._delay_ns)
        self._time_shift = placed - time_ns
        return placed

    def _presentation(self, item: Frame | Corrupt) -> tuple[float | None, str]:
        """Seconds on the recording's own clock, None without one; what is said where that cannot be."""
        if isinstance(item, Corrupt) or item.pts is None or item.time_base is None:
            return self._presented, ""
        try:
            presented = float(item.pts * item.time_base)
        except OverflowError:
            return None, "its presentation time is beyond all bounds"
        if self._presented is not None and presented - self._presented > DAY_S:
            return presented, "its presentation time jumped by more than a day"
        return presented, ""


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:+.3f} s" if abs(nanoseconds) < 1 << 63 else "more than a century"


def _whole(number: int) -> str:
    return str(number) if abs(number) < 1 << 64 else f"beyond {'-' * (number < 0)}2^64"
