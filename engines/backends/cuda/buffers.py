"""Frames in flight on a GPU: slots of pinned memory, each with a stream of its own.

Slot A computes while slot B's input is copied in and slot C's output is copied out. The thread that submits and
collects never waits but in ``collect``, and nothing is allocated after the first frame of a dtype.
"""

from __future__ import annotations

import mmap
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from clesr.engines.common.errors import EngineError, on_error
from clesr.engines.common.image import Floats, Image
from clesr.engines.engine import EngineInfo
from clesr.engines.guidance import Guidance, guide
from clesr.engines.memory import free_memory, is_out_of_memory


class GuidedInputs(NamedTuple):
    """What a network reads beside the image: ``numbers`` (n,) float32, which ``pack`` makes of an image's levels on the
    host, and ``trust`` (H, W) uint8."""

    numbers: Tensor
    trust: Tensor
    pack: Callable[[Floats], Floats]


class Network(Protocol):
    """What computes on the device: reads ``lr`` (H, W), writes ``sr`` (sH, sW), integer levels, and allocates nothing
    that outlives ``run``. One that is told of each image has ``guided``, its :class:`GuidedInputs`."""

    lr: Tensor
    sr: Tensor

    def run(self) -> None: ...


class Slot(Protocol):
    """The way of one frame through the device. One that also checks its image has ``host_reprojected`` (n, H, W): what
    :class:`~clesr.engines.engine.SelfChecking` calls ``reprojected``."""

    host_in: Image
    host_out: Image

    def tell(self, guidance: Guidance) -> None:
        """What the network is told of ``host_in``, before ``start``, where it is told anything."""

    def start(self) -> None:
        """Copy ``host_in`` to the device, compute, copy the result to ``host_out``; returns at once."""

    def wait(self) -> None:
        """Until what was started is done. Raises what it raised."""

    def close(self) -> None:
        """Give the memory back."""


DTYPES = {np.dtype(np.uint8): torch.uint8, np.dtype(np.uint16): torch.uint16}

Finished = tuple[Image | BaseException, Sequence[Image]]  # what became of a frame, and its image degraded


class SlotEngine:
    """An :class:`~clesr.engines.engine.Engine` over slots; ``make_slots(dtype)`` makes ``depth`` of them.

    Slots are made at the first frame of a dtype (uint8 or uint16). One thread submits and collects. It is
    :class:`~clesr.engines.engine.SelfChecking` as far as its slots are: they look at ``correcting`` when they are made.
    """

    def __init__(
        self, info: EngineInfo, make_slots: Callable[[np.dtype[Any]], Sequence[Slot]], *, depth: int = 2
    ) -> None:
        self.info, self.depth = info, depth
        self.report: Sequence[str] = ()  # what was chosen for this device, in lines
        self.reprojected: Sequence[Image] = ()
        self.correcting = False
        self._make_slots = make_slots
        self._slots: dict[np.dtype[Any], Sequence[Slot]] = {}
        self._turn = 0
        self._started: deque[Slot] = deque()
        self._done: deque[Finished] = deque()  # results taken out early, to free their slots
        self._closed = False

    def submit(self, lr: Image, guidance: Guidance | None = None) -> None:
        if self._closed:
            raise RuntimeError("the engine is closed")
        self.info.check_shape(lr)
        while len(self._started) >= self.depth:
            self._done.append(self._take_oldest())
        slots = self.prepare(lr.dtype)
        slot = next(s for s in (*slots[self._turn :], *slots[: self._turn]) if s not in self._started)
        self._turn = (slots.index(slot) + 1) % len(slots)
        np.copyto(slot.host_in, lr)
        if self.info.levels:
            slot.tell(guidance or guide(lr))
        slot.start()
        self._started.append(slot)

    def prepare(self, dtype: np.dtype[Any]) -> Sequence[Slot]:
        """The slots for frames of ``dtype``, made where they are not there yet; those of another dtype make room
        for them where the memory does not suffice for both. Raises what making them raised."""
        if dtype not in self._slots:
            try:
                self._slots[dtype] = self._make_slots(dtype)
            except Exception as error:
                if not self._slots or not is_out_of_memory(error):
                    raise
            else:
                return self._slots[dtype]
            while self._started:
                self._done.append(self._take_oldest())
            self._close_slots()
            free_memory()
            self._slots[dtype] = self._make_slots(dtype)
        return self._slots[dtype]

    def collect(self) -> Image:
        if not self._started and not self._done:
            raise RuntimeError("nothing is in flight")
        result, self.reprojected = self._done.popleft() if self._done else self._take_oldest()
        if isinstance(result, BaseException):
            try:
                raise self.info.failed(result) from result
            finally:
                del result  # whose traceback holds these locals, and they would hold it
        return result

    def correct(self) -> None:
        self.correcting = True
        dtypes = list(self._slots)
        self._close_slots()
        for dtype in dtypes:
            self.prepare(dtype)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        while self._started:
            self._take_oldest()
        self._done.clear()
        self._close_slots()

    def _close_slots(self) -> None:
        for slots in self._slots.values():
            for slot in slots:
                slot.close()
        self._slots.clear()

    def _take_oldest(self) -> Finished:
        slot = self._started.popleft()
        try:
            slot.wait()
        except BaseException as error:  # noqa: BLE001 - handed to the caller of collect
            return error, ()
        return slot.host_out.copy(), tuple(image.copy() for image in getattr(slot, "host_reprojected", ()))


