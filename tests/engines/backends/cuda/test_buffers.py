"""The order of frames through slots, with a device that takes its time."""

from __future__ import annotations

import contextlib
import sys
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clesr.engines.backends.cuda import buffers
from clesr.engines.backends.cuda.buffers import CudaSlot, Pinned, SlotEngine
from clesr.engines.backends.cuda.checked import CheckedNetwork
from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import EngineError
from clesr.engines.engine import EngineInfo, SelfChecking
from clesr.engines.guidance import Guidance
from clesr.pipeline.frame import Image
from clesr.tools.bench import turns

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


class Stream:
    def wait_stream(self, _other: object) -> None: ...

    def synchronize(self) -> None: ...


class Graph:
    """Notes what it stands for, and does it again."""

    def __init__(self) -> None:
        self.run: Callable[[], None] = lambda: None

    def replay(self) -> None:
        self.run()


class Locked:
    """The fake device's page-locked memory."""

    def __init__(self) -> None:
        self.held = 0

    def pinned(self, like: Tensor, *, write_only: bool = False) -> Pinned:
        self.held += 1
        tensor = torch.zeros_like(like)
        return Pinned(tensor.numpy(), tensor, self.free)

    def free(self) -> None:
        self.held -= 1


class Network:
    """Doubles levels; ``broken`` sets its status. A capture fails while it starts ``early``."""

    capturing = False

    def __init__(self, *, early: bool = False) -> None:
        self.lr, self.sr = torch.zeros(2, 3, dtype=torch.uint8), torch.zeros(2, 3, dtype=torch.uint8)
        self.status = torch.zeros(1, dtype=torch.int32)
        self.early, self.broken = early, False

    def simplify(self) -> bool:
        was, self.early = self.early, False
        return was

    def run(self) -> None:
        if self.early and self.capturing:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        self.sr.copy_(2 * self.lr)
        self.status.fill_(self.broken)


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Locked:
    """torch.cuda as far as a slot uses it, without a card."""
    memory = Locked()
    event = types.SimpleNamespace(record=lambda: None, synchronize=lambda: None)
    monkeypatch.setattr(buffers, "pinned", memory.pinned)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: contextlib.nullcontext())

    def captured(run: Callable[[], None], stream: object) -> Graph:
        with monkeypatch.context() as patched:
            patched.setattr(Network, "capturing", True)
            run()
        graph = Graph()
        graph.run = run
        return graph

    monkeypatch.setattr(buffers, "captured", captured)
    return memory


@pytest.mark.parametrize("early", [False, True])
def test_a_slot_opens_though_the_capture_of_early_starts_fails(
    early: bool, locked: Locked, caplog: pytest.LogCaptureFixture
) -> None:
    network = Network(early=early)
    slot = CudaSlot(CheckedNetwork(network))
    assert not network.early
    assert ("kernels do not start early: their capture failed" in caplog.text) == early
    slot.host_in[:] = 7
    slot.start()
    slot.wait()
    assert (slot.host_out == 14).all()
    slot.close()
    assert locked.held == 0


def test_a_capture_that_fails_for_another_reason_is_told(locked: Locked) -> None:
    network = Network(early=True)
    network.simplify = lambda: False  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        CudaSlot(network)
    assert locked.held == 0


def test_an_image_that_is_not_finite_is_an_error_and_the_next_is_not(locked: Locked) -> None:
    """In order, through the engine."""
    networks = [Network(), Network()]
    info = EngineInfo("fake", "a device", "fp16", "none", "", 1, SHAPE)
    engine = SlotEngine(info, lambda _dtype: [CudaSlot(CheckedNetwork(network)) for network in networks])
    engine.prepare(np.dtype(np.uint8))
    networks[1].broken = True
    for value in (1, 2):
        engine.submit(image(value))
    assert engine.collect()[0, 0] == 2
    with pytest.raises(
        EngineError, match="the fake engine failed on a frame: the network's output is not finite"
    ):
        engine.collect()
    networks[1].broken = False
    for value in (3, 4):
        engine.submit(image(value))
    assert [int(engine.collect()[0, 0]) for _ in range(2)] == [6, 8]
    engine.close()
    assert locked.held == 0


