"""The check that an engine computes on this machine what the FP32 reference does."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from clesr.engines.base import Engine
from clesr.engines.models import count_operations
from clesr.engines.offer import Offer
from clesr.engines.torch_engine import upscale
from clesr.engines.weights import Model
from clesr.pipeline.errors import EngineError

MEAN_LIMIT = 1.0  # 8-bit levels
MAX_LIMIT = 4
SMALL = (37, 45)  # odd, so that padding and cutting are run too
AFFORDABLE = 20e9  # operations of the reference: below a second on two cores

_passed: set[tuple[object, ...]] = set()


def open_checked(offer: Offer, model: Model, shape: tuple[int, int], threads: int | None) -> Engine:
    """Open ``offer`` and compare it with torch in FP32 on a fixed image.

    The engine itself is compared where the reference is affordable at ``shape``. Where it is not, an engine
    of the same kind opened for a small shape is compared in its place, once a process. Raises EngineError
    where the engine cannot start or does not pass.
    """
    affordable = count_operations(model.module, 8, 8) * shape[0] * shape[1] / 64 <= AFFORDABLE
    if not affordable:
        _check_small(offer, model, threads)
    engine = offer.open(model, shape, threads)
    if affordable:
        try:
            _check(engine, model)
        except BaseException:
            engine.close()
            raise
    return engine


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


def _check_small(offer: Offer, model: Model, threads: int | None) -> None:
    key = (offer.name, offer.kind, offer.precision, model.sha256, threads)
    if key in _passed:
        return
    small = offer.open(model, SMALL, threads)
    try:
        _check(small, model)
    finally:
        small.close()
    _passed.add(key)


def _check(engine: Engine, model: Model) -> None:
    image = probe_image(*engine.info.lr_shape)
    engine.submit(image)
    sr: NDArray[np.uint8] = engine.collect().astype(np.uint8, copy=False)
    reference: NDArray[np.uint8] = upscale(model.module, image).astype(np.uint8, copy=False)
    compare(sr, reference)
