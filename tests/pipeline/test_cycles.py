"""Runs one after the other in one process: what a run had is free as soon as nobody holds it, without the garbage
collector."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from recordings import drifting, write_video
from support import FakeEngine, ListSink, ScriptedSource, Step, make_frame, until

from clesr.engines.common.errors import SinkError, SourceError
from clesr.engines.factory import open_engine
from clesr.engines.isolation.engine import IsolatedOpener
from clesr.pipeline.frame import Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.sharing import shared
from clesr.pipeline.sinks.registry import open_sink
from clesr.pipeline.sources.registry import open_source
from clesr.pipeline.status import Status

SHAPE = (48, 48)
linux_only = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc, which is Linux")


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Screen(ListSink):
    def refresh(self, status: Status) -> bool:
        return True


def cut() -> None:
    raise SourceError("cable cut")


def cycle(kind: str = "well", frames: int = 8) -> list[weakref.ref[object]]:
    """One run; weak references to all that it was made of."""
    engines: list[weakref.ref[object]] = []

    def factory(shape: tuple[int, int]) -> FakeEngine:
        engine = FakeEngine(shape, fails=(3,) if kind == "engine fails" else ())
        engines.append(weakref.ref(engine))
        return engine

    def write(_result: Result) -> None:
        if kind == "sink breaks":
            raise SinkError("gone")

    steps: list[Step] = [make_frame(i, SHAPE) for i in range(frames)]
    if kind == "source breaks":
        steps.append(cut)
    source = ScriptedSource(steps, live=kind == "live", shape=SHAPE)
    sinks = [
        ListSink(on_write=write),
        ListSink(name="other"),
        Screen(name="screen", policy=Policy.DROP_OLDEST),
    ]
    engine = shared(factory, 2) if kind == "shared" else factory
    run = Pipeline(source, engine, sinks, scale=2)
    if kind in ("sink breaks", "source breaks"):
        with pytest.raises((SinkError, SourceError)):
            run.run()
    else:
        run.run()
    return [*(weakref.ref(part) for part in (run, source, *sinks)), *engines]


@pytest.mark.parametrize("kind", ["well", "live", "shared", "engine fails", "sink breaks", "source breaks"])
def test_nothing_of_a_run_is_kept(no_collector: None, kind: str) -> None:
    before = threading.active_count()
    references = cycle(kind)
    assert threading.active_count() == before
    kept = [reference() for reference in references]
    assert len(kept) >= 6
    assert kept == [None] * len(kept)


@linux_only
def test_fifty_runs_leave_no_thread_and_no_handle(no_collector: None) -> None:
    cycle()
    before = held()
    for _ in range(50):
        cycle()
    until(lambda: not more(before))


def record(video: Path, folder: Path) -> None:
    """A run as a user's is: a video, a network in OpenVINO, a recorder."""
    source = open_source(str(video), pace="max")
    recorder = Recorder(source.info, scale=2)
    engine = partial(open_engine, "auto", "fast", 2)
    run = Pipeline(source, engine, [open_sink("null")], scale=2, recorder=recorder)
    run.start_recording(folder)
    assert run.run().captured == 3
    shutil.rmtree(folder)


@pytest.mark.slow
@linux_only
def test_a_thousand_runs_keep_memory_threads_and_handles_flat() -> None:
    keeps_flat(lambda: cycle(frames=2), 1000)


@pytest.mark.slow
@linux_only
@pytest.mark.timeout(1800)
def test_recordings_with_a_network_keep_memory_threads_and_handles_flat(tmp_path: Path) -> None:
    """``CLESR_CYCLES`` says how many."""
    video = tmp_path / "in.mkv"
    write_video(video, drifting(3))
    keeps_flat(partial(record, video, tmp_path / "session"), int(os.environ.get("CLESR_CYCLES", "40")))


def isolate(folder: Path) -> None:
    """A run whose engine is in a process of its own, with a spare one beside it."""
    opener = IsolatedOpener(2, "nearest")
    source = ScriptedSource([make_frame(i, SHAPE) for i in range(3)], shape=SHAPE)
    recorder = Recorder(source.info, scale=2)
    run = Pipeline(source, opener, [ListSink()], scale=2, recorder=recorder)
    run.start_recording(folder)
    assert run.run().captured == 3
    shutil.rmtree(folder)


@pytest.mark.slow
@linux_only
def test_runs_with_an_isolated_engine_leave_no_process_and_no_shared_memory(tmp_path: Path) -> None:
    keeps_flat(partial(isolate, tmp_path / "session"), int(os.environ.get("CLESR_ISOLATED_CYCLES", "5")))


def keeps_flat(run: Callable[[], object], count: int) -> None:
    """``run`` again and again, after a quarter as often to warm up."""
    for _ in range(count // 4):
        run()
    before, memory = held(), resident()
    for _ in range(count):
        run()
    until(lambda: not more(before))
    assert resident() <= 1.05 * memory


def held() -> tuple[int, ...]:
    """Threads, handles, processes that were started, and mappings of shared memory."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    shared = [line for line in maps if "/dev/shm/" in line or "/memfd:" in line]
    threads, handles = os.listdir("/proc/self/task"), os.listdir("/proc/self/fd")
    return len(threads), len(handles), len(children()), len(shared)


def children() -> list[str]:
    """The processes that this one has started and that are still there."""
    files = Path("/proc/self/task").glob("*/children")
    return [pid for file in files for pid in file.read_text().split()]


def more(before: tuple[int, ...]) -> bool:
    """Whether there are more than ``before``, when a thread that had ended may still have been counted."""
    return any(now > then for now, then in zip(held(), before, strict=True))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])
