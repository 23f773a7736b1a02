"""The ledger of outcomes, latency percentiles and rates, and the status that any thread may read."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from clesr.pipeline.frame import Outcome, Result

PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9}
STAGES = ("prepare", "wait", "engine", "total")
KEPT = 100_000  # latest frames whose latency is kept for the percentiles
RATE_WINDOW = 50  # results over which the shown rate is taken


class State(StrEnum):
    """Where a run stands."""

    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"  # the engine failed: bicubic images, marked, until it is back
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Status:
    """A snapshot of a run. ``age_ns`` is the time since the capture of the newest result, None before the
    first; ``period_ns`` that after which the image on show is due to be replaced, None where unknown;
    ``stalled`` means that the source gave no frame for two of its periods, ``recording`` that a
    session is being recorded; ``alarm`` is what the user must not overlook, such as a recording that broke off."""

    state: State
    source: str
    engine: str
    model: str
    captured: int
    outcomes: Mapping[Outcome, int]
    fps: float
    age_ns: int | None
    period_ns: int | None
    stalled: bool
    message: str = ""
    recording: bool = False
    alarm: str = ""


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
    """Milliseconds that results took, by stage, in rings of fixed size (one writer)."""

    def __init__(self, kept: int = KEPT) -> None:
        self._rings = {stage: np.zeros(kept, np.float32) for stage in STAGES}
        self._count = 0

    def add(self, result: Result) -> None:
        times = result.times
        spans = (
            times.prepared - times.captured,
            times.submitted - times.prepared,
            times.collected - times.submitted,
            times.collected - times.captured,
        )
        slot = self._count % len(self._rings["total"])
        for stage, span in zip(STAGES, spans, strict=True):
            self._rings[stage][slot] = span / 1e6
        self._count += 1

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Milliseconds by stage and percentile; empty before the first result."""
        if not self._count:
            return {}
        kept = min(self._count, len(self._rings["total"]))
        values = {
            stage: np.percentile(ring[:kept], list(PERCENTILES.values()))
            for stage, ring in self._rings.items()
        }
        return {
            stage: {name: round(float(v), 3) for name, v in zip(PERCENTILES, row, strict=True)}
            for stage, row in values.items()
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
        p50, p1 = np.percentile(self._ring[: min(self._count, len(self._ring))], (50, 1))
        return {
            "frames": self._count,
            "p50": round(float(p50), 2),
            "p1": round(float(p1), 2),
            "worst": round(self._worst, 2),
            "worst_tile": round(self._worst_tile, 2) if math.isfinite(self._worst_tile) else None,
            "limit": self._limit,
            "below_limit": None if self._limit is None else self._below,
        }


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
        recent = tuple(self._recent)
        span = recent[-1] - recent[0] if len(recent) > 1 else 0
        return (len(recent) - 1) / (span / 1e9) if span > 0 else 0.0

    def overall(self) -> float:
        span = self._last - self._first if self._first is not None else 0
        return (self._count - 1) / (span / 1e9) if span > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to; ``as_json`` is what ``--summary`` writes."""

    source: str
    captured: int
    outcomes: Mapping[Outcome, int]
    fps: float
    latency_ms: Mapping[str, Mapping[str, float]]
    engine: str
    model: str
    scale: int
    state: State
    seconds: float
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sinks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    fidelity: Mapping[str, float | None] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "captured": self.captured,
            "outcomes": {str(outcome): count for outcome, count in self.outcomes.items()},
            "fps": round(self.fps, 3),
            "latency_ms": {stage: dict(row) for stage, row in self.latency_ms.items()},
            "engine": self.engine,
            "model": self.model,
            "scale": self.scale,
            "state": str(self.state),
            "seconds": round(self.seconds, 3),
            "outputs": list(self.outputs),
            "notes": list(self.notes),
            "sinks": {name: dict(counts) for name, counts in self.sinks.items()},
            "fidelity_db": dict(self.fidelity),
        }