def test_a_slot_that_cannot_be_made_gives_its_memory_back(
    locked: Locked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait_stream(_self: Stream, _other: object) -> None:
        raise RuntimeError("CUDA out of memory")

    def synchronize(_self: Stream) -> None:
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(Stream, "wait_stream", wait_stream)
    monkeypatch.setattr(Stream, "synchronize", synchronize)
    with pytest.raises(RuntimeError, match="out of memory"):
        CudaSlot(Network())
    assert locked.held == 0


class FakePycuda:
    """pycuda's page-locked memory, and the contexts that were entered and left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.flags: list[int] = []
        self.held = self.entered = 0
        context = types.SimpleNamespace(push=lambda: self._enter(1), pop=lambda: self._enter(-1))
        device = types.SimpleNamespace(retain_primary_context=lambda: context)
        driver = types.ModuleType("pycuda.driver")
        driver.init = lambda: None  # type: ignore[attr-defined]
        driver.Device = lambda _index: device  # type: ignore[attr-defined]
        driver.host_alloc_flags = types.SimpleNamespace(WRITECOMBINED=4)  # type: ignore[attr-defined]
        driver.pagelocked_empty = self._allocate  # type: ignore[attr-defined]
        package = types.ModuleType("pycuda")
        package.driver = driver  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
        monkeypatch.setattr(torch.cuda, "init", lambda: None)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)

    def _enter(self, change: int) -> None:
        self.entered += change

    def _allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any], *, mem_flags: int) -> Image:
        assert self.entered == 1
        self.flags.append(mem_flags)
        self.held += 1
        fake = self

        class Base(np.ndarray):
            def free(self) -> None:
                assert fake.entered == 1
                fake.held -= 1

        return np.zeros(int(np.prod(shape)), dtype).view(Base).reshape(shape)


def test_pycuda_gives_the_memory_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "version_of", lambda name: "2026.1" if name == "pycuda" else "")
    assert buffers.page_locked_memory() == "pycuda 2026.1, write-combined for inputs"
    fake = FakePycuda(monkeypatch)
    like = torch.zeros(3, 4, dtype=torch.uint16)
    memories = [buffers.pinned(like, write_only=True), buffers.pinned(like)]
    assert fake.flags == [4, 0]
    for memory in memories:
        assert memory.array.shape == (3, 4)
        assert memory.array.dtype == np.uint16
        memory.array[:] = 9
        assert (memory.tensor.int() == 9).all()
        memory.free()
    assert fake.held == fake.entered == 0


def test_pycuda_that_cannot_be_loaded_is_an_error_and_not_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(buffers, "version_of", lambda _name: "2026.1")
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(EngineError, match=r"pycuda cannot be loaded \(.*pip uninstall pycuda"):
        buffers.pinned(torch.zeros(1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.int32])
def test_torch_gives_the_memory_otherwise(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    empty = torch.empty

    def noting(shape: torch.Size, **options: Any) -> Tensor:
        asked.update(options)
        return empty(shape, dtype=options["dtype"])

    monkeypatch.setattr(buffers, "version_of", lambda _name: "")
    monkeypatch.setattr(torch, "empty", noting)
    memory = buffers.pinned(torch.zeros(3, 4, dtype=dtype), write_only=True)
    assert asked == {"dtype": dtype, "pin_memory": True}
    memory.array[:] = 5
    assert (memory.tensor.float() == 5).all()
    assert buffers.page_locked_memory() == "torch"


def test_the_parts_of_a_frame_are_measured_each_alone(
    locked: Locked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part does what it is called after and nothing else; the launch is what is left of a whole frame."""
    network = Network()
    info = EngineInfo("fake", "a device", "fp16", "none", "", 1, SHAPE)
    engine = SlotEngine(info, lambda _dtype: [CudaSlot(CheckedNetwork(network)) for _ in range(2)])
    (slot, _) = engine.prepare(np.dtype(np.uint8))
    assert isinstance(slot, CudaSlot)
    parts = slot.parts()
    assert list(parts) == ["device", "check", "copies"]
    outside = [network.lr, network.sr, torch.from_numpy(slot.host_out)]
    for name, changed in (("copies", 0), ("device", 1), ("copies", 2)):
        slot.host_in[:] = 7
        before = [tensor.clone() for tensor in outside]
        parts[name]()
        assert [not torch.equal(*pair) for pair in zip(before, outside, strict=True)].index(True) == changed
    parts["check"]()
    assert slot._network.reprojected.min() == 14  # type: ignore[attr-defined]

    seconds = dict(zip(parts.values(), (3e-3, 2e-3, 1e-3), strict=True))
    monkeypatch.setattr(turns, "timed_on_card", lambda run: lambda: seconds[run])
    lr = np.zeros(SHAPE, np.uint8)
    monkeypatch.setattr(CudaSlot, "milliseconds", lambda _slot: 6.5)
    spans = turns.by_device(engine, lr, 0.0, SYSTEM)
    assert spans == {
        name: [pytest.approx(ms * 1e-3)] for name, ms in zip([*parts, "launch"], (3, 2, 1, 0.5), strict=True)
    }
    assert CudaSlot(network, captured=False).parts() == {}
    assert turns.by_device(open_on(FakeDevice()), lr, 0.0, SYSTEM) == {}
    engine.close()
