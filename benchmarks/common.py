"""What the benchmarks share with `clesr bench`."""

from __future__ import annotations

from clesr.tools.benching.figures import percentiles
from clesr.tools.benching.images import lr_and_hr
from clesr.tools.benching.machine import ROOT, environment

__all__ = ["ROOT", "environment", "lr_and_hr", "percentiles"]
