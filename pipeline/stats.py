"""What is counted and measured of a run: outcomes, latencies, rates, fidelity."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import Counter, deque
from itertools import pairwise
from typing import Any

import numpy as np

from clesr.engines.common.clock import Clock
from clesr.pipeline.frame import Corrupt, Frame, Gap, Outcome, PreparedFrame, Result
from clesr.pipeline.observer import FrameObserver
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.status import OutageTotal
from clesr.pipeline.watchdog import CallTimer

PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9}
STAGES = ("prepare", "wait", "engine", "total")
KEPT = 100_000  # latest frames whose latency is kept for the percentiles
KEPT_OUTAGES = 1000  # that a summary lists
BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.2, 0.4, 1.0, 5.0)
"""Upper bounds of the latencies that are counted together; a last bucket has what took longer."""
RECENT_NS, RECENT_BYTES = 1_000_000_000, 128 << 20  # for which results are kept, and of how many bytes
RATE_WINDOW = 50  # results over which the shown rate is taken
LIKELY_NS = 500_000_000  # between frames of a live source that has not shown its pace yet
# A pause that is longer, and so many times the usual, is not the pace.
LONGEST_NS, FORGIVEN = 2_000_000_000, 10
STALL_PERIODS = 2.0  # frame periods without a frame after which the source counts as stalled
LATE_S = 1.0  # seconds behind its own pace after which recorded input is said to be late


class Ledger:
    """Counts what was captured and what became of it. Threads may write side by side."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._captured = 0
        self._outcomes: Counter[Outcome] = Counter()

    def capture(self, count: int = 1) -> None:
        """``count`` frames were captured (frames lost at the source count as captured: they existed)."""
        with self._lock:
            self._captured += count

    def record(self, outcome: Outcome, count: int = 1) -> None:
        """``count`` captured frames ended as ``outcome``."""
        with self._lock:
            self._outcomes[outcome] += count

    @property
    def captured(self) -> int:
        with self._lock:
            return self._captured

    @property
    def outcomes(self) -> dict[Outcome, int]:
        with self._lock:
            return {outcome: self._outcomes[outcome] for outcome in Outcome}

    def check(self) -> None:
        """Raises RuntimeError where a frame has no outcome or two: a fault of clesr, never of the input."""
        with self._lock:
            total = sum(self._outcomes.values())
            if total != self._captured:
                raise RuntimeError(
                    f"the ledger does not balance: {self._captured} captured, {total} outcomes"
                )


