"""The engine that the options name, opened where a run needs it."""

from __future__ import annotations

import copy
import logging
import threading
from dataclasses import replace

from clesr.engines.common.errors import EngineError
from clesr.engines.common.processor import core_count
from clesr.engines.engine import Engine
from clesr.engines.factory import open_engine
from clesr.engines.interpolation import METHODS
from clesr.engines.models.weights import Model, find_model, shipped
from clesr.engines.trial import BEST, LIGHT, choose_model
from clesr.pipeline.settings import EngineSettings

log = logging.getLogger(__name__)
ASSUMED_FPS = 25.0  # of a source that does not say


class EngineOpener:
    """Opens the engine that ``settings`` name, for any LR shape; chooses the model at the first.

    ``fps`` is the rate that ``model`` "auto" must hold, None where there is none: then the best model is taken.
    Raises what an unknown or damaged model raises.
    """

    def __init__(self, settings: EngineSettings, fps: float | None = ASSUMED_FPS) -> None:
        self.settings, self.fps = settings, fps
        self._model: list[Model | str] = []  # the one that was chosen, for those that share cores as well
        self._lock = threading.Lock()  # several streams may open engines side by side
        if settings.model in METHODS:
            self._model.append(settings.model)
        elif settings.model != "auto":
            self._model.append(find_model(settings.model, settings.scale, besides=("auto", *METHODS)))

    @property
    def scale(self) -> int:
        return self.settings.scale

    @property
    def model(self) -> Model | str | None:
        """What is used; None before ``auto`` has chosen."""
        return self._model[0] if self._model else None

    def sharing_cores(self, streams: int) -> EngineOpener:
        """The same for engines that compute side by side: each gets its part of the processor's cores."""
        other = copy.copy(self)
        other.settings = replace(
            self.settings, threads=self.settings.threads or max(1, core_count() // streams)
        )
        return other

    def __call__(self, shape: tuple[int, int]) -> Engine:
        with self._lock:
            if not self._model and self.fps is None:
                return self._open_best(shape)
            if not self._model:
                self._model.append(choose_model(self.scale, shape, self.fps or ASSUMED_FPS, self._open))
        return self._explained(self._model[0], shape)

    def _open_best(self, shape: tuple[int, int]) -> Engine:
        """The engine of the best model that fits, which is then the one that was chosen."""
        try:
            if (BEST, self.scale) not in shipped():
                raise EngineError(f"{BEST} has no weights for scale {self.scale}")
            model, why = find_model(BEST, self.scale), "the best there is, for a still has no rate to hold"
            engine = self._explained(model, shape)
        except EngineError as error:
            model, why = find_model(LIGHT, self.scale), str(error)
            engine = self._explained(model, shape)
        self._model.append(model)
        log.info(f"model {model.name}: {why}")
        return engine

    def _explained(self, model: Model | str, shape: tuple[int, int]) -> Engine:
        engine = self._open(model, shape)
        log.info(engine.info.choice)
        return engine

    def _open(self, model: Model | str, shape: tuple[int, int]) -> Engine:
        settings = self.settings
        return open_engine(
            settings.engine,
            model,
            settings.scale,
            shape,
            device=settings.device,
            precision=settings.precision,
            threads=settings.threads,
        )
