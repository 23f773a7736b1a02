"""When the pictures of a network stream were captured, and how many are missing: by the stream's own times."""

from __future__ import annotations

import statistics
from collections import OrderedDict, deque
from fractions import Fraction
from typing import NamedTuple

from clesr.pipeline.frame import Outage

SECOND = 1_000_000_000
LONG_NS = SECOND  # without a frame after which a source counts as away
SILENT_NS = SECOND // 2  # the same of a stream without times of its own, where that is all there is to see
PERIODS = 6  # and as many periods at least: of a slow source
SLACK_NS = SECOND // 2  # that a picture may be ahead of the time that passed
PULLED_NS = 60 * SECOND  # longest step of a source that is read ahead of its time
BACK_NS = SECOND  # that a time may go back before it counts as a new time line
STEPS = 64  # latest steps from which the present period is taken
FEWEST = 4  # steps without which nothing is known of it
ROW = 8  # steps alike after which the rate is another
LIKE = 0.25  # share of the period by which steps of an even stream differ at most
EVEN = 0.75  # share of the steps that are so in an even stream
WAITING = 256  # packets whose picture has not come
WRAP_BITS, WRAP_BASE = 33, Fraction(1, 90_000)  # MPEG-TS (ISO 13818-1, 2.4.3.7)
DRIFT, MOST_DRIFT = 0.001, 0.1  # seconds a second by which two clocks part
LATE_NS, PATIENCE_NS = SECOND // 10, 10 * SECOND  # a delay that lasts is a difference of clocks


class PlacedPicture(NamedTuple):
    """When a picture was captured, monotonic; how many are missing before it, and the ``outage`` before it. ``late``:
    others may be missing, or it comes late: the pictures after it will tell. ``counted``: it was missing before."""

    time_ns: int
    missing: int = 0
    outage: Outage | None = None
    late: bool = False
    counted: bool = False


