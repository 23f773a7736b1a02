"""What a sink that a person looks at is told of the run, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from support import ManualClock, make_frame, until
from window_scenes import LIVE

from clesr.engines.common.errors import SinkError
from clesr.pipeline.frame import Outcome, Result, Times
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.sink_worker import SinkWorker
from clesr.pipeline.status import State, Status, is_old

MS = 1_000_000


class Shown:
    """A sink that keeps what it is told."""

    name = "shown"
    policy = Policy.DROP_OLDEST

    def __init__(self) -> None:
        self.told: list[Status] = []

    def write(self, result: Result) -> None: ...

    def refresh(self, status: Status) -> bool:
        self.told.append(status)
        return True

    def close(self) -> str | None:
        return None


class Run:
    """A run whose status is ``now``; how often it was asked."""

    def __init__(self, now: Callable[[], Status]) -> None:
        self.now, self.asked = now, 0

    def status(self) -> Status:
        self.asked += 1
        return self.now()

    def stop(self) -> None: ...

    def broke(self, worker: SinkWorker) -> None: ...


def watched(now: Callable[[], Status] = lambda: LIVE) -> tuple[ManualClock, Shown, Run, SinkWorker]:
    clock, sink = ManualClock(), Shown()
    return clock, sink, Run(now), SinkWorker(sink, clock=clock)


def result(captured_ns: int) -> Result:
    frame = make_frame(0)
    return Result(frame, frame.image, frame.image, Outcome.UPSCALED, 2, Times(captured_ns, 0, 0, 0), "")


def test_a_run_is_asked_for_its_status_some_times_a_second_however_often_a_sink_is_refreshed() -> None:
    """To make one costs the engine's cores; figures that are half a second old are no live ones."""
    clock, sink, run, worker = watched()
    for _ in range(500):
        clock.advance(0.02)
        worker._refresh(sink, run)
    assert 40 <= run.asked <= 200, "in ten seconds"


def test_between_two_statuses_an_image_gets_older_and_the_next_one_is_as_new_as_it_is() -> None:
    clock, sink, run, worker = watched()
    for _ in range(2):
        worker.queue.put(result(clock.now_ns() - 45 * MS))
        worker._feed()
        for _ in range(2):
            worker._refresh(sink, run)
            clock.advance(0.02)
    assert run.asked == 1
    assert [told.age_ns for told in sink.told] == [45 * MS, 65 * MS, 45 * MS, 65 * MS]


def test_the_first_image_after_a_hiccup_is_not_told_as_an_old_one() -> None:
    stalled = True
    clock, sink, run, worker = watched(lambda: replace(LIVE, stalled=stalled))
    worker.queue.put(result(clock.now_ns() - 3_000 * MS))
    worker._feed()
    worker._refresh(sink, run)
    assert is_old(sink.told[-1])
    stalled = False
    clock.advance(0.01)
    worker.queue.put(result(clock.now_ns() - 45 * MS))
    worker._feed()
    worker._refresh(sink, run)
    assert not is_old(sink.told[-1])


def test_a_sink_is_refreshed_until_it_is_closed_though_no_frame_comes_any_more() -> None:
    """A window stays open behind the end of its source, and answers."""
    _, sink, run, worker = watched()
    worker.queue.close()
    worker.start(run)
    assert worker.fed.wait(20)
    until(lambda: len(sink.told) >= 2)
    worker.close()
    assert worker.wait_closed(20)
    assert worker.error is None


class Broken(Shown):
    """A view that breaks with its first result, and can do nothing right any more."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[Status] = []

    def write(self, result: Result) -> None:
        raise SinkError("the screen is gone")

    def tell(self, status: Status) -> None:
        self.said.append(status)
        raise SinkError("it is still gone")


def test_a_view_that_broke_is_told_so_until_it_is_closed_and_counts_one_error() -> None:
    sink, run = Broken(), Run(lambda: LIVE)
    worker = SinkWorker(sink)
    worker.start(run)
    worker.queue.put(result(0))
    until(lambda: len(sink.said) >= 2)
    told = len(sink.told)
    worker.close()
    until(lambda: worker.wait_closed(0.1))
    assert {(status.state, status.message) for status in sink.said} == {(State.FAILED, "the screen is gone")}
    assert worker.errors == 1
    assert len(sink.told) == told, "it is refreshed no more"
