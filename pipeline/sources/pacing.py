"""Recorded input at its own pace, at a given rate, or as fast as it is read; once or for ever."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import EndOfSource
from clesr.pipeline.frame import Corrupt, Frame, Outage, period_of
from clesr.pipeline.source import Pace, Source, parse_pace

NAP_NS = 20_000_000  # longest sleep before a look whether the source was closed
TOLERATED_NS = 100_000_000  # longest delay that is made up
SECOND = 1_000_000_000


class Paced:
    """A recorded ``source`` whose frames come when they are due; ``time_ns`` is when a frame was released.

    ``pace`` is ``original`` (by ``pts``, else by ``info.fps``, else as ``max``), ``max`` (as fast as they are
    read), or frames a second. A late reader never loses a frame. A delay of up to a frame's period, and of
    0.1 s at most, is made up by the frames after it, so that the mean rate holds. After a longer one the schedule
    starts anew: time that was lost stays lost, and no burst follows.

    ``reopen`` opens the recording again at its end, for ever; numbers and ``pts`` go on rising, and
    ``info.frames`` is None. A recording without any frame ends all the same. Raises UsageError for another pace.
    """

    def __init__(
        self,
        source: Source,
        *,
        clock: Clock = SYSTEM,
        pace: Pace = "original",
        reopen: Callable[[], Source] | None = None,
    ) -> None:
        self._pace = parse_pace(pace)
        self._source, self._clock, self._reopen = source, clock, reopen
        self.info = replace(source.info, frames=None) if reopen else source.info
        self._schedule = PlaybackSchedule()
        self._rounds = Rounds(source.info.fps)
        self._pending: Frame | Corrupt | None = None
        self._due_ns: int | None = None
        self._changing = threading.Lock()  # guards _source against a close while it is opened again
        self._closed = threading.Event()

    def read(self, timeout: float) -> Frame | Corrupt | Outage | None:
        deadline = self._clock.now_ns() + round(timeout * SECOND)
        if self._pending is None:
            item = self._next(timeout)
            if item is None or isinstance(item, Outage):
                return item
            self._pending = item
            self._due_ns = self._due(item)
        now = self._clock.now_ns()
        while self._due_ns is not None and now < self._due_ns:
            if self._closed.is_set():
                raise EndOfSource
            if now >= deadline:
                return None
            self._clock.sleep_until(min(self._due_ns, deadline, now + NAP_NS))
            now = self._clock.now_ns()
        self._schedule.released(now)
        item, self._pending = self._pending, None
        return replace(item, time_ns=now)

    def close(self) -> None:
        self._closed.set()
        with self._changing:
            self._source.close()

    def _next(self, timeout: float) -> Frame | Corrupt | Outage | None:
        if self._closed.is_set():
            raise EndOfSource
        try:
            item = self._source.read(timeout)
        except EndOfSource:
            self._begin_again()
            item = self._source.read(timeout)
        return item if item is None or isinstance(item, Outage) else self._rounds.continued(item)

    def _begin_again(self) -> None:
        """Raises EndOfSource where the recording is not repeated, or had nothing in it."""
        with self._changing:
            if self._reopen is None or self._closed.is_set() or not self._rounds.begin():
                raise EndOfSource
            self._source.close()
            self._source = self._reopen()

    def _due(self, item: Frame | Corrupt) -> int | None:
        """When ``item`` is to be released; None for at once."""
        if self._pace == "max":
            return None
        if isinstance(self._pace, float):
            return self._schedule.after(round(SECOND / self._pace), self._clock.now_ns())
        if isinstance(item, Frame) and item.pts is not None and item.time_base is not None:
            return self._schedule.at(round(item.pts * item.time_base * SECOND), self._clock.now_ns())
        fps = self._source.info.fps
        if fps is None or isinstance(item, Corrupt):
            return None
        return self._schedule.after(round(SECOND / fps), self._clock.now_ns())


class PlaybackSchedule:
    """When frames are due, on the clock's time."""

    def __init__(self) -> None:
        self._start: int | None = None  # clock time of media time 0
        self._media = self._period = 0

    def at(self, media_ns: int, now: int) -> int:
        """The due time of a frame at ``media_ns`` of the recording."""
        if self._start is None:
            self._start = now - media_ns
        else:
            self._period = max(0, media_ns - self._media)
        self._media = media_ns
        return self._start + media_ns

    def after(self, period_ns: int, now: int) -> int:
        """The due time of a frame that comes ``period_ns`` after the one before."""
        return self.at(0 if self._start is None else self._media + period_ns, now)

    def released(self, now: int) -> None:
        """The last frame was released; where that was too late, the schedule starts anew from it."""
        if self._start is not None and now - (self._start + self._media) > min(self._period, TOLERATED_NS):
            self._start = now - self._media


class Rounds:
    """Numbers and time stamps that go on rising when a recording begins again."""

    def __init__(self, fps: float | None) -> None:
        self._period = period_of(fps) if fps else Fraction(0)
        self._number, self._number_shift = -1, 0  # the last, and what is added in this round
        self._time: Fraction | None = None  # of the last frame, in seconds
        self._time_shift = Fraction(0)
        self._empty, self._timed = True, False  # whether this round brought anything, and a time

    def begin(self) -> bool:
        """A new round. False where the last one brought nothing."""
        if self._empty:
            return False
        self._number_shift = self._number + 1
        self._empty, self._timed = True, False
        return True

    def continued(self, item: Frame | Corrupt) -> Frame | Corrupt:
        """``item`` with its number and ``pts`` after those of the rounds before."""
        self._empty = False
        self._number = item.number + self._number_shift
        if isinstance(item, Corrupt) or item.pts is None or item.time_base is None:
            return replace(item, number=self._number)
        time = item.pts * item.time_base
        if not self._timed and self._time is not None:
            self._time_shift = self._time + max(self._period, item.time_base) - time
        self._timed = True
        pts = item.pts + math.ceil(self._time_shift / item.time_base)
        shifted = pts * item.time_base
        if not self._period and self._time is not None:
            self._period = shifted - self._time
        self._time = shifted
        same = (self._number, pts) == (item.number, item.pts)
        return item if same else replace(item, number=self._number, pts=pts)
