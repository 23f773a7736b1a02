"""More frames than the engine can take: the newest is next, and none waits in the engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from support import FakeEngine, ListSink, ManualClock, ScriptedSource, Step, make_frame, until

from clesr.pipeline.frame import Outcome, PreparedFrame
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.live_engine import LiveEngine
from clesr.pipeline.pipeline import Pipeline

BURST, BURSTS = 10, 8


def overloaded(**options: Any) -> tuple[ListSink, Pipeline, list[FakeEngine]]:
    """A run in which BURST frames come while the engine makes one image."""
    sink, engines, gate = ListSink(policy=Policy.DROP_OLDEST), list[FakeEngine](), threading.Semaphore(0)

    def opened(shape: tuple[int, int]) -> FakeEngine:
        engines.append(FakeEngine(shape, gate=gate, **options))
        return engines[-1]

    def script() -> Iterator[Step]:
        for burst in range(BURSTS):
            yield from (make_frame(BURST * burst + number) for number in range(BURST))
            gate.release()
            until(lambda burst=burst: len(sink.results) > burst)  # type: ignore[misc]
        gate.release(BURST)

    run = Pipeline(ScriptedSource(script(), live=True, shape=(8, 10)), opened, [sink], scale=2)
    run.run()
    run.ledger.check()
    return sink, run, engines


def test_the_newest_frame_is_next_and_none_waits_in_the_engine() -> None:
    sink, run, (engine,) = overloaded()
    numbers = [result.frame.number for result in sink.results]
    newest = [BURST * (burst + 1) - 1 for burst in range(BURSTS)]
    assert numbers[5:BURSTS] == newest[4 : BURSTS - 1]  # it takes a few until the queue has become short
    assert engine.most_in_flight == 1
    assert run.ledger.outcomes[Outcome.STALE] == BURST * BURSTS - len(numbers)


def test_an_image_that_fails_while_the_next_frame_is_taken_fails_its_own_frame() -> None:
    bad = BURST * 6 - 1
    sink, _, engines = overloaded(fails=(bad,))
    failed = [result.frame.number for result in sink.results if result.outcome is Outcome.FAILED]
    assert failed[0] == bad
    assert len(engines) > 1


def test_what_was_waited_for_is_collected_once() -> None:
    live = LiveEngine(FakeEngine, 2, ManualClock())
    frames = [make_frame(number) for number in range(2)]
    live.submit(PreparedFrame(frames[0], frames[0].image, 0))
    live.await_image()
    live.await_image()
    live.submit(PreparedFrame(frames[1], frames[1].image, 0))
    assert [live.collect().frame.number for _ in frames] == [0, 1]
    live.close()
