"""What the benchmarks share with `clesr bench`."""

from __future__ import annotations

from clesr.tools.bench.figures import percentiles
from clesr.tools.bench.images import lr_and_hr
from clesr.tools.bench.machine import ROOT, environment

__all__ = ["ROOT", "environment", "frames_for", "lr_and_hr", "percentiles"]

RUN_S = 8.0  # of a run whose speed is compared: a view first sees after half a second that the cores are busy


def frames_for(fps: float) -> int:
    """How many frames of recorded input a run of ``RUN_S`` has at ``fps``."""
    return round(RUN_S * fps)
