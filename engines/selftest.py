"""The check that an engine computes on this machine what the FP32 reference does."""

from __future__ import annotations

import copy
import functools

import numpy as np
import torch
from numpy.typing import NDArray

from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError, on_error
from clesr.engines.engine import Engine
from clesr.engines.guidance import Guidance, guide
from clesr.engines.models.registry import count_operations
from clesr.engines.models.weights import Model
from clesr.engines.reference import reference_image
from clesr.engines.results import check_opened, engine_errors, run_frame
from clesr.engines.tiles import HALO, Grid, Span

MEAN_LIMIT = 1.0  # 8-bit levels
MAX_LIMIT = 4
SMALL = (37, 45)  # odd, so that padding and cutting are run too
AFFORDABLE = 20e9  # operations of the reference: below a second on two cores
CORNER = 128  # LR pixels a side that the reference computes on a GPU: little memory, tiles of every kernel

_passed: set[tuple[object, ...]] = set()


def open_checked(
    candidate: EngineCandidate, model: Model, shape: tuple[int, int], threads: int | None
) -> Engine:
    """Open ``candidate`` and compare it with torch in FP32 on a fixed image.

    The engine itself is compared where the reference is affordable at ``shape``. Where it is not, an engine
    of the same kind opened for a small shape is compared in its place, once a process. On an NVIDIA GPU, where the
    shape decides which kernels run, the engine itself is compared always, in two opposite corners. Raises EngineError
    where the engine cannot start or does not pass.
    """
    if candidate.kind == "cuda":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return _opened(candidate, model, shape, threads, _corners(shape), device=device)
    if count_operations(model.module, 8, 8) * shape[0] * shape[1] / 64 <= AFFORDABLE:
        return _opened(candidate, model, shape, threads, Grid(shape, 1, 1).tiles())
    key = (candidate.name, candidate.kind, candidate.precision, model.sha256, threads)
    if key not in _passed:
        _opened(candidate, model, SMALL, threads, Grid(SMALL, 1, 1).tiles()).close()
        _passed.add(key)
    return _opened(candidate, model, shape, threads, [])


def compare(sr: NDArray[np.uint8], reference: NDArray[np.uint8]) -> None:
    """Raise EngineError where 8-bit ``sr`` is not within the limits of ``reference``."""
    if sr.shape != reference.shape:
        raise EngineError(f"self-test: the result is {sr.shape}, not {reference.shape}")
    if sr.max() == sr.min() and reference.max() != reference.min():
        raise EngineError("self-test: the result is constant")
    difference = np.abs(sr.astype(np.int16) - reference)
    mean, worst = float(difference.mean()), int(difference.max())
    if mean > MEAN_LIMIT or worst > MAX_LIMIT:
        raise EngineError(
            f"self-test: {mean:.2f} levels from the FP32 reference on average and {worst} at most; "
            f"{MEAN_LIMIT:g} and {MAX_LIMIT} are allowed"
        )


@functools.lru_cache(maxsize=8)
def probe_image(height: int, width: int) -> NDArray[np.uint8]:
    """A fixed image of shades, an edge, noise, black and white pixels. Shared: read only."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    shades = 100 + 60 * np.sin(x / 5) * np.cos(y / 7) + 40 * (x + y > (height + width) / 2)
    noise = np.random.default_rng(2018).normal(0, 12, (height, width))
    image: NDArray[np.uint8] = np.clip(np.rint(shades + noise), 0, 255).astype(np.uint8)
    image.flat[::61], image.flat[30::61] = 0, 255
    image.setflags(write=False)
    return image


@functools.lru_cache(maxsize=8)
def probe_guidance(height: int, width: int) -> Guidance:
    """What a network is told of ``probe_image(height, width)``: its levels, and to trust itself everywhere, but on each
    seventh column by half, so that what an engine may get wrong about trust is seen. Shared: read only."""
    trust = np.full((height, width), 255, np.uint8)
    trust[:, ::7] = 128
    trust.setflags(write=False)
    return Guidance(guide(probe_image(height, width)).levels, trust)


def _opened(
    candidate: EngineCandidate,
    model: Model,
    shape: tuple[int, int],
    threads: int | None,
    parts: list[tuple[Span, Span]],
    *,
    device: str = "cpu",
) -> Engine:
    """``candidate``, opened, whose result is that of the reference on ``device`` in ``parts``; else it is closed again.

    Raises EngineError whatever the engine raises, and where it is not for what was asked.
    """
    with engine_errors("it does not start"):
        engine = candidate.open(model, shape, threads)
        close = engine.close
    with on_error(close), engine_errors("it is no engine"):
        check_opened(engine, shape, model.scale)
        if parts:
            _compare_parts(engine, model, parts, device)
    return engine


def _compare_parts(engine: Engine, model: Model, parts: list[tuple[Span, Span]], device: str) -> None:
    image, scale = probe_image(*engine.info.lr_shape), model.scale
    guidance = probe_guidance(*engine.info.lr_shape) if engine.info.levels else guide(image)
    with engine_errors("self-test: it failed"):
        sr = np.asarray(run_frame(engine, image, guidance), np.uint8)
    network = copy.deepcopy(model.module).to(device)
    for down, right in parts:
        part = np.ascontiguousarray(image[down.read, right.read])
        told = guidance.part(down.read, right.read)
        reference = reference_image(network, part, told, device=device).astype(np.uint8, copy=False)
        found = sr[down.given(scale), right.given(scale)]
        compare(found, reference[down.kept(scale), right.kept(scale)])


def _corners(shape: tuple[int, int]) -> list[tuple[Span, Span]]:
    """Top left and bottom right, as far from the cut as a tile's halo; the whole where it is small."""
    return list(dict.fromkeys(zip(_ends(shape[0]), _ends(shape[1]), strict=True)))


def _ends(length: int) -> tuple[Span, Span]:
    """The two ends of an axis."""
    if length <= CORNER:
        return Span(0, length, 0, length), Span(0, length, 0, length)
    start = length - CORNER
    return Span(0, CORNER, 0, CORNER - HALO), Span(start, length, start + HALO, length)
