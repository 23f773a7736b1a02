"""A closed engine is gone: memory and threads come back without the garbage collector."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from random_models import SMALL_DENSENET, random_image, random_model
from support import FakeEngine, ManualClock

from clesr.engines.backends.cuda.buffers import SlotEngine
from clesr.engines.backends.openvino.engine import open_openvino
from clesr.engines.backends.torch import open_torch
from clesr.engines.common.errors import EngineError
from clesr.engines.engine import Engine, EngineInfo
from clesr.engines.factory import open_engine
from clesr.engines.guidance import Guidance
from clesr.engines.interpolation import open_interpolation
from clesr.engines.results import run_frame
from clesr.engines.tiles import Grid, in_tiles
from clesr.engines.worker import WorkerEngine
from clesr.pipeline.frame import Frame, Image, PreparedFrame
from clesr.pipeline.live_engine import LiveEngine

SHAPE = (40, 48)
GRID = Grid(SHAPE, 2, 2, halo=4)
FAST = random_model("fast", 2, channels=4, depth=2)
DENSENET = random_model("densenet", 2, **SMALL_DENSENET)


def broken(shape: tuple[int, int]) -> WorkerEngine:
    """Raises on every frame."""

    def compute(_lr: Image) -> Image:
        raise ValueError("no")

    return WorkerEngine(EngineInfo("fake", "a test", "fp32", "none", "", 2, shape), compute)


class HostSlot:
    """Repeats pixels; raises at the second frame."""

    def __init__(self, dtype: np.dtype[np.generic]) -> None:
        self.host_in: Image = np.zeros(SHAPE, dtype)
        self.host_out: Image = np.zeros((2 * SHAPE[0], 2 * SHAPE[1]), dtype)
        self._uses = 0

    def tell(self, guidance: Guidance) -> None: ...

    def start(self) -> None:
        self.host_out[...] = self.host_in.repeat(2, 0).repeat(2, 1)

    def wait(self) -> None:
        self._uses += 1
        if self._uses == 2:
            raise RuntimeError("the device is unhappy")

    def close(self) -> None: ...


def open_slots() -> SlotEngine:
    info = EngineInfo("slots", "a test", "fp32", "none", "", 2, SHAPE)
    return SlotEngine(info, lambda dtype: [HostSlot(dtype)], depth=1)


ENGINES: dict[str, Callable[[], Engine]] = {
    "torch": lambda: open_torch(FAST, SHAPE, None, device="cpu"),
    "openvino": lambda: open_openvino(FAST, SHAPE, None, device="cpu", precision="fp32"),
    "openvino, densenet": lambda: open_openvino(DENSENET, SHAPE, None, device="cpu", precision="fp32"),
    "interpolation": lambda: open_interpolation("bicubic", 2, SHAPE),
    "tiles": lambda: in_tiles(open_interpolation("bicubic", 2, GRID.tile), GRID),
    "slots": open_slots,
    "auto": lambda: open_engine("auto", FAST, 2, SHAPE),
    "broken": lambda: broken(SHAPE),
    "broken tiles": lambda: in_tiles(broken(GRID.tile), GRID),
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def use(engine: Engine) -> list[weakref.ref[object]]:
    """Three frames through ``engine``, closed then; it and what it holds."""
    lr = random_image(SHAPE)
    for _ in range(3):
        with suppress(EngineError):
            run_frame(engine, lr)
    held = [weakref.ref[object](engine)]
    for part in vars(engine).values():
        if not isinstance(part, type(lambda: 0)):  # which the module holds
            with suppress(TypeError):
                held.append(weakref.ref(part))
    engine.close()
    return held


def use_up_scaled(make: Callable[[], Engine], *, consistent: bool = True) -> list[weakref.ref[object]]:
    """The same by an Upscaler, which goes on living; with what it had made for the engine."""
    upscaler = LiveEngine(lambda _shape: make(), 2, ManualClock(), consistent=consistent)
    upscaler.open(SHAPE)
    held = [weakref.ref[object](upscaler.engine), weakref.ref[object](upscaler._check)]
    for number in range(3):
        image = random_image(SHAPE)
        upscaler.submit(PreparedFrame(Frame(image, number, 0), image, 0))
        upscaler.drain()
    upscaler.close()
    assert upscaler.info is not None
    return held if not upscaler._in_flight and not upscaler._ready and upscaler.engine is None else []


@pytest.mark.slow
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("name", ENGINES)
def test_a_closed_engine_and_all_it_held_are_gone(name: str) -> None:
    use(ENGINES[name]())  # what is kept for good is made
    held = use(ENGINES[name]())
    assert len(held) > 1
    assert [part() for part in held if part() is not None] == []


@pytest.mark.parametrize("name", ["torch", "slots", "tiles", "broken"])
@pytest.mark.usefixtures("no_collector")
def test_an_upscaler_that_is_closed_holds_nothing_of_its_size(name: str) -> None:
    held = use_up_scaled(ENGINES[name])
    assert held
    assert [part() for part in held if part() is not None] == []


@pytest.mark.usefixtures("no_collector")
def test_an_engine_that_was_refused_is_gone() -> None:
    def lying(_shape: tuple[int, int]) -> Engine:
        engine = FakeEngine(SHAPE, scale=4)
        made.append(weakref.ref(engine))
        return engine

    made: list[weakref.ref[FakeEngine]] = []
    upscaler = LiveEngine(lying, 2, ManualClock())
    for _ in range(2):
        with pytest.raises(EngineError):
            upscaler.open(SHAPE)
    assert made[0]() is None


def threads() -> int:
    """Of the process, those of libraries too."""
    return (
        len(os.listdir("/proc/self/task")) if Path("/proc/self/task").is_dir() else threading.active_count()
    )


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("name", ["torch", "openvino", "interpolation", "tiles", "slots"])
def test_threads_do_not_grow(name: str) -> None:
    before = threading.active_count()
    for _ in range(2):
        use(ENGINES[name]())
    assert threading.active_count() == before
    few = threads()
    for _ in range(6):
        use(ENGINES[name]())
    assert threads() <= few + 4  # a pool of a library may be starting or ending
    assert threading.active_count() == before


def resident() -> float:
    """MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="this system does not tell a process's memory"
)
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_150_openings_leave_memory_and_threads_as_they_were(kind: str) -> None:
    """Of five sizes in turn: compiled kernels of some hundred sizes are kept by oneDNN, and no more."""

    def once(number: int) -> None:
        shape = (40 + 3 * (number % 5), 48)
        if kind == "torch":
            engine = open_torch(FAST, shape, None, device="cpu")
        else:
            engine = open_openvino(FAST, shape, None, device="cpu", precision="fp32")
        run_frame(engine, random_image(shape))
        engine.close()

    for number in range(50):
        once(number)
    memory, running = resident(), threads()
    for number in range(150):
        once(number)
    assert resident() < 1.05 * memory
    assert threads() <= running + 4
