"""An engine in a process of its own: the same images, and no harm to others when it hangs or dies."""

from __future__ import annotations

import errno
import inspect
import logging
import os
import pickle
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heard import hear
from support import until
from waits import joined

from clesr.engines.common.clock import SYSTEM, SystemClock
from clesr.engines.common.errors import EngineError, WeightsError
from clesr.engines.guidance import guide
from clesr.engines.isolation import engine as engine_module
from clesr.engines.isolation import process as process_module
from clesr.engines.isolation.engine import EngineProcess, IsolatedEngine, IsolatedOpener
from clesr.engines.isolation.messages import Said
from clesr.engines.opener import EngineOpener
from clesr.engines.results import run_frame
from clesr.pipeline import live_engine
from clesr.pipeline.frame import Frame, Image, Outcome
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.live_engine import WORKED_S
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.prepare import IntensityWindow, Prepare
from clesr.pipeline.session.manifest import RecorderSettings
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.verify import verify
from clesr.pipeline.source import SourceInfo

SHAPE = (32, 40)
BACK_S = 3.0  # until images of the engine's own are shown again, on a quiet machine
NEAREST: dict[str, Any] = {"scale": 2, "model": "nearest", "engine": "auto"}


def picture(seed: int = 0, dtype: type = np.uint8) -> Image:
    made: Image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, SHAPE).astype(dtype)
    return made


@pytest.fixture
def engine() -> Iterator[IsolatedEngine]:
    made = IsolatedEngine(EngineProcess(), NEAREST, SHAPE, frame_s=0.5)
    yield made
    made.close()


def test_images_are_those_of_the_engine_itself(engine: IsolatedEngine) -> None:
    for dtype in (np.uint8, np.uint16):
        for seed in range(3):
            image = picture(seed, dtype)
            engine.submit(image)
            made = engine.collect()
            assert made.dtype == dtype
            assert np.array_equal(made, image.repeat(2, 0).repeat(2, 1))
            assert made.flags.owndata


def test_frames_in_flight_come_in_order_and_keep_their_images(engine: IsolatedEngine) -> None:
    images = [picture(seed) for seed in range(20)]
    made = []
    for number, image in enumerate(images):
        if number >= engine.depth:
            made.append(engine.collect())
        engine.submit(image)
    made += [engine.collect() for _ in range(engine.depth)]
    assert all(np.array_equal(m[::2, ::2], image) for m, image in zip(made, images, strict=True))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_dies_is_an_error_of_its_frame(engine: IsolatedEngine, number: int) -> None:
    engine.submit(picture())
    os.kill(engine.pid, number)
    with pytest.raises(EngineError, match=f"ended by signal {number}"):
        engine.collect()


def test_a_process_that_hangs_is_killed(engine: IsolatedEngine) -> None:
    for _ in range(2):
        engine.submit(picture())
        engine.collect()
    engine.submit(picture())
    os.kill(engine.pid, signal.SIGSTOP)
    with pytest.raises(EngineError, match=r"has not answered for \S+ s and was killed"):
        engine.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(engine.pid, 0)


def test_a_process_that_never_opens_its_engine_is_killed() -> None:
    process = EngineProcess()
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(EngineError, match="has not answered for 0 s and was killed"):
        IsolatedEngine(process, NEAREST, SHAPE, open_s=0.1)
    assert not process.alive


def test_one_that_hangs_on_its_first_frame_is_killed() -> None:
    made = IsolatedEngine(EngineProcess(), NEAREST, SHAPE, first_s=0.4)
    os.kill(made.pid, signal.SIGSTOP)
    made.submit(picture())
    with pytest.raises(EngineError, match="has not answered for 0 s and was killed"):
        made.collect()
    assert not made._process.alive
    made.close()


def test_the_first_frame_says_nothing_of_how_long_others_may_take() -> None:
    """It may be seconds of compiling: others that hang are not waited for five times as long."""

    class Compiling(SystemClock):
        times = iter(int(seconds * 1e9) for seconds in (0, 10, 10, 10.01, 10.01, 10.02))

        def now_ns(self) -> int:
            return next(self.times)

    made = IsolatedEngine(EngineProcess(), NEAREST, SHAPE, frame_s=0.6, clock=Compiling())
    for _ in range(2):
        made.submit(picture())
        made.collect()
    made.submit(picture())
    os.kill(made.pid, signal.SIGSTOP)
    with pytest.raises(EngineError, match="has not answered for 1 s"):
        made.collect()
    made.close()


