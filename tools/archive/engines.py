"""Engines that stay open from one piece to the next."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from clesr.engines.engine import Engine
from clesr.pipeline.frame import Image
from clesr.pipeline.settings import PATIENCE_FPS, EngineSettings
from clesr.tools.archive.settings import Settings
from clesr.tools.common.engines import EngineOpener

KEPT = 2  # sizes whose engines stay open


class EngineShelf:
    """Lends engines by LR shape; called as a pipeline's engine factory. One at a time is lent."""

    def __init__(self, settings: Settings, tell: Callable[[str], None]) -> None:
        wanted = EngineSettings(
            scale=settings.scale,
            model=settings.model,
            engine=settings.engine,
            device=settings.device,
            precision=settings.precision,
            threads=settings.threads,
        )
        self.opener = EngineOpener(wanted, PATIENCE_FPS, tell)
        self.shape = (0, 0)
        self.described = ""
        self._engines: OrderedDict[tuple[int, int], Engine] = OrderedDict()

    def __call__(self, shape: tuple[int, int]) -> Engine:
        if shape not in self._engines:
            while len(self._engines) >= KEPT:
                self._engines.popitem(last=False)[1].close()
            self._engines[shape] = self.opener(shape)
        self._engines.move_to_end(shape)
        engine = self._engines[shape]
        self.shape, self.described = shape, str(engine.info)
        return Lent(engine, lambda: self._drop(shape))

    def close(self) -> None:
        while self._engines:
            self._engines.popitem()[1].close()

    def _drop(self, shape: tuple[int, int]) -> None:
        engine = self._engines.pop(shape, None)
        if engine is not None:
            engine.close()


class Lent:
    """``engine``, which closing gives back, or drops where it has failed or still holds frames."""

    def __init__(self, engine: Engine, drop: Callable[[], None]) -> None:
        self.info, self.depth = engine.info, engine.depth
        self._engine, self._drop = engine, drop
        self._in_flight, self._failed = 0, False

    def submit(self, lr: Image) -> None:
        try:
            self._engine.submit(lr)
        except BaseException:
            self._failed = True
            raise
        self._in_flight += 1

    def collect(self) -> Image:
        try:
            image = self._engine.collect()
        except BaseException:
            self._failed = True
            raise
        self._in_flight -= 1
        return image

    def close(self) -> None:
        if self._failed or self._in_flight:
            self._drop()
