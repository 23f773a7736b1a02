"""One turn of an engine: frames one at a time, frames in flight, frames by the device's own clock."""

from __future__ import annotations

import numpy as np

from clesr.engines.backends.cuda.buffers import CudaSlot, SlotEngine, timed_on_card
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


def by_device(engine: Engine, lr: Pixels, seconds: float, clock: Clock) -> dict[str, list[float]]:
    """What the device takes for a frame, in seconds, by its own clock, for about ``seconds``.

    ``device`` is the network alone, ``check`` what degrades its image, ``copies`` the way in and out: of each the mean
    of several runs in a graph. ``launch`` is what a frame takes on top of these, from an idle device to its end. Empty
    where the engine has no slots on a GPU, or launches kernels one by one. Nothing may be in flight.
    """
    if not isinstance(engine, SlotEngine):
        return {}
    slot = next((slot for slot in engine.prepare(lr.dtype) if isinstance(slot, CudaSlot)), None)
    if slot is None or not (parts := slot.parts()):
        return {}
    np.copyto(slot.host_in, lr)
    slot.start()  # the device has the image
    slot.wait()
    clocks = {name: timed_on_card(run) for name, run in parts.items()}
    spans: dict[str, list[float]] = {name: [] for name in (*clocks, "launch")}
    begin = clock.now_ns()
    while not spans["launch"] or (clock.now_ns() - begin) / 1e9 < seconds:
        found = {name: measured() for name, measured in clocks.items()}
        slot.start()
        slot.wait()
        found["launch"] = max(0.0, slot.milliseconds() / 1e3 - sum(found.values()))
        for name, span in found.items():
            spans[name].append(span)
    return spans


def upscaled(engine: Engine, lr: Pixels) -> Pixels:
    """One frame."""
    return np.asarray(run_frame(engine, lr), np.uint8)
