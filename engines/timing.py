"""Which engine is the fastest on this GPU: measured once for a model and a shape, and remembered."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Annotated

import torch
from msgspec import Meta

from clesr import __version__
from clesr.engines.cache import Cache, Key, cache_folder
from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError
from clesr.engines.common.image import Image
from clesr.engines.common.parsing import parse_json
from clesr.engines.engine import Engine
from clesr.engines.gpu import gpu_key
from clesr.engines.memory import free_memory
from clesr.engines.models.weights import Model
from clesr.engines.results import engine_errors, run_frame
from clesr.engines.selftest import probe_image

log = logging.getLogger(__name__)
BUDGET_S = 20.0  # for all candidates together; one that has begun is finished
WARM_UPS = 3
FRAMES = (5, 50)  # timed, at least and at most
ENOUGH_S = 1.0  # of timing one candidate

OpenCandidate = Callable[[EngineCandidate], Engine]


@dataclass(slots=True)
class Trial:
    """What timing came to, by ``str(candidate)``: milliseconds a frame of each that ran, and why others did not."""

    milliseconds: dict[str, Annotated[float, Meta(ge=0)]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    complete: bool = True  # no candidate was left out for want of time
    earlier: bool = False  # taken from disk

    def fastest_first(self, candidates: Sequence[EngineCandidate]) -> list[EngineCandidate]:
        """Those of ``candidates`` that ran."""
        ran = [candidate for candidate in candidates if str(candidate) in self.milliseconds]
        return sorted(ran, key=lambda candidate: self.milliseconds[str(candidate)])


def fastest(
    candidates: Sequence[EngineCandidate], open_one: OpenCandidate, model: Model, shape: tuple[int, int]
) -> tuple[Engine | None, EngineCandidate | None, Trial]:
    """The fastest of ``candidates`` that starts, opened, and the trial, which has a time or a reason for each.

    One that has to wait (a TensorRT engine that is not built) takes no part. Engine and candidate are None where none
    starts.
    """
    waits = {str(candidate): candidate.wait(model, shape) for candidate in candidates}
    ready = [candidate for candidate in candidates if not waits[str(candidate)]]
    trial = recall(model, shape, ready)
    engine, taken = _open_first(trial, ready, open_one) if trial else (None, None)
    if trial is None or engine is None:
        trial = time_candidates(ready, open_one)
        engine, taken = _open_first(trial, ready, open_one)
        remember(model, shape, ready, trial)
    trial.reasons |= {name: why for name, why in waits.items() if why}
    return engine, taken, trial


def _open_first(
    trial: Trial, candidates: Sequence[EngineCandidate], open_one: OpenCandidate
) -> tuple[Engine | None, EngineCandidate | None]:
    """The fastest that starts now. One that does not loses its time."""
    for candidate in trial.fastest_first(candidates):
        try:
            return open_one(candidate), candidate
        except EngineError as error:
            trial.reasons[str(candidate)] = str(error)
            del trial.milliseconds[str(candidate)]
    return None, None


def time_candidates(candidates: Sequence[EngineCandidate], open_one: OpenCandidate) -> Trial:
    """Open, time and close one of ``candidates`` after the other, until BUDGET_S are over."""
    trial, start = Trial(), perf_counter()
    for candidate in candidates:
        if trial.milliseconds and perf_counter() - start > BUDGET_S:
            trial.reasons[str(candidate)] = f"not timed, the {BUDGET_S:g} s for that were over"
            trial.complete = False
            continue
        try:
            with closing(open_one(candidate)) as engine, engine_errors("it failed when it was timed"):
                trial.milliseconds[str(candidate)] = 1e3 * seconds_a_frame(engine)
                log.debug(f"{candidate}: {trial.milliseconds[str(candidate)]:.2f} ms a frame")
        except EngineError as error:
            trial.reasons[str(candidate)] = str(error)
        free_memory()
    return trial


def seconds_a_frame(
    engine: Engine,
    image: Image | None = None,
    *,
    warm_ups: int = WARM_UPS,
    frames: tuple[int, int] = FRAMES,
    enough_s: float = ENOUGH_S,
) -> float:
    """Median from submitting ``image`` (by default a fixed one) to having its result, one in flight, of at least and
    at most ``frames`` after ``warm_ups``; no more than the least once ``enough_s`` are over."""
    image = probe_image(*engine.info.lr_shape) if image is None else image
    least, most = frames
    spans: list[float] = []
    begin = perf_counter()
    for turn in range(warm_ups + most):
        start = perf_counter()
        run_frame(engine, image)
        if turn >= warm_ups:
            spans.append(perf_counter() - start)
        if len(spans) >= least and perf_counter() - begin > enough_s:
            break
    return statistics.median(spans)


def recall(model: Model, shape: tuple[int, int], candidates: Sequence[EngineCandidate]) -> Trial | None:
    """The trial of the same ``candidates`` for ``model`` at ``shape`` on this GPU, where there was one."""
    cache, name, key = _remembered(model, shape, candidates)
    content = cache.read(name, key)
    try:
        return None if content is None else replace(parse_json(content, Trial), earlier=True)
    except ValueError as error:
        log.warning(f"the remembered choice of an engine is not used: {error}")
        return None


def remember(
    model: Model, shape: tuple[int, int], candidates: Sequence[EngineCandidate], trial: Trial
) -> None:
    """Keep ``trial``, unless candidates were left out for want of time."""
    if trial.milliseconds and trial.complete:
        cache, name, key = _remembered(model, shape, candidates)
        found = {"milliseconds": trial.milliseconds, "reasons": trial.reasons}
        cache.write(name, key, json.dumps(found).encode())


def _remembered(
    model: Model, shape: tuple[int, int], candidates: Sequence[EngineCandidate]
) -> tuple[Cache, str, Key]:
    """Where the choice is kept, under which name and key: what the times depend on."""
    cache = Cache(cache_folder() / "choices", "the remembered choice of an engine", ".choice")
    size = f"{shape[1]}x{shape[0]}"
    libraries = sorted({candidate.library for candidate in candidates if candidate.library})
    key = {
        **model.key,
        "shape": size,
        "candidates": ", ".join(sorted(str(candidate) for candidate in candidates)),
        "software": ", ".join([f"clesr {__version__}", f"torch {torch.__version__}", *libraries]),
        **gpu_key(),
    }
    return cache, f"{model.name}-x{model.scale}-{size}", key
