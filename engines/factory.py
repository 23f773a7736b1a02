"""Which engine runs: what this machine offers, fastest first, and why not the others."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

from clesr.engines import timing as choice
from clesr.engines.backends import torch as torch_engine
from clesr.engines.backends.cuda import engine as cuda_engine
from clesr.engines.backends.interpolation import METHODS, open_interpolation
from clesr.engines.backends.openvino import engine as openvino_engine
from clesr.engines.backends.tensorrt import engine as tensorrt_engine
from clesr.engines.candidate import PRECISIONS, EngineCandidate
from clesr.engines.common.errors import EngineError, UsageError
from clesr.engines.engine import Engine
from clesr.engines.models import SCALES, carries_image, level_names
from clesr.engines.models.weights import Model, find_model
from clesr.engines.notes import noting
from clesr.engines.results import check_size
from clesr.engines.selftest import open_checked
from clesr.engines.tiles import open_fitting

ENGINES: dict[str, Callable[[], list[EngineCandidate]]] = {
    "tensorrt": tensorrt_engine.candidates,
    "cuda": cuda_engine.candidates,
    "openvino": openvino_engine.candidates,
    "torch": torch_engine.candidates,
}
ROUNDING = "it rounds the image, which this network has nowhere else; --precision bf16 takes it all the same"


def engines() -> list[EngineCandidate]:
    """Every engine on every device, fastest first, those that this machine lacks with the reason."""
    return sorted(
        (candidate for candidates in ENGINES.values() for candidate in candidates()), key=lambda o: o.rank
    )


def open_engine(
    engine: str,
    model: Model | str,
    scale: int,
    shape: tuple[int, int],
    *,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    explain: Callable[[str], None] | None = None,
) -> Engine:
    """An engine for LR images of ``shape`` (H, W) that has passed its self-test.

    ``engine`` is a name in ENGINES or ``auto``: the fastest that starts and passes; of several on an NVIDIA GPU the one
    that a trial finds the fastest, which is remembered. An image too large for the memory is computed in tiles.
    ``model`` is a loaded model, the name or file of one, or an interpolation (bicubic, bilinear, nearest), which has
    an engine of its own. ``device`` (cpu, cuda, gpu) and ``precision`` (fp32, bf16, fp16, fp8) narrow the choice.
    ``threads`` is the number of CPU threads, all cores by default. ``explain`` gets one line: what was taken, and why
    each other was not; before it one for each thing that did not go as usual, such as a damaged cache file.

    Raises UsageError for names that do not exist or do not go together, EngineError where nothing works.
    """
    _check(engine, scale, shape, device, precision, threads)
    tell = explain or (lambda _line: None)
    if isinstance(model, str) and model in METHODS:
        if engine != "auto":
            raise UsageError(f"{model} has an engine of its own, not {engine}; use --engine auto")
        opened: Engine = open_interpolation(model, scale, shape)
        tell(f"engine: {opened.info}")
        return opened
    if isinstance(model, str):
        model = find_model(model, scale)
    if model.scale != scale:
        raise UsageError(f"{model.name} is for scale {model.scale}, not {scale}; give --scale {model.scale}")
    if level_names(model.module):
        raise UsageError(
            f"{model.name} takes {', '.join(level_names(model.module))} beside the image, which no engine gives it "
            "yet; `clesr evaluate` does"
        )
    candidates = _wanted(engine, device, precision)
    if precision is None and not carries_image(model.module):
        candidates = [
            replace(o, available=False, reason=ROUNDING) if o.available and o.precision == "bf16" else o
            for o in candidates
        ]

    def open_one(candidate: EngineCandidate) -> Engine:
        opened = open_fitting(lambda size: open_checked(candidate, model, size, threads), shape)
        opened.info = replace(opened.info, limit_db=(model.descriptor.fidelity or {}).get("limit_db"))
        return opened

    with noting(tell):
        on_gpu = [candidate for candidate in candidates if candidate.kind == "cuda" and candidate.available]
        if engine == "auto" and len(on_gpu) > 1:
            return _fastest(candidates, on_gpu, open_one, model, shape, tell)
        return _first_that_works(candidates, open_one, model, tell)


def _first_that_works(
    candidates: Sequence[EngineCandidate],
    open_one: Callable[[EngineCandidate], Engine],
    model: Model,
    tell: Callable[[str], None],
) -> Engine:
    tried: list[EngineCandidate] = []
    for i, candidate in enumerate(candidates):
        reason = candidate.reason
        if candidate.available:
            try:
                opened = open_one(candidate)
            except EngineError as error:
                reason = str(error)
            else:
                slower = [o if not o.available else replace(o, reason="slower") for o in candidates[i + 1 :]]
                tell(f"engine: {opened.info}{_passed_over([*tried, *slower])}")
                return opened
        tried.append(replace(candidate, reason=reason))
    raise EngineError(f"no engine can run {model}{_passed_over(tried)}; `clesr doctor` says what to install")


def _fastest(
    candidates: Sequence[EngineCandidate],
    on_gpu: Sequence[EngineCandidate],
    open_one: Callable[[EngineCandidate], Engine],
    model: Model,
    shape: tuple[int, int],
    tell: Callable[[str], None],
) -> Engine:
    """The fastest of ``on_gpu`` by a trial now or an earlier one; where none runs, the first other one that does."""
    opened, taken, trial = choice.pick(on_gpu, open_one, model, shape)
    found = trial.reasons | {name: f"{ms:.2f} ms" for name, ms in trial.milliseconds.items()}
    if opened is None or taken is None:
        out = [
            replace(o, available=False, reason=trial.reasons[str(o)]) if o in on_gpu else o
            for o in candidates
        ]
        return _first_that_works(out, open_one, model, tell)
    passed = [
        replace(o, reason=o.reason or found.get(str(o), "not timed, it is not on the NVIDIA GPU"))
        for o in candidates
        if o is not taken
    ]
    when = ", timed earlier" if trial.earlier else ""
    tell(f"engine: {opened.info}, {found[str(taken)]} a frame{when}{_passed_over(passed)}")
    return opened


def _passed_over(candidates: Sequence[EngineCandidate]) -> str:
    """Each with its reason, which is said once for neighbours on one device that share it."""
    said = ""
    for (device, reason), alike in itertools.groupby(candidates, key=lambda o: (o.device, o.reason)):
        said += f"; not {', '.join(f'{o.name} {o.precision}' for o in alike)} on {device} ({reason})"
    return said


def _wanted(engine: str, device: str | None, precision: str | None) -> list[EngineCandidate]:
    having = [candidate for candidate in engines() if engine in ("auto", candidate.name)]
    asked_for = [o for o in having if precision == o.precision or (precision is None and not o.on_request)]
    wanted = [o for o in asked_for if device in (None, o.kind)]
    if not wanted:
        choices = ", ".join(f"{o.name} {o.precision} on {o.kind}" for o in having)
        asked = " ".join(filter(None, [engine, precision, device and f"on {device}"]))
        raise UsageError(f"there is no engine {asked}; choose from {choices}")
    return wanted


def _check(
    engine: str,
    scale: int,
    shape: tuple[int, int],
    device: str | None,
    precision: str | None,
    threads: int | None,
) -> None:
    if engine not in ("auto", *ENGINES):
        raise UsageError(f"engine {engine!r} is unknown; choose one of auto, {', '.join(ENGINES)}")
    if scale not in SCALES:
        raise UsageError(f"scale {scale} is not one of {', '.join(map(str, SCALES))}")
    if min(shape) < 1:
        raise UsageError(
            f"an image of {shape[0]} x {shape[1]} pixels cannot be enlarged; it must have pixels"
        )
    check_size(shape, scale)
    if device not in (None, "cpu", "cuda", "gpu"):
        raise UsageError(f"device {device!r} is unknown; choose cpu, cuda (NVIDIA) or gpu (Intel)")
    if precision not in (None, *PRECISIONS):
        raise UsageError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads cannot compute; give at least 1, or leave it out for all cores")
