"""When frames came, against when they should have come."""

from __future__ import annotations

from clesr.engines.common.clock import Clock
from clesr.pipeline.sources.base import SourceInfo
from clesr.pipeline.watchdog import Pulse

STALL_PERIODS = 2.0  # frame periods without a frame after which the source counts as stalled
LATE_S = 1.0  # seconds behind its own pace after which recorded input is said to be late


class RateMonitor:
    """Of one source; the source thread tells it, any thread may ask."""

    def __init__(self, info: SourceInfo, clock: Clock) -> None:
        self._info, self._clock = info, clock
        self.idle = Pulse(clock)  # while the source thread waits for a frame
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._interval_ns = 0.0
        self._late_said = False

    def waits(self) -> None:
        """The source thread waits for a frame."""
        if self.idle.since_ns is None:
            self.idle.__enter__()

    def wakes(self) -> None:
        """Something came."""
        self.idle.__exit__(None, None, None)

    def arrives(self) -> None:
        """A frame was captured."""
        now = self._clock.now_ns()
        if self._last_ns is not None:
            interval = now - self._last_ns
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

    def shown_period_ns(self, engine_fps: float) -> int | None:
        """Nanoseconds after which an image on show is due to be replaced: the source's period, or twice the engine's
        where that is slower, because then frames also wait for it."""
        source = self._period_ns()
        engine = 1e9 / engine_fps if engine_fps else 0.0
        return int(2 * engine if engine > 1.2 * source else source) or None

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
        """Nanoseconds between two frames of the source, as it says or as they come; 0 where unknown."""
        return 1e9 / self._info.fps if self._info.fps else self._interval_ns
