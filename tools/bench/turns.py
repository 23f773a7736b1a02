"""One turn of an engine: frames one at a time, frames in flight, frames by the device's own clock."""

from __future__ import annotations

import numpy as np

from clesr.engines.backends.cuda.buffers import CudaSlot, SlotEngine
from clesr.engines.common.clock import Clock
from clesr.engines.common.image import Pixels
from clesr.engines.engine import Engine
from clesr.engines.results import collect_checked, run_frame


def one_at_a_time(engine: Engine, lr: Pixels, seconds: float, clock: Clock) -> list[float]:
    """Seconds of each frame from NumPy array to NumPy array, for about ``seconds``; at least one frame."""
    spans: list[float] = []
    begin = clock.now_ns()
    while True:
        start = clock.now_ns()
        run_frame(engine, lr)
        now = clock.now_ns()
        spans.append((now - start) / 1e9)
        if (now - begin) / 1e9 >= seconds:
            return spans


def in_flight(engine: Engine, lr: Pixels, seconds: float, clock: Clock) -> float:
    """Frames a second with ``engine.depth`` in flight, between the first result and the last; at least two results
    more than are in flight."""
    for _ in range(engine.depth):
        engine.submit(lr)
    collect_checked(engine, lr, engine.info.scale)
    first = now = clock.now_ns()
    results = 0
    while results <= engine.depth or (now - first) / 1e9 < seconds:
        engine.submit(lr)
        collect_checked(engine, lr, engine.info.scale)
        now = clock.now_ns()
        results += 1
    for _ in range(engine.depth - 1):
        collect_checked(engine, lr, engine.info.scale)
    return results / max((now - first) / 1e9, 1e-9)


def by_device(engine: Engine, lr: Pixels, seconds: float, clock: Clock) -> list[float]:
    """Seconds of each frame on the device, copies and all, by CUDA events, for about ``seconds``; none where the engine
    has no such slots. Nothing may be in flight."""
    if not isinstance(engine, SlotEngine):
        return []
    slots = [slot for slot in engine.prepare(lr.dtype) if isinstance(slot, CudaSlot)]
    spans: list[float] = []
    begin = clock.now_ns()
    while slots and (not spans or (clock.now_ns() - begin) / 1e9 < seconds):
        slot = slots[len(spans) % len(slots)]
        np.copyto(slot.host_in, lr)
        slot.start()
        slot.wait()
        spans.append(slot.milliseconds() / 1e3)
    return spans


def upscaled(engine: Engine, lr: Pixels) -> Pixels:
    """One frame."""
    return np.asarray(run_frame(engine, lr), np.uint8)
