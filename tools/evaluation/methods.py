"""The methods that are compared, each as a function of LR images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from clesr.engines import Engine, open_engine
from clesr.engines.interpolation_engine import METHODS as INTERPOLATIONS
from clesr.engines.weights import Model, load_model, shipped
from clesr.pipeline.errors import UsageError

NAMES = ("nearest", "bilinear", "bicubic", "srcnn", "densenet", "fast")
RUNS, ENOUGH_S = 5, 2.0  # a frame is timed so often, or until so many seconds are over

Pixels = NDArray[np.uint8]


class Method:
    """One way to up-scale by ``scale``; engines are opened for each LR shape, and kept."""

    def __init__(self, name: str, scale: int, model: Model | str, engine: str) -> None:
        self.name, self.scale, self.engine = name, scale, ""
        self._model, self._wanted = model, engine if isinstance(model, Model) else "auto"
        self._opened: dict[tuple[int, int], Engine] = {}

    def __call__(self, lr: Pixels) -> tuple[Pixels, float]:
        """The SR image (sH, sW) uint8 of ``lr`` (H, W) uint8, and the milliseconds that a frame takes."""
        height, width = lr.shape
        engine = self._opened.get((height, width))
        if engine is None:
            engine = open_engine(self._wanted, self._model, self.scale, (height, width))
            self._opened[height, width] = engine
            self.engine = str(engine.info)
        sr, _ = _run(engine, lr)  # the first may do what later ones need not
        spans: list[float] = []
        while len(spans) < RUNS and (not spans or sum(spans) < ENOUGH_S):
            sr, seconds = _run(engine, lr)
            spans.append(seconds)
        return sr, 1e3 * median(spans)

    def close(self) -> None:
        for engine in self._opened.values():
            engine.close()
        self._opened.clear()


def wanted_methods(words: Sequence[str]) -> list[str]:
    """Names and files out of what a user typed; raises UsageError for what is neither."""
    found: list[str] = []
    for word in words:
        if word != "all" and word not in NAMES and not Path(word).is_file():
            raise UsageError(
                f"method {word!r} is unknown; choose from all, {', '.join(NAMES)}, or give a file"
            )
        found += [name for name in (NAMES if word == "all" else (word,)) if name not in found]
    return found


def open_method(name: str, scale: int, *, engine: str, tell: Callable[[str], None]) -> Method | None:
    """The method ``name`` for ``scale``; None, said by ``tell``, where it has no weights for that scale."""
    if name in INTERPOLATIONS:
        return Method(name, scale, name, engine)
    if name in NAMES:
        path = shipped().get((name, scale))
        if path is None:
            tell(f"{name} has no weights for x{scale}: left out")
            return None
        return Method(name, scale, load_model(path), engine)
    model = load_model(Path(name))
    if model.scale != scale:
        tell(f"{name} is for x{model.scale}: left out at x{scale}")
        return None
    return Method(Path(name).stem, scale, model, engine)


def _run(engine: Engine, lr: Pixels) -> tuple[Pixels, float]:
    start = perf_counter()
    engine.submit(lr)
    sr = engine.collect()
    return np.asarray(sr, np.uint8), perf_counter() - start
