"""What every engine promises, on the worker that they share."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from waits import joined

from clesr.engines.common.errors import EngineError
from clesr.engines.engine import EngineInfo
from clesr.engines.worker import WorkerEngine
from clesr.pipeline.frame import Image

INFO = EngineInfo("fake", "a test", "fp32", "double", "", 2, (2, 3))
LONG = 20.0  # seconds that only a failing test waits


def image(value: int) -> Image:
    return np.full(INFO.lr_shape, value, np.uint8)


class Gate:
    """Computes twice the image, once it is let through."""

    def __init__(self) -> None:
        self.permits = threading.Semaphore(0)
        self.started = threading.Semaphore(0)
        self.threads: set[str] = set()

    def __call__(self, lr: Image) -> Image:
        self.started.release()
        assert self.permits.acquire(timeout=LONG)
        self.threads.add(threading.current_thread().name)
        if lr[0, 0] == 13:
            raise ValueError("thirteen\nsecond line")
        doubled: Image = lr * np.uint8(2)
        return doubled


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def engine(gate: Gate) -> Iterator[WorkerEngine]:
    engine = WorkerEngine(INFO, gate)
    yield engine
    gate.permits.release(10)
    engine.close()


def test_results_come_in_order_from_one_thread(gate: Gate, engine: WorkerEngine) -> None:
    assert engine.depth == 2
    engine.submit(image(1))
    engine.submit(image(2))  # returns though nothing is computed yet
    gate.permits.release(3)
    assert engine.collect()[0, 0] == 2
    engine.submit(image(3))
    assert [engine.collect()[0, 0] for _ in range(2)] == [4, 6]
    assert gate.threads == {"engine fake"}


def test_submit_waits_while_depth_are_in_flight(gate: Gate, engine: WorkerEngine) -> None:
    engine.submit(image(1))
    engine.submit(image(2))
    entered, done = threading.Event(), threading.Event()

    def third() -> None:
        entered.set()
        engine.submit(image(3))
        done.set()

    thread = threading.Thread(target=third)
    thread.start()
    assert entered.wait(LONG)
    gate.permits.release(3)
    assert gate.started.acquire(timeout=LONG)
    assert gate.started.acquire(timeout=LONG)  # both are computed or being so, and still nothing is collected
    assert not done.is_set()
    assert engine.collect()[0, 0] == 2
    assert done.wait(LONG)
    assert [engine.collect()[0, 0] for _ in range(2)] == [4, 6]
    joined(thread)


def test_a_failure_comes_out_for_its_frame_alone(gate: Gate, engine: WorkerEngine) -> None:
    gate.permits.release(3)
    engine.submit(image(13))
    engine.submit(image(2))
    with pytest.raises(EngineError, match=r"^the fake engine failed on a frame: thirteen$") as caught:
        engine.collect()
    assert isinstance(caught.value.__cause__, ValueError)
    assert engine.collect()[0, 0] == 4
    engine.submit(image(5))
    assert engine.collect()[0, 0] == 10


def test_misuse_is_refused(engine: WorkerEngine) -> None:
    with pytest.raises(RuntimeError, match="nothing is in flight"):
        engine.collect()
    with pytest.raises(ValueError, match=r"opened for \(2, 3\), not \(3, 2\)"):
        engine.submit(np.zeros((3, 2), np.uint8))


def test_close_drops_frames_in_flight_and_may_be_called_twice(gate: Gate) -> None:
    released: list[bool] = []
    engine = WorkerEngine(INFO, gate, release=lambda: released.append(True))
    engine.submit(image(1))
    engine.submit(image(2))
    assert gate.started.acquire(timeout=LONG)
    gate.permits.release(1)
    engine.close()
    engine.close()
    assert released == [True]
    assert not gate.started.acquire(blocking=False)  # the second frame was never begun
    assert "engine fake" not in {thread.name for thread in threading.enumerate()}
    for use in (engine.collect, lambda: engine.submit(image(1))):
        with pytest.raises(RuntimeError, match=r"closed|nothing is in flight"):
            use()


def test_close_wakes_a_waiting_submit(gate: Gate) -> None:
    engine = WorkerEngine(INFO, gate)
    engine.submit(image(1))
    engine.submit(image(2))
    raised: list[Exception] = []
    entered = threading.Event()

    def third() -> None:
        entered.set()
        try:
            engine.submit(image(3))
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=third)
    thread.start()
    assert entered.wait(LONG)
    gate.permits.release(3)
    engine.close()
    thread.join(LONG)
    assert [str(error) for error in raised] == ["the engine is closed"]


@pytest.mark.parametrize(
    ("words", "shown"), [("\none\ntwo", "one"), ("", "ValueError"), (" \n", "ValueError")]
)
def test_a_failure_is_one_line_and_never_empty(words: str, shown: str) -> None:
    assert str(INFO.failed(ValueError(words))) == f"the fake engine failed on a frame: {shown}"
