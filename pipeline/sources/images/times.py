"""When the images of a recording are to be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise

from clesr.pipeline.frame import period_of

SLOWEST, FASTEST = 1e-6, 1e5  # frames/s that a file may state
_MICROSECOND = Fraction(1, 10**6)


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """When each image is to be seen: ``pts`` in units of ``base`` seconds, rising. ``fps`` is their mean rate,
    ``seconds`` how long they play, with the last, where that is stated."""

    pts: Sequence[int]
    base: Fraction
    fps: float
    seconds: float | None = None

    @classmethod
    def constant(cls, fps: float, count: int) -> FrameTimes:
        """``count`` images at ``fps`` a second."""
        return cls(range(count), period_of(fps), fps)

    @classmethod
    def listed(cls, seconds: Sequence[float] | Sequence[Fraction]) -> FrameTimes | None:
        """Images at these ``seconds``, of which the first becomes 0, and equal ones a microsecond each after the other;
        None where they fall, are all one, or are too few."""
        if len(seconds) < 2 or not all(abs(float(time)) < 1e12 for time in seconds):  # nor what is no number
            return None
        stated = [round((Fraction(time) - Fraction(seconds[0])) / _MICROSECOND) for time in seconds]
        if stated[-1] == 0 or any(later < earlier for earlier, later in pairwise(stated)):
            return None
        pts = list(accumulate(stated, lambda before, time: max(time, before + 1)))
        return cls(pts, _MICROSECOND, (len(pts) - 1) / float(pts[-1] * _MICROSECOND))


def plausible(fps: float | None) -> float | None:
    """``fps`` where a recording may have it, else None."""
    return fps if fps is not None and SLOWEST <= fps <= FASTEST else None
