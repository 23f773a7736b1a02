"""Frames in flight on a GPU: slots of pinned memory, each with a stream of its own.

Slot A computes while slot B's input is copied in and slot C's output is copied out. The thread that submits and
collects never waits but in ``collect``, and nothing is allocated after the first frame of a dtype.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from clesr.engines.common.errors import EngineError, first_line, on_error
from clesr.engines.common.image import Floats, Image
from clesr.engines.common.packages import version_of
from clesr.engines.engine import EngineInfo
from clesr.engines.guidance import Guidance, guide
from clesr.engines.memory import free_memory, is_out_of_memory

log = logging.getLogger(__name__)
REPEATS = 20  # runs in a graph that is timed


class GuidedInputs(NamedTuple):
    """What a network reads beside the image: ``numbers`` (n,) float32, which ``pack`` makes of an image's levels on the
    host, and ``trust`` (H, W) uint8."""

    numbers: Tensor
    trust: Tensor
    pack: Callable[[Floats], Floats]

    @classmethod
    def of(cls, shape: tuple[int, int], levels: int, device: torch.device | str) -> GuidedInputs:
        """Of a network that takes the levels as they are, for LR images of ``shape``."""
        trust = torch.full(shape, 255, dtype=torch.uint8, device=device)
        return cls(torch.zeros(levels, device=device), trust, lambda told: told)


class Network(Protocol):
    """What computes on the device: reads ``lr`` (H, W), writes ``sr`` (sH, sW), integer levels, and ``status`` (1,)
    int32, which is 0 where all pixels were finite numbers. It allocates nothing that outlives ``run``.

    One that is told of each image has ``guided``, its :class:`GuidedInputs`; one that uses what a capture may refuse
    has ``simplify``, which leaves it out from then on and says whether there was any; one whose ``run`` does more than
    the network has ``parts``, what it does by name, the network's as ``device``.
    """

    lr: Tensor
    sr: Tensor
    status: Tensor

    def run(self) -> None: ...


def store(levels: Tensor, network: Network) -> None:
    """Write ``levels`` (sH, sW) FP32, which is used up, to ``network``'s image, rounded, halves to even, and to its
    status whether they are finite."""
    network.status.copy_(torch.isfinite(levels.sum()).logical_not())
    network.sr.copy_(levels.round_().clamp_(0, torch.iinfo(network.sr.dtype).max))


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
        self._network, self._captured = network, captured
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._begun, self._ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self._reprojected: Tensor | None = getattr(network, "reprojected", None)
        self._guided: GuidedInputs | None = getattr(network, "guided", None)
        self._levels = np.empty(0, np.float32)
        self._pinned: list[Pinned] = []
        self._inputs: list[tuple[Tensor, Tensor]] = []  # on the device and on the host
        self._outputs: list[tuple[Tensor, Tensor]] = []
        with on_error(self.close):
            self._pin()
            self._warm_up()
            self._run: Callable[[], object] = self._capture() if captured else self._frame

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
        """Raises EngineError where the network's image is not finite."""
        self._ended.synchronize()
        if self._host_status[0]:
            raise EngineError("the network's output is not finite")

    def milliseconds(self) -> float:
        """What the device took for the frame that was waited for last, from copy in to copy out."""
        return float(self._begun.elapsed_time(self._ended))

    def close(self) -> None:
        try:
            self._stream.synchronize()
        finally:
            while self._pinned:
                self._pinned.pop().free()

    def _pin(self) -> None:
        """The host's side of all that goes to the device and comes back."""
        network = self._network

        def onto_host(tensor: Tensor, *, write_only: bool = False) -> Image:
            self._pinned.append(pinned(tensor, write_only=write_only))
            (self._inputs if write_only else self._outputs).append((tensor, self._pinned[-1].tensor))
            return self._pinned[-1].array

        self.host_in = onto_host(network.lr, write_only=True)
        self.host_out = onto_host(network.sr)
        self._host_status = onto_host(network.status)
        self.host_reprojected: Sequence[Image] = ()
        if self._reprojected is not None:
            self.host_reprojected = tuple(onto_host(self._reprojected))
        if self._guided is not None:
            self._host_numbers = onto_host(self._guided.numbers, write_only=True)
            self._host_trust = onto_host(self._guided.trust, write_only=True)

    def _warm_up(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream())  # which has yet to fill what the network reads
        with torch.cuda.stream(self._stream):
            for _ in range(self.WARM_UPS):
                self._frame()
        self._stream.synchronize()

    def _capture(self) -> Callable[[], object]:
        try:
            return captured(self._frame, self._stream).replay
        except RuntimeError as error:
            simplify: Callable[[], bool] | None = getattr(self._network, "simplify", None)
            if simplify is None or not simplify():
                raise
            log.warning(f"kernels do not start early: their capture failed: {first_line(error)}")
        self._warm_up()
        return captured(self._frame, self._stream).replay

    def parts(self) -> dict[str, Callable[[], None]]:
        """What a frame has the device do, by name, to be timed one by one: ``device``, the network; ``check``, where it
        degrades its image; ``copies``, in and out. Nothing where they are not in a graph: there launches count."""
        if not self._captured:
            return {}
        return {**getattr(self._network, "parts", {"device": self._network.run}), "copies": self._copy}

    def _frame(self) -> None:
        self._copy_in()
        self._network.run()
        self._copy_out()

    def _copy(self) -> None:
        self._copy_in()
        self._copy_out()

    def _copy_in(self) -> None:
        for tensor, host in self._inputs:
            tensor.copy_(host, non_blocking=True)

    def _copy_out(self) -> None:
        for tensor, host in self._outputs:
            host.copy_(tensor, non_blocking=True)