@pytest.mark.parametrize("pause_s", [0.02, 0.0], ids=["now and then", "without a pause"])
def test_a_process_that_only_talks_does_not_answer(pause_s: float) -> None:
    process, said, stop = EngineProcess(), hear(), threading.Event()
    process._connection.close()
    process._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    message = pickle.dumps(Said("clesr.engines.opener", logging.WARNING, "still at it"))

    def talk() -> None:
        with suppress(OSError):
            while not stop.wait(pause_s):
                theirs.send(message)

    talking = threading.Thread(target=talk)
    talking.start()
    try:
        with pytest.raises(EngineError, match="has not answered for 1 s and was killed"):
            process.answer(0.6, told_s=0.3)
    finally:
        stop.set()
        process.close()
        joined(talking)
        theirs.close()
    assert "still at it" in said
    assert not pause_s or "the engine's process has not answered for 0 s; it is killed after 1 s" in said


def test_an_engine_that_hangs_when_opened_ends_no_live_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are bicubic, marked, until it is killed and the next one is open."""
    monkeypatch.setattr(engine_module, "OPEN_S", 1.5)
    monkeypatch.setattr(live_engine, "BEGIN_S", 0.1)

    class Hanging(IsolatedOpener):
        taken = 0

        def _take_process(self) -> EngineProcess:
            self.taken += 1
            process = super()._take_process()
            if self.taken == 1:
                os.kill(process.pid, signal.SIGSTOP)
            return process

        def _chosen(self, shape: tuple[int, int]) -> Any:
            if self.taken:
                monkeypatch.setattr(engine_module, "OPEN_S", 60.0)
            return super()._chosen(shape)

    opener, said = Hanging(2, "nearest", "auto"), hear()
    seen, upscaled = list[Any](), threading.Event()

    class Screen(Views):
        def write(self, result: Any) -> None:
            seen.append(result)
            if result.outcome is Outcome.UPSCALED:
                upscaled.set()

    run = Pipeline(Clockwork(), opener, [Screen()], scale=2, prepare=Prepare(window=IntensityWindow("full")))
    thread = threading.Thread(target=run.run)
    thread.start()
    try:
        until(lambda: bool(seen))
        first = seen[0]
        assert upscaled.wait(60)
    finally:
        run.stop()
        joined(thread)
    assert first.outcome is Outcome.FAILED
    assert first.reason == live_engine.OPENING
    assert opener.taken == 2
    assert any("has not answered for 2 s and was killed" in line and "tried again" in line for line in said)


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="this system has no such policy")
def test_a_spare_process_works_as_any_once_it_is_needed_without_rights_to_say_so() -> None:
    process = EngineProcess(spare=True)
    made = IsolatedEngine(process, NEAREST, SHAPE)
    try:
        assert os.sched_getscheduler(process.pid) == os.SCHED_OTHER
    finally:
        made.close()
    text = Path(inspect.getfile(process_module)).read_text()
    assert "SCHED_OTHER" not in text, "which takes rights that a service does not have"


def test_an_interrupt_of_the_whole_service_is_not_for_the_engine(engine: IsolatedEngine) -> None:
    os.kill(engine.pid, signal.SIGINT)
    engine.submit(picture())
    assert engine.collect().shape == (64, 80)


@pytest.mark.slow
def test_a_spare_process_that_died_is_not_taken() -> None:
    opener = IsolatedOpener(2, "nearest", "auto")
    opener(SHAPE).close()
    (spare,) = opener._spare
    os.kill(spare.pid, signal.SIGKILL)
    until(lambda: not spare.alive)
    engine = opener(SHAPE)
    assert np.array_equal(run_frame(engine, picture()), picture().repeat(2, 0).repeat(2, 1))
    engine.close()


def test_what_opening_raises_comes_through_as_it_is() -> None:
    with pytest.raises(WeightsError, match=r"missing\.safetensors"):
        IsolatedEngine(EngineProcess(), NEAREST | {"model": "missing.safetensors"}, SHAPE)


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    engine = IsolatedEngine(EngineProcess(), NEAREST, SHAPE)
    pid = engine.pid
    engine.close()
    engine.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_a_network_is_told_of_its_frames_as_without() -> None:
    arguments: dict[str, Any] = {"scale": 2, "model": "fast", "engine": "torch", "threads": 1}
    opener = IsolatedOpener(**arguments)
    isolated, plain = opener(SHAPE), EngineOpener(**arguments)(SHAPE)
    try:
        assert isolated.info == plain.info
        for seed in range(3):
            image = picture(seed)
            for guidance in (None, guide(image)):
                assert np.array_equal(run_frame(isolated, image, guidance), run_frame(plain, image, guidance))
    finally:
        isolated.close()
        plain.close()


class Clockwork:
    """25 frames a second of noise, for ever."""

    def __init__(self) -> None:
        self.info = SourceInfo("clockwork", True, 25.0, SHAPE)
        self.number, self._due_ns = 0, SYSTEM.now_ns()

    def read(self, timeout: float) -> Frame | None:
        self._due_ns = max(self._due_ns + 40_000_000, SYSTEM.now_ns() - 200_000_000)
        SYSTEM.sleep_until(self._due_ns)
        self.number += 1
        return Frame(picture(self.number % 50), self.number - 1, self._due_ns)

    def close(self) -> None:
        pass


class Views:
    """When the last image of the engine's own was shown, in seconds of the clock."""

    name = "views"

    def __init__(self) -> None:
        self.policy = Policy.DROP_OLDEST
        self.seen = threading.Event()

    def write(self, result: Any) -> None:
        if result.outcome is Outcome.UPSCALED:
            self.seen.set()

    def close(self) -> None:
        pass