class CudaSlot:
    """A slot on the current CUDA device: copy in, ``network``, copy out, ``captured`` in one CUDA graph, or launched
    one by one, to compare."""

    WARM_UPS = 3  # runs before the capture: they compile kernels and settle libraries' choices

    def __init__(self, network: Network, *, captured: bool = True) -> None:
        self._network = network
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._begun, self._ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self._reprojected: Tensor | None = getattr(network, "reprojected", None)
        self._guided: GuidedInputs | None = getattr(network, "guided", None)
        self._levels = np.empty(0, np.float32)
        self._pinned: list[_PycudaMemory | _RegisteredMemory] = []
        with on_error(self.close):
            self._pin()
            self._warm_up()
            self._run: Callable[[], None] = self._captured() if captured else self._frame

    def tell(self, guidance: Guidance) -> None:
        assert self._guided is not None
        np.copyto(self._host_trust, guidance.trust)
        if not np.array_equal(guidance.levels, self._levels):
            np.copyto(self._host_numbers, self._guided.pack(guidance.levels))
            self._levels = guidance.levels.copy()

    def start(self) -> None:
        with torch.cuda.stream(self._stream):
            self._begun.record()
            self._run()
            self._ended.record()

    def wait(self) -> None:
        self._ended.synchronize()

    def milliseconds(self) -> float:
        """What the device took for the frame that was waited for last, from copy in to copy out."""
        return float(self._begun.elapsed_time(self._ended))

    def close(self) -> None:
        self._stream.synchronize()
        while self._pinned:
            self._pinned.pop().free()

    def _pin(self) -> None:
        """The host's side of ``lr``, ``sr`` and ``reprojected``."""
        network = self._network
        dtype = np.dtype(str(network.lr.dtype).removeprefix("torch."))
        self._pinned.append(pinned(tuple(network.lr.shape), dtype, write_only=True))
        self._pinned.append(pinned(tuple(network.sr.shape), dtype))
        if self._reprojected is not None:
            self._pinned.append(pinned(tuple(self._reprojected.shape), dtype))
        self.host_in, self.host_out, *reprojected = (memory.array for memory in self._pinned)
        self._told: list[tuple[Tensor, Tensor]] = []  # on the device, and where it comes from
        if self._guided is not None:
            numbers, trust = self._guided.numbers, self._guided.trust
            self._pinned.append(pinned(tuple(numbers.shape), np.dtype(np.float32), write_only=True))
            self._pinned.append(pinned(tuple(trust.shape), np.dtype(np.uint8), write_only=True))
            self._host_numbers, self._host_trust = (memory.array for memory in self._pinned[-2:])
            self._told = [
                (numbers, torch.from_numpy(self._host_numbers)),
                (trust, torch.from_numpy(self._host_trust)),
            ]
        self.host_reprojected: Sequence[Image] = tuple(reprojected[0]) if reprojected else ()
        self._in, self._out = torch.from_numpy(self.host_in), torch.from_numpy(self.host_out)
        self._out_reprojected = [torch.from_numpy(image) for image in reprojected]

    def _warm_up(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream())  # which has yet to fill what the network reads
        with torch.cuda.stream(self._stream):
            for _ in range(self.WARM_UPS):
                self._frame()
        self._stream.synchronize()

    def _captured(self) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        capturing = torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local")
        with torch.cuda.stream(torch.cuda.current_stream()), capturing:  # which forgets it where it fails
            self._frame()
        return graph.replay

    def _frame(self) -> None:
        self._network.lr.copy_(self._in, non_blocking=True)
        for target, source in self._told:
            target.copy_(source, non_blocking=True)
        self._network.run()
        self._out.copy_(self._network.sr, non_blocking=True)
        for target in self._out_reprojected:
            target.copy_(self._reprojected, non_blocking=True)  # type: ignore[arg-type]


