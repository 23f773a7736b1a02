"""What every stage of gpu.sh shares: where results go, and what a stage leaves."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from bare import ROOT, card_says

RESULTS = ROOT / "benchmarks" / "results" / "gpu"
DRY = "--dry"  # whose figures mean nothing and must not stand among the results
ROWS, STAGE = "CLESR_GPU_ROWS", "CLESR_GPU_STAGE"  # variables: the file of rows, and whose they are
BEFORE = "CLESR_GPU_CLOCKS"  # variable: what the card said of CLOCKS before the stage
CLOCKS = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")


def folder() -> Path:
    """$OUT where it is set, else benchmarks/results/gpu, dry a temporary one; made where it is not there."""
    usual = Path(tempfile.gettempdir()) / "clesr-gpu-dry" if DRY in sys.argv else RESULTS
    path = Path(os.environ.get("OUT") or usual)
    path.mkdir(parents=True, exist_ok=True)
    return path


def tell(text: str, **figures: Any) -> None:
    """A row, as soon as it is known: ``text`` on standard output, and with ``figures`` in gpu.sh's file of rows, where
    it stays whatever becomes of this process."""
    print(text, flush=True)
    if ROWS in os.environ:
        append_row(Path(os.environ[ROWS]), stage=os.environ.get(STAGE, ""), text=text, **figures)


def append_row(path: Path, **row: Any) -> None:
    """A line of JSON, in one piece, at the end of ``path``."""
    with path.open("ab", buffering=0) as file:
        file.write(f"{json.dumps(row)}\n".encode())


def leave(name: str, passed: bool, headline: list[str], *, measured: bool = True, **figures: Any) -> int:
    """Write NAME.json: whether the stage ``passed``, its ``headline``, which gpu.sh repeats, the card's clocks before
    and after, and its figures; not ``measured`` where this machine lacks what it is about. The exit status that says
    whether it passed."""
    from clesr.engines.common.files import OWN, write_json
    from clesr.tools.bench.machine import environment

    clocks = {"before": os.environ.get(BEFORE, ""), "after": card_says(*CLOCKS)}
    result = {
        "benchmark": name,
        "passed": passed,
        "measured": measured,
        "headline": headline,
        "clocks": clocks,
    }
    result |= environment() | figures
    write_json(folder() / f"{name}.json", result, OWN)
    return 0 if passed else 1
