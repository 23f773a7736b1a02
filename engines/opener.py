"""The engine and model that were asked for, opened for any size of image by ``open_engine`` of factory.py."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable
from typing import Any, Self

from clesr.engines.common.clock import ASSUMED_FPS
from clesr.engines.common.errors import EngineError
from clesr.engines.common.processor import core_count
from clesr.engines.engine import Engine
from clesr.engines.factory import open_engine
from clesr.engines.interpolation import METHODS
from clesr.engines.models.weights import Model, find_model, shipped
from clesr.engines.trial import BEST, LIGHT, choose_model, clean_only

log = logging.getLogger(__name__)
NAMES = ("scale", "model", "engine", "device", "precision", "threads")


class EngineOpener:
    """Opens an engine for any LR shape (H, W), of a model that it chooses at the first where ``model`` is "auto".

    ``fps`` is the rate that "auto" must hold, None where there is none: then the best model is taken. What was taken
    and why is logged. ``options`` are device, precision and threads, as of ``open_engine``. ``wrap``, where it is set,
    is given each engine and returns what takes its place. Raises what an unknown or damaged model raises.
    """

    wrap: Callable[[Engine], Engine] | None = None

    def __init__(
        self,
        scale: int,
        model: str = "auto",
        engine: str = "auto",
        *,
        fps: float | None = ASSUMED_FPS,
        **options: Any,
    ) -> None:
        self.scale, self.engine, self.fps, self.options = scale, engine, fps, options
        self._asked = model
        self._model: list[Model | str] = []  # the one that was chosen, for those that share cores as well
        self._lock = threading.Lock()  # several streams may open engines side by side
        if model in METHODS:
            self._model.append(model)
        elif model != "auto":
            self._model.append(find_model(model, scale, besides=("auto", *METHODS)))

    @classmethod
    def of(cls, settings: Any, fps: float | None) -> Self:
        """Of ``settings`` with fields that are called as the parameters here."""
        return cls(**{name: getattr(settings, name) for name in NAMES}, fps=fps)

    @property
    def model(self) -> Model | str | None:
        """What is used; None before ``auto`` has chosen."""
        return self._model[0] if self._model else None

    @property
    def given(self) -> dict[str, Any]:
        """What was asked for, as settings have it: scale, model and engine, device, precision and threads."""
        asked = {"scale": self.scale, "model": self._asked, "engine": self.engine, **self.options}
        return {name: asked.get(name) for name in NAMES}

    def switched(self, scale: int, model: str) -> Self:
        """The same for another scale and model, "auto" among them. Raises what an unknown model raises."""
        other = type(self)(scale, model, self.engine, fps=self.fps, **self.options)
        other.wrap = self.wrap
        return other

    def sharing_cores(self, streams: int) -> EngineOpener:
        """The same for engines that compute side by side: each gets its part of the processor's cores."""
        other = copy.copy(self)
        threads = self.options.get("threads") or max(1, core_count() // streams)
        other.options = self.options | {"threads": threads}
        return other

    def __call__(self, shape: tuple[int, int]) -> Engine:
        engine = self._chosen(shape)
        return self.wrap(engine) if self.wrap else engine

    def _chosen(self, shape: tuple[int, int]) -> Engine:
        with self._lock:
            if not self._model and self.fps is None:
                return self._open_best(shape)
            if not self._model:
                self._model.append(choose_model(self.scale, shape, self.fps or ASSUMED_FPS, self._open))
        return self._opened(self._model[0], shape)

    def _open_best(self, shape: tuple[int, int]) -> Engine:
        """The engine of the best model that fits, which is then the one that was chosen."""
        try:
            if (BEST, self.scale) not in shipped():
                raise EngineError(f"{BEST} has no weights for scale {self.scale}")
            model, why = find_model(BEST, self.scale), "the best there is, for a still has no rate to hold"
            if reason := clean_only(model, find_model(LIGHT, self.scale)):
                raise EngineError(reason)
            engine = self._opened(model, shape)
        except EngineError as error:
            model, why = find_model(LIGHT, self.scale), str(error)
            engine = self._opened(model, shape)
        self._model.append(model)
        log.info(f"model {model.name}: {why}")
        return engine

    def _opened(self, model: Model | str, shape: tuple[int, int]) -> Engine:
        engine = self._open(model, shape)
        log.info(engine.info.choice)
        return engine

    def _open(self, model: Model | str, shape: tuple[int, int]) -> Engine:
        return open_engine(self.engine, model, self.scale, shape, **self.options)