@pytest.mark.slow
def test_killed_at_random_it_is_back_each_time_and_raw_is_complete(tmp_path: Path) -> None:
    engines: list[IsolatedEngine] = []
    opener = IsolatedOpener(2, "fast", "torch", threads=1)

    def opened(shape: tuple[int, int]) -> Any:
        engines.append(opener(shape))  # type: ignore[arg-type]
        return engines[-1]

    source, views, chance = Clockwork(), Views(), random.Random(1)
    recorder = Recorder(source.info, scale=2, settings=RecorderSettings())
    run = Pipeline(
        source, opened, [views], scale=2, prepare=Prepare(window=IntensityWindow("full")), recorder=recorder
    )
    run.start_recording(tmp_path / "s")
    thread = threading.Thread(target=run.run)
    thread.start()
    waits = []
    for _ in range(5):
        views.seen.clear()
        assert views.seen.wait(60)
        time.sleep(
            chance.uniform(WORKED_S, WORKED_S + 0.3)
        )  # else it fails again and again, and is waited for
        views.seen.clear()
        count = len(engines)
        os.kill(engines[-1].pid, signal.SIGKILL)
        begin = time.monotonic()
        until(lambda count=count: len(engines) > count)  # type: ignore[misc]
        assert views.seen.wait(60)
        waits.append(time.monotonic() - begin)
    run.stop()
    thread.join(60)
    assert not thread.is_alive()
    print(f"back after {sorted(waits)[2]:.2f} s as a median, {max(waits):.2f} s at most")
    certificate = verify(tmp_path / "s")
    assert certificate.problems == ()
    assert certificate.totals["raw"] == run.ledger.captured
    assert run.ledger.outcomes[Outcome.FAILED] >= 5, "the view went on meanwhile"


@pytest.mark.parametrize(
    ("module", "name", "works"),
    [(os, "memfd_create", 3), (socket, "socketpair", 0), (subprocess, "Popen", 0)],
)
def test_a_process_for_which_no_handles_are_left_is_an_error_that_leaves_none(
    module: Any, name: str, works: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``name`` works that many times, then there are none."""
    used, real, times = len(os.listdir("/proc/self/fd")), getattr(module, name), iter(range(works))

    def scarce(*arguments: Any, **options: Any) -> Any:
        if next(times, None) is None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(*arguments, **options)

    monkeypatch.setattr(module, name, scarce)
    with pytest.raises(EngineError, match=r"^the engine's process cannot be started: Too many open files$"):
        EngineProcess(spare=True)
    assert len(os.listdir("/proc/self/fd")) == used
