"""What measured times come to."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from clesr.pipeline.stats import PERCENTILES

VIDEO_RATE = 30.0  # frames/s


def percentiles(seconds: Sequence[float]) -> dict[str, float | None]:
    """``p50``, ``p95``, ``p99``, ``p99.9`` in milliseconds; None where too few were measured for one to lie beyond."""
    found: dict[str, float | None] = {}
    for name, percent in PERCENTILES.items():
        enough = percent <= 50 or len(seconds) * (100 - percent) >= 100 - 1e-6
        found[name] = round(float(np.percentile(seconds, percent)) * 1e3, 4) if seconds and enough else None
    return found


def latency(seconds: Sequence[float]) -> dict[str, float | int | None]:
    """The percentiles, the longest (``max``, milliseconds), and how many ``frames`` they are of."""
    longest = round(max(seconds) * 1e3, 4) if seconds else None
    return {**percentiles(seconds), "max": longest, "frames": len(seconds)}


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the turns' own ratios, so that what slows the machine for a while meets both alike."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def ratios(rates: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Of each contender over each other one, by their rates turn by turn."""
    return {
        ours: {
            theirs: round(median_ratio(rates[ours], rates[theirs]), 3) for theirs in rates if theirs != ours
        }
        for ours in rates
    }


def significant(value: float) -> float:
    """``value`` with five figures that count."""
    return float(f"{value:.5g}")


def streams(frames_a_second: float) -> int:
    """How many streams at video rate that many frames a second are."""
    return int(frames_a_second / VIDEO_RATE + 1e-9)
