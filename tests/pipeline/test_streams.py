"""Several streams at one engine thread, and several pipelines side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import pytest
from heard import hear
from support import FakeEngine, ListSink, ManualClock, ScriptedSource, Step, make_frame, until
from waits import joined

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import EngineError, SinkError, SourceError
from clesr.pipeline.engine_stage import EngineStage
from clesr.pipeline.frame import Outcome, PreparedFrame, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.live_engine import BEGIN_S, LiveEngine
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.sharing import choose_sharing, run_together
from clesr.pipeline.sink import Sink
from clesr.pipeline.status import State, Status

Factory = Callable[[tuple[int, int]], FakeEngine]


def shared(factory: Factory = FakeEngine, *, scale: int = 2, clock: Clock = SYSTEM) -> EngineStage:
    return EngineStage(partial(LiveEngine, factory, scale, clock))


def pipeline(engine: EngineStage, source: ScriptedSource, *sinks: Sink, **options: object) -> Pipeline:
    return Pipeline(source, engine, sinks, **{"scale": 2, **options})  # type: ignore[arg-type]


def counts(run: Pipeline) -> dict[Outcome, int]:
    run.ledger.check()
    return {outcome: count for outcome, count in run.ledger.outcomes.items() if count}


def frames(count: int, shape: tuple[int, int] = (8, 10), *, first: int = 0) -> Iterator[Step]:
    return (make_frame(first + i, shape) for i in range(count))


def has_more(sink: ListSink, count: int) -> Callable[[], bool]:
    return lambda: len(sink.results) > count


class Opened:
    """A factory that keeps what it opened."""

    def __init__(self, **options: object) -> None:
        self.engines: list[FakeEngine] = []
        self.options = options

    def __call__(self, shape: tuple[int, int]) -> FakeEngine:
        self.engines.append(FakeEngine(shape, **self.options))  # type: ignore[arg-type]
        return self.engines[-1]


def test_each_stream_gets_its_own_results_in_order_from_one_engine() -> None:
    opened, sinks = Opened(), [ListSink() for _ in range(3)]
    engine = shared(opened)
    runs = [
        pipeline(engine, ScriptedSource(frames(50, first=100 * k), shape=(8, 10)), sink)
        for k, sink in enumerate(sinks)
    ]
    run_together(runs)
    for k, (run, sink) in enumerate(zip(runs, sinks, strict=True)):
        assert [r.frame.number for r in sink.results] == list(range(100 * k, 100 * k + 50))
        assert all(r.image[0, 0] == r.frame.image[0, 0] for r in sink.results)
        assert counts(run) == {Outcome.UPSCALED: 50}
        assert run.error is None
        assert run.summary().latency_ms["total"]["p50"] >= 0
        assert sink.closed == 1
    assert len(opened.engines) == 1
    assert opened.engines[0].most_in_flight <= 2
    assert opened.engines[0].closed


def test_a_fast_stream_does_not_starve_a_slow_one() -> None:
    """Turn by turn: a frame of the slow streams waits for at most one frame of each other stream."""
    engine = shared()
    order: list[int] = []
    lanes = [
        engine.join(Policy.DROP_OLDEST, [], lambda _r, k=k: order.append(k), lambda _stale, _error: None)  # type: ignore[misc]
        for k in range(3)
    ]
    for turn in range(300):
        frame = make_frame(turn)
        for k in range(3):
            if k == 0 or turn % (10 * k) == 0:  # stream 0 always has frames, the others now and then
                lanes[k].queue.put(PreparedFrame(frame, frame.image, SYSTEM.now_ns()))
                order.append(-k)
        engine._turn()
    for k in (1, 2):
        for at in (i for i, what in enumerate(order[:-20]) if what == -k):
            until = order[at:].index(k)
            assert order[at : at + until].count(0) <= 2 + 3, "in flight before it, and one turn of each"
    assert order.count(1) >= 29
    assert order.count(2) >= 14
    for client in lanes:
        engine.finish(client)


def test_streams_that_always_have_a_frame_get_equal_shares() -> None:
    engine = shared()
    shares = [0, 0, 0]

    def count(k: int, _result: Result) -> None:
        shares[k] += 1

    lanes = [
        engine.join(Policy.DROP_OLDEST, [], partial(count, k), lambda _stale, _error: None) for k in range(3)
    ]
    for turn in range(400):
        for client in lanes:
            frame = make_frame(turn)
            client.queue.put(PreparedFrame(frame, frame.image, SYSTEM.now_ns()))
        engine._turn()
    assert sum(shares) >= 380
    assert max(shares) - min(shares) <= 1
    for client in lanes:
        engine.finish(client)


def test_frames_of_different_sizes_have_an_engine_each_that_their_streams_share() -> None:
    opened = Opened()
    engine = shared(opened)
    shapes = [(8, 10), (9, 7), (8, 10)]
    sinks = [ListSink() for _ in shapes]
    runs = [
        pipeline(engine, ScriptedSource(frames(30, shape), shape=shape), sink)
        for shape, sink in zip(shapes, sinks, strict=True)
    ]
    run_together(runs)
    assert [e.info.lr_shape for e in opened.engines] == [(8, 10), (9, 7)]
    assert all(e.closed for e in opened.engines)
    for shape, sink in zip(shapes, sinks, strict=True):
        assert {r.image.shape for r in sink.results} == {(2 * shape[0], 2 * shape[1])}
        assert [r.frame.number for r in sink.results] == list(range(30))


def test_a_stream_that_changes_its_size_moves_to_the_engine_of_that_size_in_order() -> None:
    opened = Opened()
    engine = shared(opened)
    still, changing = ListSink(), ListSink()
    sizes = [make_frame(i, (9, 7) if 10 <= i < 20 else (8, 10)) for i in range(30)]
    runs = [
        pipeline(engine, ScriptedSource((make_frame(i, (9, 7)) for i in range(60)), shape=(9, 7)), still),
        pipeline(engine, ScriptedSource(sizes, shape=(8, 10)), changing),
    ]
    run_together(runs)
    assert [r.frame.number for r in changing.results] == list(range(30))
    assert [r.image.shape for r in changing.results] == [(16, 20)] * 10 + [(18, 14)] * 10 + [(16, 20)] * 10
    assert [r.frame.number for r in still.results] == list(range(60))
    assert all(e.closed for e in opened.engines)
    assert len(opened.engines) <= 4
    assert all(counts(run) == {Outcome.UPSCALED: run.ledger.captured} for run in runs)


def test_streams_of_two_scales_run_side_by_side_with_an_engine_thread_each() -> None:
    sinks = [ListSink(), ListSink()]
    runs = []
    for scale, sink in zip((2, 4), sinks, strict=True):
        engine = shared(lambda shape, scale=scale: FakeEngine(shape, scale=scale), scale=scale)  # type: ignore[misc]
        source = ScriptedSource((make_frame(i) for i in range(40)), shape=(8, 10))
        runs.append(pipeline(engine, source, sink, scale=scale))
    run_together(runs)
    assert {r.image.shape for r in sinks[0].results} == {(16, 20)}
    assert {r.image.shape for r in sinks[1].results} == {(32, 40)}
    assert [len(sink.results) for sink in sinks] == [40, 40]


def test_one_broken_stream_does_not_stop_the_others() -> None:
    engine = shared()
    broken, good = ListSink(), ListSink()
    runs = [
        pipeline(engine, ScriptedSource([make_frame(0), SourceError("cable cut")], shape=(8, 10)), broken),
        pipeline(engine, ScriptedSource((make_frame(i) for i in range(100)), shape=(8, 10)), good),
    ]
    ended: list[Pipeline] = []
    run_together(runs, ended.append)
    assert len(good.results) == 100
    assert len(broken.results) == 1
    assert isinstance(runs[0].error, SourceError)
    assert runs[1].error is None
    assert [run.summary().state for run in runs] == [State.FAILED, State.STOPPED]
    assert set(ended) == set(runs)
    assert [counts(run) for run in runs] == [{Outcome.UPSCALED: 1}, {Outcome.UPSCALED: 100}]


def test_a_stream_whose_engine_does_not_open_leaves_the_others() -> None:
    def factory(shape: tuple[int, int]) -> FakeEngine:
        if shape == (9, 7):
            raise EngineError("no memory for that size")
        return FakeEngine(shape)

    engine = shared(factory)
    good = ListSink()
    sources = [ScriptedSource(frames(20, s), shape=s) for s in ((9, 7), (8, 10))]
    runs = [pipeline(engine, sources[0], ListSink()), pipeline(engine, sources[1], good)]
    run_together(runs)
    assert str(runs[0].error) == "no memory for that size"
    assert runs[1].error is None
    assert len(good.results) == 20
    assert [source.closed for source in sources] == [1, 1]


def test_a_slow_disk_of_one_stream_does_not_hold_up_the_other() -> None:
    release = threading.Event()
    slow = ListSink(name="slow", on_write=lambda _r: assert_set(release))
    fast = ListSink(name="fast")

    def script() -> Iterator[Step]:
        yield from (make_frame(i) for i in range(100))
        while len(fast.results) < 100:
            yield None
        release.set()

    engine = shared()
    runs = [
        pipeline(engine, ScriptedSource((make_frame(i) for i in range(50)), shape=(8, 10)), slow),
        pipeline(engine, ScriptedSource(script(), shape=(8, 10)), fast),
    ]
    run_together(runs)
    assert [len(slow.results), len(fast.results)] == [50, 100]


def assert_set(event: threading.Event) -> None:
    assert event.wait(20)


def test_a_failure_of_the_shared_engine_degrades_its_streams_and_it_is_opened_again_once() -> None:
    opened: list[FakeEngine] = []
    states: dict[int, list[State]] = {0: [], 1: []}
    failing = threading.Event()

    def factory(shape: tuple[int, int]) -> FakeEngine:
        if opened and not failing.is_set():
            raise EngineError("not yet")
        opened.append(FakeEngine(shape, fails=(7,)))
        return opened[-1]

    clock = ManualClock()
    messages = hear()
    engine = EngineStage(partial(LiveEngine, factory, 2, clock))
    written = [threading.Semaphore(0), threading.Semaphore(0)]

    def repair() -> None:
        failing.set()
        clock.advance(30)

    broken, tenth = threading.Event(), threading.Barrier(2, repair)
    sinks = [ListSink(on_write=lambda _r, k=k: written[k].release()) for k in (0, 1)]  # type: ignore[misc]

    def script(k: int) -> Iterator[Step]:
        """Both wait for their results frame by frame; stream 0 breaks the engine with frame 7."""
        for i in range(20):
            if k == 1 and i == 7:
                assert broken.wait(20)
            yield make_frame(i if k == 0 else 100 + i)
            assert written[k].acquire(timeout=20)
            states[k].append(runs[k].status().state)
            if k == 0 and i == 7:
                broken.set()
            if i == 9:
                tenth.wait(20)

    runs = [
        pipeline(engine, ScriptedSource(script(k), shape=(8, 10), clock=clock), sinks[k], clock=clock)
        for k in (0, 1)
    ]
    run_together(runs)
    assert len(opened) == 2, "opened at the start, and once again for both"
    assert all(State.DEGRADED in seen for seen in states.values())
    assert [r.frame.number for r in sinks[0].results if r.outcome is Outcome.FAILED][:1] == [7]
    assert any(r.outcome is Outcome.FAILED for r in sinks[1].results), "the other stream had no engine either"
    for run, sink in zip(runs, sinks, strict=True):
        assert sink.results[-1].outcome is Outcome.UPSCALED
        assert sum(counts(run).values()) == 20
    assert sum("engine failed" in message for message in messages) == 1
    assert messages.count("the engine is back") == 1


def test_restarts_of_a_shared_engine_are_counted_for_its_streams_and_never_fall() -> None:
    """They fell for a moment when a stream moved to another engine."""
    counted: list[int] = []
    stage = shared(partial(FakeEngine, fails=(3, 6)))
    runs: list[Pipeline] = []
    sink = ListSink(on_write=lambda _r: counted.append(runs[0].status().engine_restarts))
    sizes = [(8, 10)] * 5 + [(6, 12)] * 5 + [(8, 10)] * 2
    still = threading.Event()

    def moving() -> Iterator[Step]:
        for number, shape in enumerate(sizes):
            yield make_frame(number, shape)
            until(has_more(sink, number))
        still.set()

    def staying() -> Iterator[Step]:
        yield make_frame(100)
        assert still.wait(60)

    runs += [
        pipeline(stage, ScriptedSource(moving(), shape=(8, 10)), sink),
        pipeline(stage, ScriptedSource(staying(), shape=(8, 10))),
    ]
    run_together(runs)
    assert counted == sorted(counted)
    assert runs[0].status().engine_restarts == 2
    assert runs[1].status().engine_restarts == 1, "of the engine that both used"


def test_each_restart_of_an_engine_is_counted_once() -> None:
    clock = ManualClock()
    stage = shared(partial(FakeEngine, fails=(3, 6)), clock=clock)
    client = stage.join(Policy.BLOCK, [], lambda _result: None, lambda _stale, _error: None)
    for number in range(10):
        frame = make_frame(number)
        client.queue.put(PreparedFrame(frame, frame.image, clock.now_ns()))
        stage._turn()
        stage._turn()
        clock.advance(60)
    assert client.restarts == 2
    stage.finish(client)


def test_the_others_are_looked_after_while_one_stream_is_being_closed() -> None:
    runs: list[Pipeline] = []

    class SlowToClose(ListSink):
        looked = 0

        def close(self) -> str | None:
            closing_ns = SYSTEM.now_ns()
            until(lambda: runs[1].unattended_s < (SYSTEM.now_ns() - closing_ns) / 1e9, 20)
            self.looked += 1
            ended.set()
            return super().close()

    slow, ended = SlowToClose(name="slow"), threading.Event()

    def going_on() -> Iterator[Step]:
        while not ended.is_set():
            yield None

    stage = shared()
    runs += [
        pipeline(stage, ScriptedSource(frames(3), shape=(8, 10)), slow),
        pipeline(stage, ScriptedSource(going_on(), shape=(8, 10))),
    ]
    run_together(runs)
    assert slow.looked == 1, runs[0].error
    assert [run.error for run in runs] == [None, None]


def test_a_stream_whose_size_goes_to_and_fro_holds_up_nobody() -> None:
    """An engine was opened for each change, for which all streams waited."""
    opened, release, still = list[tuple[int, int]](), threading.Event(), threading.Event()

    def factory(shape: tuple[int, int]) -> FakeEngine:
        opened.append(shape)
        if len(opened) > 1:
            assert release.wait(60)
        return FakeEngine(shape)

    stage = EngineStage(partial(LiveEngine, factory, 2, SYSTEM, hurried=True))
    moving, staying = ListSink(), ListSink()

    def changing() -> Iterator[Step]:
        for number in range(40):
            yield make_frame(number, (8, 10) if number % 2 else (6, 12))
            until(has_more(moving, number))
        release.set()
        for number in range(40, 500):
            yield make_frame(number, (8, 10) if number % 2 else (6, 12))
            until(has_more(moving, number))
            if moving.results[-1].outcome is Outcome.UPSCALED and number % 2 == 0:
                break
        still.set()

    def steady() -> Iterator[Step]:
        for number in count():
            if still.is_set():
                return
            yield make_frame(number)
            until(has_more(staying, number))

    runs = [
        pipeline(stage, ScriptedSource(changing(), live=True, shape=(8, 10)), moving),
        pipeline(stage, ScriptedSource(steady(), live=True, shape=(8, 10)), staying),
    ]
    run_together(runs)
    assert [run.error for run in runs] == [None, None]
    assert opened == [(8, 10), (6, 12)]
    assert {r.outcome for r in staying.results} == {Outcome.UPSCALED}
    assert {r.outcome for r in moving.results[1:40:2]} == {Outcome.UPSCALED}, "the size that has its engine"
    assert {r.outcome for r in moving.results[0:40:2]} == {Outcome.FAILED}


def test_a_live_stream_does_not_wait_for_the_engine_of_a_recorded_one() -> None:
    release = threading.Event()

    def slow(shape: tuple[int, int]) -> FakeEngine:
        assert release.wait(60)
        return FakeEngine(shape)

    sink = ListSink()

    def live() -> Iterator[Step]:
        for number in range(3):
            yield make_frame(number)
            until(has_more(sink, number))
        release.set()

    runs = [
        Pipeline(ScriptedSource(frames(3), shape=(8, 10)), slow, [], scale=2),
        Pipeline(ScriptedSource(live(), live=True, shape=(8, 10)), FakeEngine, [sink], scale=2),
    ]
    run_together(runs)
    assert [counts(run) for run in runs] == [{Outcome.UPSCALED: 3}] * 2


def test_live_streams_wait_for_their_engines_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """They waited one after the other, and none was read meanwhile."""
    waited: list[float] = []

    def opening(_live: LiveEngine, _shape: tuple[int, int], seconds: float) -> None:
        waited.append(seconds)
        threading.Event().wait(0.05)

    monkeypatch.setattr(LiveEngine, "_open_beside", opening)
    runs = [Pipeline(ScriptedSource([], live=True, shape=(8, 10)), FakeEngine, [], scale=2) for _ in range(3)]
    run_together(runs)
    assert waited[0] <= BEGIN_S
    assert waited[1] <= BEGIN_S - 0.05
    assert waited[2] <= BEGIN_S - 0.1


def test_each_sink_that_cannot_be_closed_is_told_by_its_name() -> None:
    """The first is what the run ends with; nothing was said of a second."""

    class Broken(ListSink):
        def close(self) -> str | None:
            raise OSError(28, f"no space for {self.which}")

        which = ""

    sinks = [Broken(name="file"), Broken(name="file")]
    sinks[0].which, sinks[1].which = "the first", "the second"
    said = hear()
    with pytest.raises(SinkError, match="no space for the first"):
        pipeline(shared(), ScriptedSource(frames(3), shape=(8, 10)), *sinks).run()
    told = [words for words in said if "broke" in words]
    assert told == ["file (2) broke: [Errno 28] no space for the second"]


def test_stop_drains_all_and_abort_ends_all() -> None:
    gate = threading.Semaphore(0)
    arrived = threading.Barrier(3)

    def script() -> Iterator[Step]:
        yield from (make_frame(i) for i in range(4))
        arrived.wait(20)
        while True:
            yield None

    engine = shared(lambda shape: FakeEngine(shape, gate=gate))
    sinks = [ListSink(), ListSink()]
    runs = [pipeline(engine, ScriptedSource(script(), live=True, shape=(8, 10)), sink) for sink in sinks]

    def user() -> None:
        arrived.wait(20)
        for run in runs:
            run.stop()
        runs[1].abort()
        gate.release(100)

    pressing = threading.Thread(target=user)
    pressing.start()
    run_together(runs)
    joined(pressing)
    drained, aborted = (counts(run) for run in runs)
    assert drained[Outcome.UPSCALED] == len(sinks[0].results) >= 2
    assert sum(drained.values()) == sum(aborted.values()) == 4
    assert runs[0].error is runs[1].error is None


class Screen(ListSink):
    def __init__(self, quits: Callable[[Screen], bool]) -> None:
        super().__init__(name="screen", policy=Policy.DROP_OLDEST)
        self.quits = quits
        self.threads: set[str] = set()
        self.idents: set[int] = set()

    def refresh(self, status: Status) -> bool:
        self.threads.add(threading.current_thread().name)
        self.idents.add(threading.get_ident())
        return not self.quits(self)


def test_screens_have_threads_of_their_own_and_closing_one_ends_its_stream_alone() -> None:
    def endless() -> Iterator[Step]:
        number = 0
        while True:
            yield make_frame(number)
            number += 1

    def second() -> Iterator[Step]:
        number = 0
        while not first.closed or number < 5:
            yield make_frame(number)
            number += 1

    first = Screen(lambda s: bool(s.results))
    other = Screen(lambda _s: False)
    engine = shared()
    runs = [
        pipeline(engine, ScriptedSource(endless(), live=True, shape=(8, 10)), first),
        pipeline(engine, ScriptedSource(second(), live=True, shape=(8, 10)), other),
    ]
    run_together(runs)
    assert first.threads == other.threads == {"clesr screen"}
    assert first.idents.isdisjoint(other.idents)
    assert [run.error for run in runs] == [None, None]
    assert all(run.summary().state is State.STOPPED for run in runs)


def test_an_engine_thread_that_breaks_is_raised_by_every_stream() -> None:
    engine = shared()
    runs = [
        pipeline(engine, ScriptedSource((make_frame(i) for i in range(50)), shape=(8, 10)), ListSink())
        for _ in range(2)
    ]

    def broken(_result: Result) -> None:
        raise MemoryError("none left")

    runs[0]._client.emit = broken
    run_together(runs)
    assert isinstance(runs[0].error, MemoryError)
    assert isinstance(runs[1].error, MemoryError)


@pytest.mark.parametrize(
    ("one", "several", "fps", "shares"), [(100, 30, 50, True), (30, 60, 50, False), (30, 31, 50, True)]
)
def test_the_trial_takes_what_is_faster_and_says_so(
    monkeypatch: pytest.MonkeyPatch, one: float, several: float, fps: float, shares: bool
) -> None:
    rates = {True: one, False: several}
    monkeypatch.setattr(
        "clesr.pipeline.sharing._rate",
        lambda _shapes, _scale, factory: (rates[isinstance(factory, EngineStage)], None),
    )
    said = hear()
    assert choose_sharing([(8, 10)] * 2, fps, 2, FakeEngine, FakeEngine) is shares
    assert len(said) == 1
    assert ("an engine each" in said[0]) is not shares


def test_the_trial_runs_both_ways_and_survives_an_engine_that_does_not_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clesr.pipeline.sharing.TRIAL_S", 0.02)
    opened = Opened()
    said = hear()
    choose_sharing([(8, 10)] * 2, 1e9, 2, opened, opened)
    assert len(opened.engines) == 3
    assert all(engine.closed for engine in opened.engines)

    def full(_shape: tuple[int, int]) -> FakeEngine:
        raise EngineError("out of memory")

    assert choose_sharing([(8, 10)] * 2, 1e9, 2, opened, full)
    assert "out of memory" in said[-1]
    assert choose_sharing([(8, 10)] * 2, 1e9, 2, full, full)
