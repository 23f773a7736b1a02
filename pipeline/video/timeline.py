"""Presentation times of a recording, from the times of its frames."""

from __future__ import annotations

from fractions import Fraction

from clesr.pipeline.frame import Frame


class Timeline:
    """Times in whole ``tick`` seconds, 0 for the first frame, strictly rising.

    A frame's ``pts`` is taken where it has one, else its capture time. Where time goes back by half a
    ``period`` or more (a recording that loops), or changes between the two kinds, the frame follows the one
    before it at the last distance seen; ``period`` (seconds) is that distance until there is one.
    """

    def __init__(self, tick: Fraction, period: Fraction) -> None:
        self.tick, self._step, self._slack = tick, period, period / 2
        self._origin = Fraction(0)
        self._last: Fraction | None = None  # seconds of the last frame on its own clock
        self._recorded = False
        self._last_ticks = -1

    def place(self, frame: Frame) -> int:
        """Ticks since the first frame."""
        if frame.pts is not None and frame.time_base is not None:
            recorded, seconds = True, frame.pts * frame.time_base
        else:
            recorded, seconds = False, Fraction(frame.time_ns, 10**9)
        if self._last is None:
            self._origin = seconds
        elif recorded != self._recorded or self._last - seconds >= self._slack:
            self._origin = seconds - (self._last - self._origin + self._step)
        elif seconds > self._last:
            self._step = seconds - self._last
        self._last, self._recorded = seconds, recorded
        self._last_ticks = max(round((seconds - self._origin) / self.tick), self._last_ticks + 1)
        return self._last_ticks

    @property
    def seconds(self) -> float:
        """From the first frame's begin to the last one's end."""
        return float(self._last_ticks * self.tick + self._step) if self._last_ticks >= 0 else 0.0