class Latency:
    """Milliseconds that results took, by stage, in a ring of fixed size (one writer). ``buckets`` counts all of them,
    by stage and BUCKETS_S; ``seconds`` are their sums by stage."""

    def __init__(self, kept: int = KEPT) -> None:
        self._ring = np.zeros((kept, len(STAGES)), np.float32)
        self._count = 0
        self.buckets = {stage: [0] * (len(BUCKETS_S) + 1) for stage in STAGES}
        self.seconds = dict.fromkeys(STAGES, 0.0)

    def add(self, result: Result) -> None:
        captured, prepared, submitted, collected = result.times
        spans = prepared - captured, submitted - prepared, collected - submitted, collected - captured
        self._ring[self._count % len(self._ring)] = [span / 1e6 for span in spans]
        self._count += 1
        for stage, span in zip(STAGES, spans, strict=True):
            self.buckets[stage][bisect_left(BUCKETS_S, span / 1e9)] += 1
            self.seconds[stage] += span / 1e9

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Milliseconds by stage and percentile; empty before the first result."""
        if not self._count:
            return {}
        found = np.percentile(self._ring[: self._count], list(PERCENTILES.values()), axis=0).T
        return {
            stage: {name: round(float(v), 3) for name, v in zip(PERCENTILES, row, strict=True)}
            for stage, row in zip(STAGES, found, strict=True)
        }


class Fidelities:
    """How well results agree with what was measured, dB (one writer; pipeline/fidelity.py)."""

    def __init__(self, kept: int = KEPT) -> None:
        self._ring = np.zeros(kept, np.float32)
        self._count = self._below = 0
        self._worst = self._worst_tile = math.inf
        self._limit: float | None = None

    def add(self, result: Result) -> None:
        check = result.check
        if check is None:
            return
        self._ring[self._count % len(self._ring)] = check.db
        self._count += 1
        self._worst = min(self._worst, check.db)
        if check.worst_db is not None:
            self._worst_tile = min(self._worst_tile, check.worst_db)
        self._limit = check.limit_db
        self._below += check.below_limit

    def summary(self) -> dict[str, float | None]:
        """Frames measured; their dB (p50, p1, worst) and that of the worst tile of all; frames with a tile below
        ``limit`` (both None without a limit). Empty where nothing was measured."""
        if not self._count:
            return {}
        p50, p1 = np.percentile(self._ring[: self._count], (50, 1))
        return {
            "frames": self._count,
            "p50": round(float(p50), 2),
            "p1": round(float(p1), 2),
            "worst": round(self._worst, 2),
            "worst_tile": round(self._worst_tile, 2) if math.isfinite(self._worst_tile) else None,
            "limit": self._limit,
            "below_limit": None if self._limit is None else self._below,
        }


class Outages:
    """When the source was away, and what that cost (one writer): the ``first`` of them, and the ``total``."""

    def __init__(self) -> None:
        self.first: list[Gap] = []
        self.total = OutageTotal()

    def add(self, gap: Gap) -> None:
        if len(self.first) < KEPT_OUTAGES:
            self.first.append(gap)
        total = self.total
        self.total = OutageTotal(
            total.count + 1, total.uncounted + (gap.count is None), total.seconds + gap.seconds
        )

    def summary(self, start_ns: int) -> tuple[dict[str, float | int | None], ...]:
        """Begin and end of each, in seconds since ``start_ns``, and the frames lost, None where nobody knows."""
        return tuple(
            {
                "begin": round((gap.begin_ns - start_ns) / 1e9, 3),
                "end": round((gap.end_ns - start_ns) / 1e9, 3),
                "lost": gap.count,
            }
            for gap in self.first
        )


class RecentResults:
    """The results of about the last second, of which views show some: as many as have room in ``most`` bytes, the
    newest in any case (one writer, any thread may ask)."""

    def __init__(self, most: int = RECENT_BYTES) -> None:
        self._most, self._bytes = most, 0
        self._kept: deque[Result] = deque()

    def add(self, result: Result) -> None:
        self._kept.append(result)
        self._bytes += _bytes_of(result)
        while len(self._kept) > 1 and (
            self._bytes > self._most or result.times.collected - self._kept[0].times.collected > RECENT_NS
        ):
            self._bytes -= _bytes_of(self._kept.popleft())

    def find(self, number: int) -> Result | None:
        """That of the frame ``number``; None where it is not kept."""
        return next((each for each in reversed(tuple(self._kept)) if each.frame.number == number), None)


def _bytes_of(result: Result) -> int:
    arrays = [result.image, result.lr, result.frame.image]
    if result.check is not None:
        arrays.append(result.check.reprojected)
    if result.told is not None:
        arrays.append(result.told.guidance.trust)
    return sum(array.nbytes for array in arrays)


class Rate:
    """Results a second: over the last few for the display, over all for the summary (one writer)."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=RATE_WINDOW)
        self._first: int | None = None
        self._last = 0
        self._count = 0

    def add(self, time_ns: int) -> None:
        self._first = time_ns if self._first is None else self._first
        self._last, self._count = time_ns, self._count + 1
        self._recent.append(time_ns)

    def recent(self) -> float:
        """Of the last results, whenever they came."""
        recent = tuple(self._recent)
        span = recent[-1] - recent[0] if len(recent) > 1 else 0
        return (len(recent) - 1) / (span / 1e9) if span > 0 else 0.0

    @property
    def interval_ns(self) -> float:
        """Between two of the last results, the median: a pause among them counts little. 0 where unknown."""
        recent = tuple(self._recent)
        between = sorted(after - before for before, after in pairwise(recent))
        return float(between[len(between) // 2]) if between else 0.0

    def present(self, now_ns: int) -> float:
        """As ``recent``, but it falls from when the next result is due: at ``now_ns`` it came at the earliest."""
        recent = tuple(self._recent)
        span = now_ns - recent[0] if recent else 0
        return min(self.recent(), len(recent) / (span / 1e9)) if span > 0 else self.recent()

    def overall(self) -> float:
        span = self._last - self._first if self._first is not None else 0
        return (self._count - 1) / (span / 1e9) if span > 0 else 0.0


class RateMonitor:
    """When frames of one source came, against when they should have come. The source thread tells it, any thread may
    ask; ``idle`` is its wait for a frame."""

    def __init__(self, info: SourceInfo, clock: Clock) -> None:
        self._info, self._clock = info, clock
        self.idle = CallTimer(clock)  # while the source thread waits for a frame
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._interval_ns = 0.0
        self._late_said = False

    def arrives(self) -> None:
        """A frame was captured."""
        now = self._clock.now_ns()
        if self._last_ns is not None:
            interval = min(now - self._last_ns, max(LONGEST_NS, FORGIVEN * self._interval_ns))
            self._interval_ns += (interval - self._interval_ns) * (0.1 if self._interval_ns else 1.0)
        self._first_ns = now if self._first_ns is None else self._first_ns
        self._last_ns = now

    @property
    def span_s(self) -> float:
        """Seconds from the first frame to the last."""
        return ((self._last_ns or 0) - (self._first_ns or 0)) / 1e9

    def is_stalled(self, now_ns: int) -> bool:
        period = self._period_ns()
        since = self.idle.since_ns
        idle = now_ns - since if since is not None else 0
        return bool(period) and idle > STALL_PERIODS * period

    def shown_period_ns(self, engine_ns: float) -> int | None:
        """Nanoseconds after which an image on show is due to be replaced: the source's period, or twice ``engine_ns``,
        that of the results, where that is slower, because then frames also wait for the engine."""
        source = self._period_ns()
        return int(2 * engine_ns if engine_ns > 1.2 * source else source) or None

    def late(self, captured: int, fps: float) -> str | None:
        """Once, a line for the user where recorded input, of which ``captured`` frames came, runs later than its own
        pace because only ``fps`` frames/s come through."""
        info = self._info
        if self._late_said or info.live or not info.fps or self._first_ns is None:
            return None
        behind = (self._clock.now_ns() - self._first_ns) / 1e9 - captured / info.fps
        if behind <= LATE_S or fps >= 0.98 * info.fps:
            return None
        self._late_said = True
        return (
            f"this machine does {fps:.1f} frames/s, the recording has {info.fps:.4g}: it plays later "
            "than its own pace, and no frame is lost"
        )

    def _period_ns(self) -> float:
        """Nanoseconds between two frames of the source, as it says or as they come; of a live one that has given a
        single frame what is likely; 0 where unknown."""
        if self._info.fps:
            return 1e9 / self._info.fps
        single = self._last_ns is not None and self._info.live
        return self._interval_ns or (LIKELY_NS if single else 0.0)


class RunStats(FrameObserver):
    """All that is counted and measured of a run: the stages tell it as they tell any observer, any thread may read."""

    def __init__(self, source: SourceInfo, clock: Clock) -> None:
        self.ledger, self.latency, self.fidelities, self.rate = Ledger(), Latency(), Fidelities(), Rate()
        self.monitor = RateMonitor(source, clock)
        self.newest: Result | None = None
        self.recent: RecentResults | None = None  # where somebody acts on what a view shows
        self.damaged = 0  # frames that build on damaged pictures
        self.outages = Outages()

    def capture(self, frame: Frame, remark: str = "") -> None:
        self.ledger.capture()
        self.damaged += frame.damaged
        self.monitor.arrives()

    def lose(self, number: int, count: int, time_ns: int) -> None:
        self.ledger.capture(count)
        self.ledger.record(Outcome.LOST, count)

    def miss(self, gap: Gap) -> None:
        self.ledger.capture(gap.count or 0)
        self.ledger.record(Outcome.LOST, gap.count or 0)
        self.outages.add(gap)

    def spoil(self, item: Corrupt) -> None:
        self.ledger.capture()
        self.monitor.arrives()
        self.ledger.record(Outcome.CORRUPT)

    def settle(
        self, number: int, outcome: Outcome, reason: str = "", prepared: PreparedFrame | None = None
    ) -> None:
        self.ledger.record(outcome)

    def settle_result(self, result: Result) -> None:
        self.ledger.record(result.outcome)
        self.latency.add(result)
        self.fidelities.add(result)
        self.rate.add(result.times.collected)
        self.newest = result
        if self.recent is not None:
            self.recent.add(result)

    def late(self) -> str | None:
        """Once, a line for the user where recorded input runs later than its own pace."""
        return self.monitor.late(self.ledger.captured, self.rate.recent())

    def status(self, now_ns: int) -> dict[str, Any]:
        """What a Status says of frames, at ``now_ns``."""
        newest = self.newest
        return {
            "captured": self.ledger.captured,
            "outcomes": self.ledger.outcomes,
            "fps": self.rate.present(now_ns),
            "age_ns": now_ns - newest.times.captured if newest else None,
            "period_ns": self.monitor.shown_period_ns(self.rate.interval_ns),
            "stalled": self.monitor.is_stalled(now_ns),
            "damaged": self.damaged,
            "outages": self.outages.total,
        }
