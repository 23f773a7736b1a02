"""Engines whose every millisecond a test decides."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from random_models import random_image, random_model
from support import ManualClock

from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError
from clesr.engines.engine import Engine, EngineInfo
from clesr.engines.models.weights import Model
from clesr.engines.reference import reference_image
from clesr.pipeline.frame import Image
from clesr.tools.bench.measure import BenchPlan, Case

MODEL = random_model("fast", 2, channels=4, depth=2)
SHAPE = (12, 16)


class TimedEngine:
    """The reference's image, ``off`` levels brighter, after ``host`` seconds on the host and ``device`` seconds on a
    device that computes one frame at a time. Raises on the frames numbered ``fails``."""

    def __init__(
        self,
        model: Model,
        shape: tuple[int, int],
        clock: ManualClock,
        host: float,
        device: float,
        off: int,
        fails: range,
    ) -> None:
        self.info = EngineInfo("timed", "a device", "fp16", model.name, model.sha256, model.scale, shape)
        self.depth = 2
        self.closed = 0
        self._clock, self._host, self._device, self._off, self._fails = clock, host, device, off, fails
        self._made = reference_image(model.module, random_image(shape))
        self._ready: deque[int] = deque()
        self._free = self._number = 0

    def submit(self, lr: Image) -> None:
        assert len(self._ready) < self.depth
        self._clock.advance(self._host)
        self._free = max(self._free, self._clock.now_ns()) + round(self._device * 1e9)
        self._ready.append(self._free)

    def collect(self) -> Image:
        self._clock.sleep_until(self._ready.popleft())
        self._number += 1
        if self._number in self._fails:
            raise EngineError("told to fail")
        brighter: Image = np.clip(self._made.astype(int) + self._off, 0, 255).astype(np.uint8)
        return brighter

    def close(self) -> None:
        self.closed += 1


class Bench:
    """A bench on a clock of its own: ``offer`` makes engines, which it keeps."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.plan = BenchPlan(seconds=1.0, repeats=3, clock=self.clock)
        self.case = Case(MODEL, SHAPE)
        lr = random_image(SHAPE).astype(np.uint8)
        self.pair = lr, reference_image(MODEL.module, lr).astype(np.uint8)
        self.made: dict[str, TimedEngine] = {}

    def candidate(
        self,
        name: str,
        host: float = 0.0,
        device: float = 0.01,
        *,
        off: int = 0,
        fails: range = range(0),
        kind: str = "cuda",
        **more: Any,
    ) -> EngineCandidate:
        def opened(model: Model, shape: tuple[int, int], threads: int | None) -> Engine:
            self.made[name] = TimedEngine(model, shape, self.clock, host, device, off, fails)
            return self.made[name]

        fields: dict[str, Any] = {"device": "a device", "precision": "fp16", "rank": 1, "open": opened} | more
        return EngineCandidate(name=name, kind=kind, **fields)
