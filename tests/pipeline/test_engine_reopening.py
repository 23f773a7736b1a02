"""An engine that failed is opened again while the view goes on with bicubic images, after growing waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from heard import hear
from support import FakeEngine, ListSink, ManualClock, ScriptedSource, Step, make_frame, until
from waits import joined

from clesr.engines.common.errors import EngineError
from clesr.engines.common.resample import quantise, resize
from clesr.pipeline.frame import Outcome, PreparedFrame, Result
from clesr.pipeline.live_engine import OPENING, RETRY_S, WORKED_S, LiveEngine
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.status import State, Status

FAULTY = 3  # the frame on which the first engine fails
SHAPE = (8, 10)


class Opener:
    """Opens an engine that fails on frame FAULTY, then sound ones when ``gate`` is open."""

    def __init__(self) -> None:
        self.gate, self.opened = threading.Event(), list[FakeEngine]()
        self.asked = threading.Event()  # to open another

    def __call__(self, shape: tuple[int, int]) -> FakeEngine:
        if self.opened:
            self.asked.set()
            assert self.gate.wait(60)
        self.opened.append(FakeEngine(shape, fails=() if self.opened else (FAULTY,)))
        return self.opened[-1]


@pytest.fixture
def opener() -> Iterator[Opener]:
    made = Opener()
    yield made
    made.gate.set()


def live_run(
    opener: Opener, follow: Callable[[Pipeline, ListSink], Iterator[Step]]
) -> tuple[Pipeline, ListSink]:
    """A live stream through the engines of ``opener``, of whose frames each comes when the one before is shown, as long
    as ``follow`` lets them."""
    sink, run = ListSink(), list[Pipeline]()

    def script() -> Iterator[Step]:
        for number, _ in enumerate(follow(run[0], sink)):
            yield make_frame(number)
            until(lambda number=number: len(sink.results) > number)  # type: ignore[misc]

    run.append(Pipeline(ScriptedSource(script(), live=True, shape=SHAPE), opener, [sink], scale=2))
    return run[0], sink


def test_frames_are_bicubic_and_marked_while_the_engine_is_opened_again(opener: Opener) -> None:
    seen, said = list[Status](), hear()

    def follow(run: Pipeline, sink: ListSink) -> Iterator[None]:
        yield from [None] * 12
        assert opener.asked.wait(60)
        seen.append(run.status())
        opener.gate.set()
        while sink.results[-1].outcome is not Outcome.UPSCALED:
            yield None
        yield from [None] * 3
        seen.append(run.status())

    run, sink = live_run(opener, follow)
    run.run()
    run.ledger.check()
    outcomes = [result.outcome for result in sink.results]
    back = outcomes.index(Outcome.UPSCALED, FAULTY)
    assert outcomes == [Outcome.UPSCALED] * FAULTY + [Outcome.FAILED] * (back - FAULTY) + [
        Outcome.UPSCALED
    ] * (len(outcomes) - back)
    assert back >= 12, "as long as it was being opened"
    for result in sink.results[FAULTY:back]:
        assert np.array_equal(result.image, quantise(resize(result.lr, 16, 20), result.lr.dtype))
        assert "told to fail" in result.reason
    assert [status.state for status in seen] == [State.DEGRADED, State.RUNNING]
    assert [status.engine_restarts for status in seen] == [0, 1]
    assert run.status().engine_restarts == 1, "also when it has ended"
    assert "told to fail" in seen[0].message
    assert [line for line in said if line.startswith("the engine")] == [
        f"the engine failed (told to fail on {FAULTY}); bicubic images, marked, until it is back",
        "the engine is back",
    ]
    assert [engine.closed for engine in opener.opened] == [True, True]


def test_a_run_ends_although_its_engine_is_never_open_again(opener: Opener) -> None:
    def follow(_run: Pipeline, _sink: ListSink) -> Iterator[None]:
        yield from [None] * 6
        assert opener.asked.wait(60)

    said = hear()
    run, sink = live_run(opener, follow)
    ended = threading.Thread(target=run.run)
    ended.start()
    joined(ended)
    run.ledger.check()
    assert len(sink.results) == 6
    assert any("is still being opened" in line and "given up" in line for line in said)
    opener.gate.set()
    until(lambda: len(opener.opened) == 2 and opener.opened[1].closed)  # it is freed when it comes


def test_a_recorded_source_waits_for_the_engine(opener: Opener) -> None:
    """Its frames are in no hurry: none but the one that failed is bicubic."""
    opener.gate.set()
    sink = ListSink()
    Pipeline(ScriptedSource(map(make_frame, range(9)), shape=SHAPE), opener, [sink], scale=2).run()
    assert [r.frame.number for r in sink.results if r.outcome is Outcome.FAILED] == [FAULTY]


@pytest.mark.parametrize("stated", [True, False], ids=["first engine", "first frame"])
def test_frames_are_bicubic_and_marked_while_the_first_engine_is_opened(
    stated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And recorded: a live stream waits for no engine. That is no restart, and the line says what goes on."""
    monkeypatch.setattr("clesr.pipeline.live_engine.BEGIN_S", 0.05)
    monkeypatch.setattr("clesr.pipeline.live_engine.CHANGE_S", 0.05)
    gate, sink, said, seen = threading.Event(), ListSink(), hear(), list[Status]()

    def opened(shape: tuple[int, int]) -> FakeEngine:
        assert gate.wait(60)
        return FakeEngine(shape)

    def script() -> Iterator[Step]:
        for number in range(5):
            yield make_frame(number, SHAPE)
            until(lambda number=number: len(sink.results) > number)  # type: ignore[misc]
        seen.append(run.status())
        gate.set()
        while sink.results[-1].outcome is not Outcome.UPSCALED:
            yield make_frame(len(sink.results), SHAPE)
            until(lambda: len(sink.results) == run.ledger.captured)

    shape = SHAPE if stated else None
    run = Pipeline(ScriptedSource(script(), live=True, shape=shape), opened, [sink], scale=2)
    run.run()
    run.ledger.check()
    failed = sink.results[:-1]
    assert [result.outcome for result in failed] == [Outcome.FAILED] * len(failed)
    assert {result.reason for result in failed} == {OPENING}
    assert seen[0].state is State.DEGRADED
    assert seen[0].message == seen[0].troubles["engine"] == OPENING
    assert run.status().engine_restarts == 0
    assert [line for line in said if line.startswith("the engine")] == [
        f"{OPENING} after 0.05 s; bicubic images, marked, until it is there",
        "the engine is open",
    ]


