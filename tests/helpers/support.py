"""Stand-ins for sources, engines and sinks whose every move a test decides."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import EndOfSource, EngineError
from clesr.engines.engine import EngineInfo
from clesr.pipeline.frame import Corrupt, Frame, Image, Outage, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.source import SourceInfo

NOW_NS = 3 * 10**12  # when the clocks of tests begin; what tests stamp themselves lies before


class ManualClock:
    """Time that moves when it is slept on, or by ``advance``."""

    def __init__(self, now_ns: int = NOW_NS) -> None:
        self.time_ns = now_ns
        self._lock = threading.Lock()

    def now_ns(self) -> int:
        with self._lock:
            return self.time_ns

    def sleep_until(self, time_ns: int) -> None:
        with self._lock:
            self.time_ns = max(self.time_ns, time_ns)

    def advance(self, seconds: float) -> None:
        with self._lock:
            self.time_ns += int(seconds * 1e9)


class ShiftedClock:
    """The machine's clock, but not from the machine's boot on: it was ``now_ns`` when this was made."""

    def __init__(self, now_ns: int = NOW_NS) -> None:
        self._shift = now_ns - SYSTEM.now_ns()

    def now_ns(self) -> int:
        return SYSTEM.now_ns() + self._shift

    def sleep_until(self, time_ns: int) -> None:
        SYSTEM.sleep_until(time_ns - self._shift)


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until ``condition`` holds; fails where it does not within so many seconds."""
    tick = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        tick.wait(0.01)
    pytest.fail("nothing happened")


def make_frame(
    number: int, shape: tuple[int, int] = (8, 10), dtype: type = np.uint8, time_ns: int = 0
) -> Frame:
    image: Image = np.full(shape, number % 251, dtype)
    return Frame(image, number, time_ns)


Step = Frame | Corrupt | Outage | None | Exception | Callable[[], object]


class ScriptedSource:
    """Gives what the script says: items (frames stamped by ``clock`` where they have no time), None for a silent while,
    exceptions to raise, functions to call."""

    def __init__(
        self,
        script: Iterable[Step],
        *,
        live: bool = False,
        fps: float | None = 25.0,
        shape: tuple[int, int] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.info = SourceInfo("scripted", live, fps, shape)
        self._clock = clock
        self._script = iter(script)
        self.closed = 0

    def read(self, timeout: float) -> Frame | Corrupt | Outage | None:
        for step in self._script:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Outage):
                return step
            if isinstance(step, Frame | Corrupt):
                return step if step.time_ns else replace(step, time_ns=self._clock.now_ns())
            if step is None:
                return None
            step()
        raise EndOfSource

    def close(self) -> None:
        self.closed += 1


class FakeEngine:
    """Repeats every pixel ``scale`` times. Raises on the frames whose value is in ``fails``; ``gate``, where
    given, must be released once a frame before it can be collected."""

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        scale: int = 2,
        depth: int = 2,
        fails: Sequence[int] = (),
        gate: threading.Semaphore | None = None,
    ) -> None:
        self.info = EngineInfo("fake", "nothing", "integer", "fake", "", scale, shape)
        self.depth, self.fails, self.gate = depth, fails, gate
        self._in_flight: deque[Image] = deque()
        self.most_in_flight = 0
        self.closed = False

    def submit(self, lr: Image) -> None:
        assert lr.shape == self.info.lr_shape
        assert not self.closed
        assert len(self._in_flight) < self.depth
        self._in_flight.append(lr)
        self.most_in_flight = max(self.most_in_flight, len(self._in_flight))

    def collect(self) -> Image:
        if self.gate is not None:
            assert self.gate.acquire(timeout=20)
        lr = self._in_flight.popleft()
        if int(lr[0, 0]) in self.fails:
            raise EngineError(f"told to fail on {lr[0, 0]}")
        return np.repeat(np.repeat(lr, self.info.scale, 0), self.info.scale, 1)

    def close(self) -> None:
        self.closed = True


@dataclass
class ListSink:
    """Keeps every result; ``on_write`` is called first and may wait or raise."""

    name: str = "list"
    policy: Policy = Policy.BLOCK
    on_write: Callable[[Result], None] | None = None
    results: list[Result] = field(default_factory=list)
    closed: int = 0

    def write(self, result: Result) -> None:
        if self.on_write is not None:
            self.on_write(result)
        self.results.append(result)

    def close(self) -> str | None:
        self.closed += 1
        return f"{len(self.results)} results"