class StreamTimes:
    """Places the pictures of one connection.

    ``time_base`` is that of the stream's times, None where it has none: then arrival counts. ``fps`` is what the stream
    says of its rate. ``held``: a packet is only given on when the one after it begins to arrive, as a parser does that
    looks for its end; so each arrived when the one before it was given on. ``resyncs``: its times may jump while
    nothing is missing, as with RTP, whose first sender report sets them right. ``pulled``: it is read ahead of its
    time, so that arrival says nothing.
    """

    def __init__(
        self,
        time_base: Fraction | None,
        fps: float | None = None,
        *,
        held: bool = False,
        resyncs: bool = False,
        pulled: bool = False,
    ) -> None:
        self._time_base, self._held, self._resyncs, self._pulled = time_base, held, resyncs, pulled
        self._rate, self._clock = PresentRate(fps, time_base or Fraction(0)), SenderClock()
        self._late: list[int] = []  # steps of pictures that may be late
        self._arrivals: OrderedDict[int, int] = OrderedDict()  # by pts
        self._given_ns: int | None = None  # when the last packet was given on
        self._arrived_ns = 0  # when it arrived
        self._last: tuple[int, int] | None = None  # the last picture: by the stream's clock, its arrival
        self._time_ns = 0  # the last that was given
        self._unwrapped = 0

    def arrived(self, pts: int | None, now_ns: int) -> None:
        """A packet was given on."""
        before, self._given_ns = self._given_ns, now_ns
        self._arrived_ns = before if self._held and before is not None else now_ns
        if pts is None:
            self._given_ns = None  # perhaps it waited in vain for the one after it
        else:
            self._arrivals[pts] = self._arrived_ns
            if len(self._arrivals) > WAITING:
                self._arrivals.popitem(last=False)

    def place(self, pts: int | None, now_ns: int) -> PlacedPicture:
        """The picture at ``pts`` has been decoded, or is known to be damaged."""
        arrival_ns = self._arrived_ns or now_ns
        if pts is not None:
            arrival_ns = self._arrivals.pop(pts, arrival_ns)
        last = self._last
        timed = self._time_base is not None and (pts is not None or last is not None)
        stream_ns = arrival_ns
        if timed and pts is not None:
            stream_ns = self._stream_ns(pts)
        elif timed and last is not None:  # as the last before a pause, whose end a parser awaited in vain
            stream_ns = last[0] + max(1, round(self._rate.period_ns))
        if last is not None and timed and -BACK_NS <= stream_ns - last[0] <= 0:
            return PlacedPicture(self._time_ns, counted=True)
        if timed or self._time_base is None:
            self._last = stream_ns, arrival_ns
        missing, outage = (
            (0, None) if last is None else self._missing(stream_ns, arrival_ns, last, timed=timed)
        )
        time_ns = self._clock.place(stream_ns, arrival_ns) if timed else arrival_ns
        self._time_ns = min(max(time_ns, self._time_ns), now_ns)
        return PlacedPicture(self._time_ns, missing, outage, bool(self._late))

    def _stream_ns(self, pts: int) -> int:
        assert self._time_base is not None
        if self._time_base == WRAP_BASE:
            whole = 1 << WRAP_BITS
            turns = round((self._unwrapped - pts) / whole) if self._last is not None else 0
            pts += max(0, turns) * whole
            self._unwrapped = pts
        return round(pts * self._time_base * SECOND)

    def _missing(
        self, stream_ns: int, arrival_ns: int, last: tuple[int, int], *, timed: bool
    ) -> tuple[int, Outage | None]:
        """How many pictures are missing, and the outage, before the one at ``stream_ns``, which arrived then."""
        step_ns, passed_ns = stream_ns - last[0], arrival_ns - last[1]
        if not timed:
            usual_ns = self._rate.usual_ns
            self._rate.step(step_ns)
            silent = usual_ns is not None and step_ns > max(SILENT_NS, PERIODS * usual_ns)
            return 0, Outage("it sent nothing") if silent else None
        most_ns = PULLED_NS if self._pulled else passed_ns + self._clock.lag_ns + SLACK_NS
        if step_ns < 0 or step_ns > max(most_ns, self._rate.period_ns * (1 + LIKE)):
            self._clock = SenderClock()
            self._late.clear()
            if self._resyncs and passed_ns < SILENT_NS:
                return 0, None
            return 0, Outage("its times begin anew")
        return self._missing_in(step_ns)

    def _missing_in(self, step_ns: int) -> tuple[int, Outage | None]:
        """The same for a step that can be."""
        rate = self._rate
        missing = rate.missing(step_ns)
        if step_ns < LONG_NS and (self._late or (missing and not rate.exact)):
            self._late.append(step_ns)
            if step_ns < (1 - LIKE) * rate.period_ns or len(self._late) == 1:
                return 0, None
            span_ns, pictures = sum(self._late), len(self._late)
            self._late.clear()
            missing = max(0, round(span_ns / rate.period_ns) - pictures)
            rate.step(span_ns // (pictures + missing))
            return missing, None
        self._late.clear()
        rate.step(step_ns, 1 + (missing or 0))
        if missing is None:
            return 0, Outage("its times have a gap")
        return missing, Outage("its times have a gap", known=True) if missing and step_ns >= LONG_NS else None


class PresentRate:
    """How many pictures are missing in a step of the stream's clock, in nanoseconds, where its rate tells. ``tick`` is
    that clock's, in seconds."""

    def __init__(self, fps: float | None, tick: Fraction = Fraction(0)) -> None:
        self._tick_ns = float(tick * SECOND)
        self._stated_ns = SECOND / fps if fps else 0.0
        self._steps: deque[int] = deque(maxlen=STEPS)
        self._span_ns = self._count = 0  # since the rate is what it is
        self._jitter_ns = 0.0

    @property
    def usual_ns(self) -> float | None:
        """The median step, None where there are too few."""
        return statistics.median(self._steps) if len(self._steps) >= FEWEST else None

    @property
    def period_ns(self) -> float:
        """The period; 0 where it is not known."""
        return self._span_ns / self._count if self._count >= ROW else self._stated_ns or self.usual_ns or 0.0

    @property
    def exact(self) -> bool:
        """Whether times were computed: steps are whole periods, to the tick. Else they were read from a clock, perhaps
        by a sender that was late for one picture and not for the next."""
        period, tick = self.period_ns, self._tick_ns
        return all(abs(step - round(step / period) * period) <= 1.5 * tick for step in self._steps)

    def step(self, step_ns: int, pictures: int = 1) -> None:
        """``pictures`` came or are missing in ``step_ns``."""
        self._steps.append(step_ns)
        period, row = self.period_ns, list(self._steps)[-ROW:]
        usual = statistics.median(row)
        alike = len(row) == ROW and all(abs(step - usual) < LIKE * usual for step in row)
        if alike and abs(usual - period) > LIKE * period:
            self._span_ns, self._count, self._jitter_ns = sum(row), ROW, 0.0  # another rate
            self._steps = deque(row, STEPS)
            return
        self._span_ns += step_ns
        self._count += pictures
        self._jitter_ns = max(0.99 * self._jitter_ns, min(abs(step_ns - pictures * period), period / 2))

    def missing(self, step_ns: int) -> int | None:
        """Pictures that are missing in a step; None where that is certain and their number is not."""
        period = self.period_ns
        if not self._even(period):
            longest = max(self._steps, default=0)
            return None if step_ns > max(LONG_NS, PERIODS * period, 3 * longest) else 0
        if step_ns < 1.5 * period:
            return 0
        pictures = step_ns / period
        error = self._jitter_ns / self._span_ns if self._span_ns else 0.01
        if step_ns < LONG_NS:
            beside = abs(pictures - round(pictures)) > LIKE  # late, as by a sender that is busy
            return 0 if beside else round(pictures) - 1
        known = pictures * error + min(self._jitter_ns / period, LIKE) < 0.5
        return round(pictures) - 1 if known else None

    def _even(self, period: float) -> bool:
        """Whether most steps are one period, and nearly all of them whole ones."""
        if not period or len(self._steps) < FEWEST:
            return False
        pictures = [step / period for step in self._steps]
        single = sum(abs(each - 1) < LIKE for each in pictures)
        whole = sum(abs(each - round(each)) < LIKE and each < FEWEST for each in pictures)
        return single >= len(pictures) / 2 and whole >= EVEN * len(pictures)


class SenderClock:
    """The sender's clock on ours: a picture arrives when it was captured plus a delay, and the least delay of late is
    taken for none. So what is held back on its way keeps its own time. Clocks part slowly; where a delay lasts, they
    part faster than was thought."""

    def __init__(self) -> None:
        self._offset_ns: float | None = None
        self._last_ns = 0
        self._late_ns = 0.0
        self._drift = DRIFT
        self.lag_ns = 0  # of the last picture

    def place(self, stream_ns: int, arrival_ns: int) -> int:
        """When what arrived at ``arrival_ns`` with the time ``stream_ns`` was captured."""
        observed = arrival_ns - stream_ns
        passed = min(max(0, arrival_ns - self._last_ns), SECOND)
        self._last_ns = arrival_ns
        if self._offset_ns is None or observed <= self._offset_ns:
            self._offset_ns = observed
        else:
            self._offset_ns = min(observed, self._offset_ns + self._drift * passed)
        self.lag_ns = round(observed - self._offset_ns)
        self._late_ns = self._late_ns + min(passed, LATE_NS) if self.lag_ns > LATE_NS else 0.0
        if self._late_ns > PATIENCE_NS:
            self._offset_ns, self._late_ns, self.lag_ns = observed, 0.0, 0
            self._drift = min(4 * self._drift, MOST_DRIFT)
        return arrival_ns - self.lag_ns