def test_what_is_wrong_with_the_first_engine_ends_a_live_run_at_once() -> None:
    def opened(_shape: tuple[int, int]) -> FakeEngine:
        raise EngineError("there is no such engine")

    with pytest.raises(EngineError, match="there is no such engine"):
        Pipeline(ScriptedSource((), live=True, shape=SHAPE), opened, [ListSink()], scale=2).run()


def job(number: int, clock: ManualClock) -> PreparedFrame:
    frame = make_frame(number, SHAPE)
    return PreparedFrame(frame, frame.image, clock.now_ns())


def result_of(live: LiveEngine, number: int, clock: ManualClock) -> Result:
    """What becomes of one frame, with nothing else in flight."""
    return next(iter([*live.submit(job(number, clock)), *live.drain()]))


@pytest.mark.parametrize("hurried", [False, True])
def test_waits_grow_from_attempt_to_attempt_each_of_which_is_told_once(hurried: bool) -> None:
    clock, tried, said = ManualClock(), list[float](), hear()
    begun = clock.now_ns()

    def broken(_shape: tuple[int, int]) -> FakeEngine:
        tried.append((clock.now_ns() - begun) / 1e9)
        raise EngineError("it does not start")

    live = LiveEngine(broken, 2, clock, hurried=hurried)
    while len(tried) < len(RETRY_S) + 2:
        assert result_of(live, 0, clock).outcome is Outcome.FAILED
        until(lambda: live._opening is None or live._opening.done)
        clock.advance(0.1)
    waits = np.diff(tried)
    assert waits == pytest.approx([*RETRY_S, RETRY_S[-1]], abs=0.21)
    assert RETRY_S[1:5] == (1, 2, 4, 8)
    assert RETRY_S[-1] == 30
    told = [line for line in said if "it does not start" in line]
    assert told[0] == "the engine failed (it does not start); bicubic images, marked, until it is back"
    assert told[1:] == [
        f"the engine cannot be opened (it does not start); tried again in {wait:g} s" for wait in RETRY_S[1:]
    ]
    live.close()


def test_what_was_in_flight_when_the_engine_broke_is_one_failure(opener: Opener) -> None:
    opener.gate.set()
    clock = ManualClock()
    live = LiveEngine(opener, 2, clock)
    for _ in range(2):
        live.submit(job(FAULTY, clock))
    assert [result.outcome for result in live.drain()] == [Outcome.FAILED] * 2
    assert result_of(live, 0, clock).outcome is Outcome.UPSCALED, "it is opened again at once"
    assert live.restarts == 1


@pytest.mark.parametrize("works_for", [0.0, WORKED_S])
def test_an_engine_that_fails_again_at_once_is_waited_for(works_for: float) -> None:
    clock = ManualClock()
    live = LiveEngine(lambda shape: FakeEngine(shape, fails=(1,)), 2, clock)
    for round in range(3):
        assert result_of(live, 0, clock).outcome is Outcome.UPSCALED
        clock.advance(works_for)
        assert result_of(live, 1, clock).outcome is Outcome.FAILED
        clock.advance(0.01)
        at_once = result_of(live, 0, clock).outcome
        if works_for or not round:
            assert at_once is Outcome.UPSCALED, "that it failed long ago is forgotten"
        else:
            assert at_once is Outcome.FAILED
            clock.advance(RETRY_S[-1])


def test_an_image_that_came_out_of_a_broken_engine_shortens_no_wait() -> None:
    """The engine fails on the first of two frames in flight and makes the second; then it cannot be opened."""
    clock, opened = ManualClock(), list[float]()

    def open_engine(shape: tuple[int, int]) -> FakeEngine:
        opened.append(clock.now_ns() / 1e9)
        if len(opened) > 1:
            raise EngineError("it does not start")
        return FakeEngine(shape, fails=(1,))

    live = LiveEngine(open_engine, 2, clock)
    live.submit(job(1, clock))
    live.submit(job(0, clock))
    assert [result.outcome for result in live.drain()] == [Outcome.FAILED, Outcome.UPSCALED]
    while len(opened) < 6:
        assert result_of(live, 0, clock).outcome is Outcome.FAILED
        clock.advance(0.1)
    assert np.diff(opened[1:]) == pytest.approx(RETRY_S[1:5], abs=0.11)