def pinned(
    shape: tuple[int, ...], dtype: np.dtype[Any], *, write_only: bool = False
) -> _PycudaMemory | _RegisteredMemory:
    """Page-locked memory for the current device, ``array`` until ``free``; from pycuda where it is installed, else from
    torch.

    ``write_only`` memory is write-combined where pycuda gives it: faster over the bus, slow to read.
    """
    try:
        return _PycudaMemory(shape, dtype, write_only)
    except ImportError:
        return _RegisteredMemory(shape, dtype)


class _PycudaMemory:
    """pycuda's page-locked memory, made in torch's own (the primary) context."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], write_only: bool) -> None:
        import pycuda.driver as driver

        driver.init()
        torch.cuda.init()  # type: ignore[no-untyped-call]
        self._context = driver.Device(torch.cuda.current_device()).retain_primary_context()
        flags = driver.host_alloc_flags
        self._context.push()
        try:
            self.array: Image = driver.pagelocked_empty(
                shape, dtype, mem_flags=flags.WRITECOMBINED if write_only else 0
            )
        finally:
            self._context.pop()

    def free(self) -> None:
        self._context.push()
        try:
            self.array.base.free()  # type: ignore[union-attr]
        finally:
            self._context.pop()


class _RegisteredMemory:
    """Pages of our own, page-locked in place. torch's own pinned tensors record events, which a capture must not.

    Whole pages: small arrays would share theirs with whatever else lies there, and be locked with it.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        count = int(np.prod(shape))
        pages = mmap.mmap(-1, max(1, count * dtype.itemsize))
        self.array: Image = np.frombuffer(pages, dtype, count).reshape(shape)
        address = self.array.ctypes.data
        _check(_cudart().cudaHostRegister(address, -(-len(pages) // mmap.PAGESIZE) * mmap.PAGESIZE, 0))
        # Pages that went back to the system while they are locked could not be locked again.
        self._unlock = weakref.finalize(self, _unregister, address)
        self._unlock.atexit = False  # the driver's own end may come first

    def free(self) -> None:
        self._unlock()


def _unregister(address: int) -> None:
    _check(_cudart().cudaHostUnregister(address))


def _cudart() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


def _check(status: Any) -> None:
    if int(status) != 0:
        raise EngineError(f"CUDA cannot page-lock memory: {_cudart().cudaGetErrorString(status)}")
