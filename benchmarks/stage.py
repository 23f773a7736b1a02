"""What every stage of gpu.sh shares: where results go, and what a stage leaves."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import ROOT, environment

from clesr.engines.common.files import OWN, write_json

RESULTS = ROOT / "benchmarks" / "results" / "gpu"
DRY = "--dry"  # whose figures mean nothing and must not stand among the results


def folder() -> Path:
    """$OUT where it is set, else benchmarks/results/gpu, dry a temporary one; made where it is not there."""
    usual = Path(tempfile.gettempdir()) / "clesr-gpu-dry" if DRY in sys.argv else RESULTS
    path = Path(os.environ.get("OUT") or usual)
    path.mkdir(parents=True, exist_ok=True)
    return path


def leave(name: str, passed: bool, headline: list[str], **figures: Any) -> int:
    """Write NAME.json: whether the stage ``passed``, its ``headline`` for the closing table, and its figures. The exit
    status that says the same."""
    result = {"benchmark": name, "passed": passed, "headline": headline, **environment(), **figures}
    write_json(folder() / f"{name}.json", result, OWN)
    return 0 if passed else 1