def captured(run: Callable[[], None], stream: torch.cuda.Stream | None = None) -> torch.cuda.CUDAGraph:
    """``run``, which ran before, as a CUDA graph, captured on ``stream`` or one of torch's own."""
    graph = torch.cuda.CUDAGraph()
    capturing = torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")
    with torch.cuda.stream(torch.cuda.current_stream()), capturing:  # which forgets it where it fails
        run()
    return graph


def timed_on_card(run: Callable[[], object]) -> Callable[[], float]:
    """What gives the seconds of a ``run`` on the current GPU, by a graph of several, with what it reads in the
    second-level cache, as in a frame."""
    run()
    torch.cuda.synchronize()
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def several() -> None:
        for _ in range(REPEATS):
            run()

    graph = captured(several)

    def seconds() -> float:
        begun.record()
        graph.replay()
        ended.record()
        ended.synchronize()
        return float(begun.elapsed_time(ended)) / 1e3 / REPEATS

    return seconds


class Pinned(NamedTuple):
    """Page-locked memory until ``free``: the same as a NumPy array and as a tensor."""

    array: Image
    tensor: Tensor
    free: Callable[[], object]


def page_locked_memory() -> str:
    """Whose page-locked memory slots use, in words."""
    version = version_of("pycuda")
    return f"pycuda {version}, write-combined for inputs" if version else "torch"


def pinned(like: Tensor, *, write_only: bool = False) -> Pinned:
    """Page-locked memory of the shape and dtype of ``like``: pycuda's where it is installed, else torch's.

    ``write_only`` memory is write-combined where it is pycuda's: faster over the bus, slow to read. Raises EngineError
    where pycuda is installed and cannot be loaded.
    """
    if not version_of("pycuda"):
        tensor = torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
        return Pinned(tensor.numpy(), tensor, lambda: None)
    try:
        import pycuda.driver as driver
    except ImportError as error:
        raise EngineError(
            f"pycuda cannot be loaded ({first_line(error)}); repair it, or `pip uninstall pycuda` for torch's memory"
        ) from error
    driver.init()
    torch.cuda.init()  # type: ignore[no-untyped-call]
    context = driver.Device(torch.cuda.current_device()).retain_primary_context()  # torch's own
    flags = driver.host_alloc_flags.WRITECOMBINED if write_only else 0
    dtype = np.dtype(str(like.dtype).removeprefix("torch."))

    def within(call: Callable[[], Any]) -> Any:
        context.push()
        try:
            return call()
        finally:
            context.pop()

    array = within(lambda: driver.pagelocked_empty(tuple(like.shape), dtype, mem_flags=flags))
    return Pinned(array, torch.from_numpy(array), lambda: within(array.base.free))
