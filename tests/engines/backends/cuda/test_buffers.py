"""The order of frames through slots, with a device that takes its time."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from clesr.engines.backends.cuda import buffers
from clesr.engines.backends.cuda.buffers import CudaSlot, SlotEngine
from clesr.engines.common.errors import EngineError
from clesr.engines.engine import EngineInfo, SelfChecking
from clesr.engines.guidance import Guidance
from clesr.pipeline.frame import Image

SHAPE = (2, 3)


class FakeSlot:
    """Computes 255 - x at ``finish``; ``start`` reads the input as late as a device may."""

    def __init__(self, device: FakeDevice, dtype: np.dtype[Any]) -> None:
        self.device = device
        self.host_in: Image = np.zeros(SHAPE, dtype)
        self.host_out: Image = np.zeros(SHAPE, dtype)
        self.idle, self.closed = threading.Event(), False
        self.idle.set()

    def tell(self, guidance: Guidance) -> None: ...

    def start(self) -> None:
        assert self.idle.is_set(), "started while it is busy"
        self.idle.clear()
        self.device.running.append(self)

    def finish(self) -> None:
        np.subtract(255, self.host_in, out=self.host_out)
        self.idle.set()

    def wait(self) -> None:
        self.device.waits += 1
        while not self.idle.is_set():
            self.device.finish_one()
        if self.host_in.flat[0] == 13:
            raise RuntimeError("the device is unhappy\nwith many lines")

    def close(self) -> None:
        assert self.idle.is_set()
        self.closed = True


class FakeCheckingSlot(FakeSlot):
    """Also halves its input: the image degraded, as far as this test cares."""

    def __init__(self, device: FakeDevice, dtype: np.dtype[Any], *, correcting: bool) -> None:
        super().__init__(device, dtype)
        self.host_reprojected = np.zeros((1 + correcting, *SHAPE), dtype)

    def finish(self) -> None:
        self.host_reprojected[:] = self.host_in // 2
        super().finish()


class FakeDevice:
    def __init__(self) -> None:
        self.running: list[FakeSlot] = []
        self.made: list[FakeSlot] = []
        self.waits = 0

    def make(self, dtype: np.dtype[Any], depth: int) -> Sequence[FakeSlot]:
        slots = [FakeSlot(self, dtype) for _ in range(depth)]
        self.made += slots
        return slots

    def finish_one(self) -> None:
        self.running.pop(0).finish()


def open_on(device: FakeDevice, depth: int = 2) -> SlotEngine:
    info = EngineInfo("fake", "a device", "fp16", "none", "", 1, SHAPE)
    return SlotEngine(info, lambda dtype: device.make(dtype, depth), depth=depth)


def image(value: int, dtype: type = np.uint8) -> Image:
    return np.full(SHAPE, value, dtype)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_results_come_in_order_and_are_the_callers(depth: int) -> None:
    engine, kept = open_on(FakeDevice(), depth), []
    for value in range(depth):
        engine.submit(image(value))
    for value in range(depth, 12):
        kept.append(engine.collect())
        engine.submit(image(value))
    kept += [engine.collect() for _ in range(depth)]
    assert [int(result[0, 0]) for result in kept] == [255 - value for value in range(12)]
    engine.close()


def test_slots_of_another_dtype_make_room_where_memory_does_not_suffice() -> None:
    device = FakeDevice()

    def make(dtype: np.dtype[Any]) -> Sequence[FakeSlot]:
        if sum(not slot.closed for slot in device.made) + 2 > 3:
            raise RuntimeError("CUDA error: out of memory")
        return device.make(dtype, 2)

    engine = SlotEngine(EngineInfo("fake", "a device", "fp16", "none", "", 1, SHAPE), make)
    engine.submit(image(1))
    engine.submit(image(2, np.uint16))
    engine.submit(image(3, np.uint16))
    results = [engine.collect() for _ in range(3)]
    assert [(r.dtype.name, int(r[0, 0])) for r in results] == [
        ("uint8", 254),
        ("uint16", 253),
        ("uint16", 252),
    ]
    assert [slot.closed for slot in device.made] == [True, True, False, False]
    engine.close()
    with pytest.raises(RuntimeError, match="out of memory"):
        SlotEngine(engine.info, lambda dtype: device.make(dtype, 2) and make(dtype)).submit(image(1))


def test_submit_waits_only_when_every_slot_is_busy_and_loses_nothing() -> None:
    device = FakeDevice()
    engine = open_on(device)
    engine.submit(image(1))
    engine.submit(image(2))
    assert device.waits == 0
    engine.submit(image(3))
    assert device.waits == 1
    assert [int(engine.collect()[0, 0]) for _ in range(3)] == [254, 253, 252]
    with pytest.raises(RuntimeError, match="nothing is in flight"):
        engine.collect()


def test_slots_are_made_once_for_each_dtype() -> None:
    device = FakeDevice()
    engine = open_on(device)
    for _ in range(5):
        for dtype in (np.uint8, np.uint16):
            engine.submit(image(7, dtype))
            result = engine.collect()
            assert result.dtype == dtype
            assert result[0, 0] == 248
    assert len(device.made) == 4
    engine.close()
    engine.close()
    assert all(slot.closed for slot in device.made)
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit(image(1))


def test_a_failed_frame_is_raised_where_it_is_collected_and_the_next_goes_on() -> None:
    engine = open_on(FakeDevice())
    for value in (12, 13, 14):
        engine.submit(image(value))
    assert engine.collect()[0, 0] == 243
    with pytest.raises(EngineError, match=r"the fake engine failed on a frame: the device is unhappy$"):
        engine.collect()
    assert engine.collect()[0, 0] == 241


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"opened for \(2, 3\), not \(3, 2\)"):
        open_on(FakeDevice()).submit(np.zeros((3, 2), np.uint8))


def test_closing_with_frames_in_flight_waits_for_the_device() -> None:
    device = FakeDevice()
    engine = open_on(device)
    engine.submit(image(1))
    engine.close()
    assert all(slot.closed for slot in device.made)


def test_what_a_slot_found_of_its_image_goes_with_the_result() -> None:
    """Also of results that were taken out of their slots early, and as copies."""
    device = FakeDevice()
    engine = SlotEngine(
        EngineInfo("fake", "a device", "fp16", "none", "", 1, SHAPE),
        lambda dtype: [FakeCheckingSlot(device, dtype, correcting=engine.correcting) for _ in range(2)],
    )
    assert isinstance(engine, SelfChecking)
    for value in (10, 20, 30):
        engine.submit(image(value))
    kept = []
    for value in (10, 20, 30):
        assert engine.collect()[0, 0] == 255 - value
        kept.append(engine.reprojected)
    assert [[int(reprojected[0, 0]) for reprojected in all_of_it] for all_of_it in kept] == [[5], [10], [15]]
    engine.correct()
    engine.submit(image(40))
    assert engine.collect()[0, 0] == 215
    assert [int(reprojected[0, 0]) for reprojected in engine.reprojected] == [20, 20]
    engine.close()


def test_turning_the_correction_on_makes_the_slots_anew_and_frees_the_old_ones() -> None:
    device = FakeDevice()
    engine = open_on(device)
    engine.prepare(np.dtype(np.uint8))
    engine.correct()
    assert [slot.closed for slot in device.made] == [True, True, False, False]
    engine.submit(image(1))
    assert engine.collect()[0, 0] == 254
    assert engine.reprojected == (), "these slots check nothing"
    engine.close()
    assert all(slot.closed for slot in device.made)


class FakeRuntime:
    """The part of the CUDA runtime that locks pages."""

    def __init__(self) -> None:
        self.locked: dict[int, int] = {}

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:
        pages = set(range(address, address + size, mmap.PAGESIZE))
        held = {page for a, n in self.locked.items() for page in range(a, a + n, mmap.PAGESIZE)}
        assert address % mmap.PAGESIZE == size % mmap.PAGESIZE == flags == 0
        assert not pages & held
        self.locked[address] = size
        return 0

    def cudaHostUnregister(self, address: int) -> int:
        return 0 if self.locked.pop(address, 0) else 713


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    fake = FakeRuntime()
    monkeypatch.setattr(buffers, "_cudart", lambda: fake)
    monkeypatch.setattr(buffers, "pinned", lambda shape, dtype, **_: buffers._RegisteredMemory(shape, dtype))
    return fake


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_small_arrays_are_locked_in_pages_of_their_own(dtype: type, runtime: FakeRuntime) -> None:
    memories = [buffers._RegisteredMemory((33, 47), np.dtype(dtype)) for _ in range(3)]
    for value, memory in enumerate(memories):
        memory.array[:] = value
    assert [int(memory.array[0, 0]) for memory in memories] == [0, 1, 2]
    assert all(memory.array.shape == (33, 47) and memory.array.dtype == dtype for memory in memories)
    memories[0].free()
    memories[0].free()
    assert len(runtime.locked) == 2
    del memory, memories
    assert not runtime.locked, "forgotten memory is unlocked too"


def test_a_slot_that_cannot_be_made_gives_its_memory_back(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stream:
        def wait_stream(self, _other: object) -> None:
            raise RuntimeError("CUDA out of memory")

        def synchronize(self) -> None:
            raise RuntimeError("the device is lost")

    class Network:
        lr, sr = torch.zeros(3, 4, dtype=torch.uint8), torch.zeros(6, 8, dtype=torch.uint8)

        def run(self) -> None:
            raise AssertionError("not reached")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    with pytest.raises(RuntimeError, match="out of memory"):
        CudaSlot(Network())
    assert not runtime.locked
