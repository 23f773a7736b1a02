"""Which engine runs: what this machine has, fastest first, and why not the others; ``open_engine`` opens it."""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from clesr.engines.candidate import PRECISIONS, EngineCandidate
from clesr.engines.common.errors import ClesrError, EngineError, UsageError
from clesr.engines.common.registry import Registry
from clesr.engines.engine import Engine
from clesr.engines.interpolation import METHODS, open_interpolation
from clesr.engines.models.registry import LEVELS, SCALES, carries_image
from clesr.engines.models.weights import Model, find_model
from clesr.engines.results import check_size, engine_errors
from clesr.engines.selftest import open_checked
from clesr.engines.tiles import open_fitting
from clesr.engines.timing import fastest

# A function for each engine that gives its candidates on this machine.
ENGINES: Registry[Callable[[], list[EngineCandidate]]] = Registry(
    "clesr.engines",
    {
        "tensorrt": "clesr.engines.backends.tensorrt.engine:candidates",
        "cuda": "clesr.engines.backends.cuda.engine:candidates",
        "openvino": "clesr.engines.backends.openvino.engine:candidates",
        "torch": "clesr.engines.backends.torch:candidates",
    },
    EngineError,
)
LAST = 100  # rank of what cannot be loaded
ROUNDING = "it rounds the image, which this network has nowhere else; --precision bf16 takes it all the same"

Reasons = Mapping[str, str]  # why candidates that could have run did not, by ``str(candidate)``


def engines(name: str = "auto") -> list[EngineCandidate]:
    """Every engine (or the one called ``name``) on every device, fastest first, those that this machine lacks with the
    reason."""
    names = ENGINES if name == "auto" else [name]
    return sorted((found for one in names for found in _candidates(one)), key=lambda o: o.rank)


def _candidates(name: str) -> list[EngineCandidate]:
    try:
        with engine_errors("it cannot be loaded"):
            found: object = ENGINES[name]()
            if not isinstance(found, list) or not all(isinstance(one, EngineCandidate) for one in found):
                raise EngineError(f"it gives {reprlib.repr(found)} in place of a list of EngineCandidate")
            return found
    except ClesrError as error:
        return [
            EngineCandidate(
                name=name, kind="cpu", device="this machine", precision="fp32", rank=LAST, reason=str(error)
            )
        ]


def open_engine(
    engine: str,
    model: Model | str,
    scale: int,
    shape: tuple[int, int],
    *,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> Engine:
    """An engine for LR images of ``shape`` (H, W) that has passed its self-test.

    ``engine`` is a name in ENGINES or ``auto``: the fastest that starts and passes; of several on an NVIDIA GPU the one
    that a trial finds the fastest, which is remembered. An image too large for the memory is computed in tiles.
    ``model`` is a loaded model, the name or file of one, or an interpolation (bicubic, bilinear, nearest), which has
    an engine of its own. ``device`` (cpu, cuda, gpu) and ``precision`` (fp32, bf16, fp16) narrow the choice.
    ``threads`` is the number of CPU threads, all cores by default. ``info.choice`` of the engine is one line: what was
    taken, and one reason where something faster was not. What does not go as usual, such as a damaged cache file, is
    logged.

    Raises UsageError for names that do not exist or do not go together, EngineError where nothing works.
    """
    _check(engine, scale, shape, device, precision, threads)
    if isinstance(model, str) and model in METHODS:
        if engine != "auto":
            raise UsageError(f"{model} has an engine of its own, not {engine}; use --engine auto")
        return _chosen(open_interpolation(model, scale, shape), (), {})
    if isinstance(model, str):
        model = find_model(model, scale)
    if model.scale != scale:
        raise UsageError(f"{model.name} is for scale {model.scale}, not {scale}; give --scale {model.scale}")
    if model.levels not in ((), LEVELS):
        raise UsageError(
            f"{model.name} takes {', '.join(model.levels)} beside the image; this clesr estimates "
            f"{', '.join(LEVELS)}: train it again"
        )
    candidates = _wanted(engine, device, precision)
    rounding = precision is None and not carries_image(model.module)
    reasons = {str(o): ROUNDING for o in candidates if rounding and o.available and o.precision == "bf16"}

    def open_one(candidate: EngineCandidate) -> Engine:
        return _open(candidate, model, shape, threads)

    on_gpu = [o for o in candidates if o.kind == "cuda" and o.available and str(o) not in reasons]
    if engine == "auto" and len(on_gpu) > 1:
        found, taken, trial = fastest(on_gpu, open_one, model, shape)
        reasons |= trial.reasons
        if found and taken:
            ahead = [o for o in candidates if o is not taken and (o in on_gpu or o.rank < taken.rank)]
            time = f", {trial.milliseconds[str(taken)]:.2f} ms a frame"
            return _chosen(found, ahead, reasons, time + (", timed earlier" if trial.earlier else ""))
    return _first_that_works(candidates, open_one, model, reasons)


def why_not(candidate: EngineCandidate, model: Model, shape: tuple[int, int]) -> str:
    """Why ``candidate`` does not run ``model`` on LR images of ``shape`` (H, W); empty where it starts and passes."""
    reason = candidate.reason or candidate.wait(model, shape)
    if not reason:
        try:
            _open(candidate, model, shape, None).close()
        except EngineError as error:
            return str(error)
    return reason


def _open(candidate: EngineCandidate, model: Model, shape: tuple[int, int], threads: int | None) -> Engine:
    opened = open_fitting(lambda size: open_checked(candidate, model, size, threads), shape)
    opened.info = replace(opened.info, limit_db=(model.descriptor.fidelity or {}).get("limit_db"))
    return opened


def _first_that_works(
    candidates: Sequence[EngineCandidate],
    open_one: Callable[[EngineCandidate], Engine],
    model: Model,
    reasons: Reasons,
) -> Engine:
    reasons = dict(reasons)
    for i, candidate in enumerate(candidates):
        if candidate.available and str(candidate) not in reasons:
            try:
                opened = open_one(candidate)
            except EngineError as error:
                reasons[str(candidate)] = str(error)
            else:
                return _chosen(opened, candidates[:i], reasons)
    raise EngineError(
        f"no engine can run {model}{_passed_over(candidates, reasons)}; `clesr doctor` says what to install"
    )


def _chosen(opened: Engine, ahead: Sequence[EngineCandidate], reasons: Reasons, time: str = "") -> Engine:
    """``opened``, with a line of it: what runs, and of those ``ahead`` of it, as far as this machine has them, the
    first that could have run, with the reason why it did not."""
    passed = [o for o in ahead if str(o) in reasons or (o.reason and o.present)]
    tried = [o for o in passed if str(o) in reasons][:1]
    line = f"engine: {opened.info}{time}{_passed_over(tried, reasons)}"
    line += "; `clesr doctor` says why no faster one" if len(passed) > len(tried) else ""
    opened.info = replace(opened.info, choice=line)
    return opened


def _passed_over(candidates: Sequence[EngineCandidate], reasons: Reasons) -> str:
    """Each with its reason, which is said once for neighbours on one device that share it."""
    said = ""
    for (device, reason), alike in itertools.groupby(
        candidates, key=lambda o: (o.device, reasons.get(str(o), o.reason))
    ):
        said += f"; not {', '.join(f'{o.name} {o.precision}' for o in alike)} on {device} ({reason})"
    return said


def _wanted(engine: str, device: str | None, precision: str | None) -> list[EngineCandidate]:
    having = engines(engine)
    asked_for = [o for o in having if precision in (None, o.precision)]
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
    if engine != "auto" and engine not in ENGINES:
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
