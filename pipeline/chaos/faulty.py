"""Sources, engines, sinks and disks to which a plan happens. What is not in the plan passes through unchanged."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clesr.engines.common.errors import EngineError
from clesr.engines.common.image import Image
from clesr.engines.degrade import Degrader
from clesr.engines.engine import Engine
from clesr.pipeline.chaos.plan import SLOW_DISK_S, SLOW_S, FaultPlan
from clesr.pipeline.frame import Corrupt, Frame, Outage, Result
from clesr.pipeline.session.folder import RESERVE
from clesr.pipeline.session.video import DurableFile
from clesr.pipeline.sink import Sink
from clesr.pipeline.source import Source, SourceWrapper

WORDS = "a fault on purpose (--chaos)"
EARLY_NS = 10_000_000_000


def _raise(kind: str) -> None:
    if kind == "exception":
        raise RuntimeError(WORDS)
    if kind == "memory":
        raise MemoryError(WORDS)
    if kind == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FaultySource(SourceWrapper):
    """``source``, to which ``plan`` happens."""

    _source: Source

    def __init__(self, source: Source, plan: FaultPlan) -> None:
        self.info = source.info
        self._source, self._plan = source, plan
        self._again: Frame | None = None
        self._away = False

    def read(self, timeout: float) -> Frame | Corrupt | Outage | None:
        self.info = self._source.info
        kind, left = self._plan.present("source")
        if kind == "away":
            return self._missing(timeout)
        if self._away:
            self._away = False
            return Outage(WORDS, known=True)
        if kind == "stall":
            self._plan.wait(min(timeout, left))
            return None
        if kind == "slow":
            self._plan.wait(SLOW_S)
        _raise(kind)
        again, self._again = self._again, None
        item = again or self._source.read(timeout)
        return self._changed(item, kind) if isinstance(item, Frame) else item

    def _missing(self, timeout: float) -> Outage | None:
        """It is unplugged: what it takes meanwhile, nobody sees."""
        if not self._away:
            self._away = True
            return Outage(WORDS, over=False, known=True)
        self._source.read(timeout)
        return None

    def _changed(self, frame: Frame, kind: str) -> Frame | Corrupt:
        if kind == "corrupt":
            return Corrupt(frame.number, frame.time_ns, WORDS)
        if kind == "size":
            height, width = (max(1, side // 2) for side in frame.image.shape)
            return replace(frame, image=np.ascontiguousarray(frame.image[:height, :width]))
        if kind == "time-back":
            return replace(frame, time_ns=frame.time_ns - EARLY_NS)
        if kind == "duplicate":
            self._again = frame
        return frame


class FaultyEngine:
    """``engine``, to which ``plan`` happens; what else the engine offers is there as well."""

    def __init__(self, engine: Engine, plan: FaultPlan) -> None:
        self._engine, self._plan = engine, plan
        self._noise = np.random.default_rng(0)
        self._changed: Image | None = None  # in place of the engine's image

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        if name == "reprojected" and self._changed is not None:
            info = self._engine.info
            return [Degrader(info.lr_shape, info.scale)(self._changed)]
        return found

    def submit(self, lr: Image, *guidance: Any) -> None:
        self._engine.submit(lr, *guidance)

    def collect(self) -> Image:
        kind, left = self._plan.present("engine")
        if kind in ("stall", "slow"):
            self._plan.wait(left if kind == "stall" else SLOW_S)
        image = self._engine.collect()
        if kind == "away":
            raise EngineError(WORDS)
        _raise(kind)
        self._changed = None
        if kind == "corrupt":
            self._changed = np.asarray(self._noise.integers(0, 256, image.shape), image.dtype)
            return self._changed
        return np.ascontiguousarray(image[:-1]) if kind == "size" else image

    def close(self) -> None:
        self._engine.close()


def faulty_engine(engine: Engine, plan: FaultPlan) -> Engine:
    """``engine``, to which ``plan`` happens. Raises EngineError while it is away."""
    if plan.present("engine")[0] == "away":
        engine.close()
        raise EngineError(WORDS)
    return FaultyEngine(engine, plan)


class FaultySink:
    """``sink``, to which ``plan`` happens; what else the sink offers is there as well."""

    def __init__(self, sink: Sink, plan: FaultPlan) -> None:
        self._sink, self._plan = sink, plan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    def write(self, result: Result) -> None:
        kind, left = self._plan.present("sink")
        if kind in ("stall", "slow"):
            self._plan.wait(left if kind == "stall" else SLOW_S)
        _raise(kind)
        self._sink.write(result)

    def close(self) -> str | None:
        return self._sink.close()


@contextmanager
def faulty_disk(plan: FaultPlan) -> Iterator[None]:
    """In the block, ``plan`` happens to the videos of every recording of this process."""

    def before(name: str) -> None:
        kind, left = plan.present("disk")
        if kind in ("stall", "slow"):
            plan.wait(left if kind == "stall" else SLOW_DISK_S)
        elif kind == "folder":
            shutil.rmtree(Path(name).parent, ignore_errors=True)
        elif kind == "exception":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        elif kind == "full" and (Path(name).parent / RESERVE).exists():  # that closing the session takes
            _raise(kind)

    DurableFile.before_writing = before
    try:
        yield
    finally:
        DurableFile.before_writing = None
