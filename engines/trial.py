"""Which model a machine can run live: a short trial before the first frame."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing

from clesr.engines.common.errors import EngineError
from clesr.engines.engine import Engine
from clesr.engines.models.weights import Model, find_model, shipped
from clesr.engines.results import engine_errors
from clesr.engines.timing import seconds_a_frame

log = logging.getLogger(__name__)
BEST, LIGHT = "densenet", "fast"
PROBE = 64  # LR pixels a side of the first, small trial
HOPELESS = 3.0  # times the budget by the small trial: the full one is not worth the wait
MARGIN = 0.85  # of the frame period that the engine may take: the rest of the path needs some
RUNS = 3


def choose_model(
    scale: int, shape: tuple[int, int], fps: float, open_one: Callable[[Model, tuple[int, int]], Engine]
) -> Model:
    """The best shipped model that does ``fps`` frames a second of LR ``shape`` (H, W) on this machine.

    DenseNet where it is no ``clean_only`` and a trial run holds the rate, else the small network; says in one line
    which and why.
    """
    light = find_model(LIGHT, scale)
    if (BEST, scale) not in shipped():
        log.info(f"model {LIGHT}: {BEST} has no weights for scale {scale}")
        return light
    best = find_model(BEST, scale)
    if reason := clean_only(best, light):
        log.info(f"model {LIGHT}: {reason}")
        return light
    budget = MARGIN / fps
    try:
        seconds = _seconds(best, (PROBE, PROBE), open_one) * shape[0] * shape[1] / PROBE**2
        if seconds < HOPELESS * budget:
            seconds = _seconds(best, shape, open_one)
    except EngineError as error:
        log.info(f"model {LIGHT}: {BEST} does not run here ({error})")
        return light
    does = f"{BEST} takes {1e3 * seconds:.0f} ms a frame here, {fps:.4g} frames/s leave {1e3 * budget:.0f} ms"
    taken = best if seconds <= budget else light
    log.info(f"model {taken.name}: {does}")
    return taken


def clean_only(best: Model, light: Model) -> str:
    """Why ``light`` is better than ``best`` on what probes deliver, in words; empty where it is not."""
    if best.levels or not light.levels:
        return ""
    return (
        f"auto takes it, for {best.name} was trained on clean images alone, {light.name} on noisy and compressed ones "
        f"too; where yours are clean, ask for {best.name}"
    )


def _seconds(
    model: Model, shape: tuple[int, int], open_one: Callable[[Model, tuple[int, int]], Engine]
) -> float:
    """Median seconds a frame of ``model``, after a first one that does not count."""
    with closing(open_one(model, shape)) as engine, engine_errors("it failed on a frame"):
        return seconds_a_frame(engine, warm_ups=1, frames=(RUNS, RUNS))
