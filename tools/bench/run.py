"""One run of the bench: which engines on which models and sizes, and what it comes to as JSON."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError, UsageError
from clesr.engines.factory import engines
from clesr.engines.models.weights import find_model
from clesr.tools.bench import baselines, stored
from clesr.tools.bench.images import DATA, lr_and_hr
from clesr.tools.bench.machine import environment
from clesr.tools.bench.measure import BenchPlan, Case, ImagePair, measure_case
from clesr.tools.bench.peak import bandwidth, matrix_peaks
from clesr.tools.bench.power import gpu_watts, peak_resident_mb

log = logging.getLogger(__name__)
CPU_CASES = (
    ("fast", 2, (256, 256)),
    ("fast", 4, (256, 256)),
    ("fast", 8, (128, 128)),
    ("densenet", 4, (128, 128)),
)
GPU_CASES = (
    ("densenet", 2, (512, 512)),
    ("densenet", 4, (256, 256)),
    ("densenet", 8, (128, 128)),
    ("densenet", 2, (576, 576)),
    ("fast", 4, (256, 256)),
)
OPENING_S = 2.0  # about, of one engine: opening, parity, warm-up
WAYS = {"cuda": 3, "gpu": 2, "cpu": 2}  # of measuring an engine: one at a time, in flight, by the device


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """What to measure.

    ``engines`` are names of engines or baselines; empty: all but torch.compile, which compiles first, and on a
    GPU of the CPU's engines only the first. ``device`` (cpu, cuda, gpu) and ``precision`` narrow them; a precision that
    engines have on request alone has to be named. ``cases`` are (model, scale, LR
    (H, W)); empty: the usual ones of this machine. ``seconds`` and ``repeats`` are those of ``BenchPlan``; no
    seconds: 1, on a GPU 2.
    """

    engines: tuple[str, ...] = ()
    device: str | None = None
    precision: str | None = None
    cases: tuple[tuple[str, int, tuple[int, int]], ...] = ()
    seconds: float | None = None
    repeats: int = 3


def all_candidates() -> list[EngineCandidate]:
    """clesr's engines and the baselines, fastest first."""
    return sorted([*engines(), *baselines.candidates()], key=lambda candidate: candidate.rank)


def wanted_candidates(
    settings: BenchSettings, having: Sequence[EngineCandidate]
) -> tuple[list[EngineCandidate], list[EngineCandidate]]:
    """Those of ``having`` to measure, and those that are wanted but not available here.

    Raises UsageError for a name that does not exist, EngineError where nothing that was asked for is available.
    """
    names = sorted({candidate.name for candidate in having})
    for name in settings.engines:
        if name not in names:
            raise UsageError(f"engine {name!r} is unknown; choose from {', '.join(names)}")
    wanted = [
        o for o in having if settings.device in (None, o.kind) and settings.precision in (None, o.precision)
    ]
    named = [o for o in wanted if o.name in settings.engines]
    wanted = named if settings.engines else _usual(wanted)
    if not wanted:
        asked = " ".join(filter(None, [" or ".join(settings.engines), settings.precision, settings.device]))
        raise UsageError(f"there is no engine {asked}; leave --device and --precision out, or give others")
    available, missing = ([o for o in wanted if o.available is here] for here in (True, False))
    lacking = [name for name in settings.engines if name not in {o.name for o in available}]
    for name in lacking or ([] if available else [wanted[0].name]):
        own = [o for o in wanted if o.name == name]
        if all(o.kind == "cuda" for o in own) and not torch.cuda.is_available():
            raise EngineError(f"there is no NVIDIA GPU here, so the {name} engine cannot be measured")
        raise EngineError(f"the {name} engine cannot be measured: {own[0].reason}")
    return available, missing


def _usual(candidates: list[EngineCandidate]) -> list[EngineCandidate]:
    usual = [o for o in candidates if o.name not in baselines.SLOW]
    if not any(o.kind == "cuda" and o.available for o in usual):
        return [o for o in usual if o.name not in baselines.NAMES]
    first_cpu = next((o for o in usual if o.kind == "cpu" and o.available), None)
    return [o for o in usual if o.kind != "cpu" or o is first_cpu]


def completed(settings: BenchSettings, candidates: Sequence[EngineCandidate]) -> BenchSettings:
    """``settings`` with the cases and seconds that stand for what was left open: on a GPU the paper's network, on a CPU
    the small one too."""
    on_gpu = any(candidate.kind == "cuda" for candidate in candidates)
    return replace(
        settings,
        cases=settings.cases or (GPU_CASES if on_gpu else CPU_CASES),
        seconds=settings.seconds or (2.0 if on_gpu else 1.0),
    )


def estimate_s(settings: BenchSettings, candidates: Sequence[EngineCandidate]) -> float:
    """About how long a completed run takes; compilers and slow networks come on top."""
    assert settings.seconds is not None
    return len(settings.cases) * sum(WAYS[o.kind] * settings.seconds + OPENING_S for o in candidates)


def bench(
    settings: BenchSettings,
    candidates: Sequence[EngineCandidate],
    *,
    threads: int | None = None,
    plan: BenchPlan | None = None,
    find_pair: Callable[[int, tuple[int, int]], ImagePair] = lr_and_hr,
    peaks: dict[str, dict[str, float]] | None = None,
    advance: Callable[[str], None] = lambda _what: None,
    told: Callable[[str], None] = lambda _line: None,
) -> dict[str, Any]:
    """Measure ``candidates`` by completed ``settings``; the result as JSON has it.

    Raises UsageError for a model or scale that does not exist. ``plan``, ``find_pair`` and ``peaks`` are for tests.
    """
    plan = plan or BenchPlan(
        seconds=settings.seconds or 1.0, repeats=settings.repeats, threads=threads, watts=gpu_watts()
    )
    cases = [Case(find_model(name, scale), shape) for name, scale, shape in settings.cases]
    kinds = sorted({candidate.kind for candidate in candidates} & {"cuda", "cpu"})
    if peaks is None:
        peaks = {
            kind: matrix_peaks(kind, {o.precision for o in candidates if o.kind == kind}) for kind in kinds
        }
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    for case in cases:
        found, out = measure_case(
            case, candidates, find_pair(case.model.scale, case.shape), peaks=peaks, plan=plan, advance=advance,
            told=told,
        )  # fmt: skip
        for line in out:
            log.warning(f"{line['case']}: {line['label']} {line['what']}: {line['reason']}")
        rows += found
        left_out += out
    peak = peak_resident_mb()
    return {
        "benchmark": stored.NAME,
        "format": stored.FORMAT,
        **environment(),
        "settings": {
            **{name: getattr(plan, name) for name in ("seconds", "repeats", "threads")},
            "images": "test images" if os.environ.get(DATA) else "phantom",
        },
        "peak_gflop_s": peaks,
        "bandwidth_gb_s": round(bandwidth("cuda"), 1) if "cuda" in kinds else None,
        "host_peak_mb": None if peak is None else round(peak),
        "rows": rows,
        "left_out": left_out,
    }
