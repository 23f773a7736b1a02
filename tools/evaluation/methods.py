"""The methods that are compared, each as a function of LR images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from clesr.engines.common.errors import UsageError
from clesr.engines.common.image import Pixels
from clesr.engines.engine import Engine
from clesr.engines.factory import open_engine
from clesr.engines.interpolation import METHODS as INTERPOLATIONS
from clesr.engines.models.weights import load_model, shipped
from clesr.engines.results import run_frame
from clesr.engines.timing import seconds_a_frame
from clesr.tools.evaluation import aplus, span

log = logging.getLogger(__name__)
ALL = ("nearest", "bilinear", "bicubic", "a+", "srcnn", "densenet", "fast")
NAMES = (*ALL, "densenet-paper", span.NAME)
RUNS, ENOUGH_S = 5, 2.0  # a frame is timed so often, or until so many seconds are over


class Method:
    """One way to up-scale by ``scale``; engines are opened for each LR shape, and kept."""

    def __init__(self, name: str, scale: int, open_one: Callable[[tuple[int, int]], Engine]) -> None:
        self.name, self.scale, self.engine = name, scale, ""
        self._open = open_one
        self._opened: dict[tuple[int, int], Engine] = {}
        self._ms: dict[tuple[int, int], float] = {}

    def __call__(self, lr: Pixels, *, anew: bool = True) -> tuple[Pixels, float]:
        """The SR image (sH, sW) uint8 of ``lr`` (H, W) uint8, and the milliseconds that a frame takes: measured
        ``anew``, or those of the frame of this size before."""
        shape = lr.shape[0], lr.shape[1]
        if shape not in self._opened:
            self._opened[shape] = self._open(shape)
            self.engine = str(self._opened[shape].info)
        engine = self._opened[shape]
        sr = np.asarray(run_frame(engine, lr), np.uint8)  # the first may do what later ones need not
        if anew or shape not in self._ms:
            self._ms[shape] = 1e3 * seconds_a_frame(
                engine, lr, warm_ups=0, frames=(1, RUNS), enough_s=ENOUGH_S
            )
        return sr, self._ms[shape]

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
        found += [name for name in (ALL if word == "all" else (word,)) if name not in found]
    return found


def label_methods(wanted: Sequence[str]) -> dict[str, str]:
    """What tables call each of ``wanted``: a name itself, a file by the shortest name that tells it apart."""
    labels = {name: name for name in wanted if name in NAMES}
    files = {name: _file_labels(Path(name)) for name in wanted if name not in NAMES}
    for name, choices in files.items():
        others = {label for other, found in files.items() if other != name for label in found}
        labels[name] = next((label for label in choices if label not in others | set(NAMES)), name)
    return labels


def _file_labels(path: Path) -> tuple[str, str, str]:
    """By its name, its folder's too, its whole path; `clesr train` calls every file "weights", but not the folder."""
    folder = path.resolve().parent.name
    return folder if path.stem == "weights" else path.stem, f"{folder}/{path.stem}", str(path)


def open_method(name: str, scale: int, *, engine: str, label: str | None = None) -> Method | None:
    """The method ``name`` (or file) for ``scale``, in tables called ``label``; None, and a warning, where
    it has no weights for that scale."""
    label = label or name
    if name in INTERPOLATIONS:
        return Method(name, scale, lambda shape: open_engine("auto", name, scale, shape))
    if name == span.NAME:
        span.models()
        if scale in span.SCALES:
            return Method(name, scale, lambda shape: span.open_span(scale, shape))
    elif name in NAMES:
        path = aplus.shipped().get(scale) if name == aplus.ARCHITECTURE else shipped().get((name, scale))
        if path is not None:
            return _of_file(path, label, engine)
    else:
        found = _of_file(Path(name), label, engine)
        if found.scale == scale:
            return found
        log.warning(f"{name} is for x{found.scale}: left out at x{scale}")
        return None
    log.warning(f"{name} has no weights for x{scale}: left out")
    return None


def _of_file(path: Path, label: str, engine: str) -> Method:
    if aplus.is_aplus(path):
        regressors = aplus.load(path)
        return Method(label, regressors.scale, lambda shape: aplus.open_aplus(regressors, shape))
    model = load_model(path)
    return Method(label, model.scale, lambda shape: open_engine(engine, model, model.scale, shape))
