"""What the benchmarks share with `clesr bench`."""

from __future__ import annotations

from clesr.tools.bench.figures import percentiles
from clesr.tools.bench.images import lr_and_hr
from clesr.tools.bench.machine import ROOT, environment

__all__ = ["ROOT", "environment", "lr_and_hr", "percentiles"]
