"""Which engine runs: what this machine offers, fastest first, and why not the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from clesr.engines import cuda_engine, openvino_engine, torch_engine
from clesr.engines.base import Engine
from clesr.engines.interpolation_engine import METHODS, open_interpolation
from clesr.engines.models import SCALES
from clesr.engines.offer import PRECISIONS, Offer
from clesr.engines.selftest import open_checked
from clesr.engines.weights import Model, find_model
from clesr.pipeline.errors import EngineError, UsageError

ENGINES: dict[str, Callable[[], list[Offer]]] = {
    "cuda": cuda_engine.offers,
    "openvino": openvino_engine.offers,
    "torch": torch_engine.offers,
}


def engines() -> list[Offer]:
    """Every engine on every device, fastest first, those that this machine lacks with the reason."""
    return sorted((offer for offers in ENGINES.values() for offer in offers()), key=lambda o: o.rank)


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

    ``engine`` is a name in ENGINES or ``auto``: the fastest that starts and passes. ``model`` is a loaded
    model, the name or file of one, or an interpolation (bicubic, bilinear, nearest), which has an engine of
    its own. ``device`` (cpu, cuda, gpu) and ``precision`` (fp32, bf16, fp16, fp8) narrow the choice. ``threads``
    is the number of CPU threads, all cores by default. ``explain`` gets one line: what was taken, and why
    each other was not.

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
    return _first_that_works(_wanted(engine, device, precision), model, shape, threads, tell)


def _first_that_works(
    offers: Sequence[Offer],
    model: Model,
    shape: tuple[int, int],
    threads: int | None,
    tell: Callable[[str], None],
) -> Engine:
    tried: list[Offer] = []
    for i, offer in enumerate(offers):
        reason = offer.reason
        if offer.available:
            try:
                opened = open_checked(offer, model, shape, threads)
            except EngineError as error:
                reason = str(error)
            else:
                slower = [o if not o.available else replace(o, reason="slower") for o in offers[i + 1 :]]
                tell(f"engine: {opened.info}{_passed_over([*tried, *slower])}")
                return opened
        tried.append(replace(offer, reason=reason))
    raise EngineError(f"no engine can run {model}{_passed_over(tried)}; `clesr doctor` says what to install")


def _passed_over(offers: Sequence[Offer]) -> str:
    return "".join(f"; not {offer} ({offer.reason})" for offer in offers)


def _wanted(engine: str, device: str | None, precision: str | None) -> list[Offer]:
    having = [offer for offer in engines() if engine in ("auto", offer.name)]
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
    if device not in (None, "cpu", "cuda", "gpu"):
        raise UsageError(f"device {device!r} is unknown; choose cpu, cuda (NVIDIA) or gpu (Intel)")
    if precision not in (None, *PRECISIONS):
        raise UsageError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads cannot compute; give at least 1, or leave it out for all cores")
