from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from heard import hear
from support import FakeEngine, ListSink, ManualClock, ScriptedSource, Step, make_frame, until

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import EngineError, SinkError, SourceError, UsageError
from clesr.engines.degrade import Degrader
from clesr.pipeline.frame import Corrupt, Frame, Image, Outcome, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.prepare import Prepare, Roi
from clesr.pipeline.sink import Sink
from clesr.pipeline.status import State, Status


def pipeline(source: ScriptedSource, *sinks: Sink, **options: object) -> Pipeline:
    settings: dict[str, object] = {"scale": 2, "factory": FakeEngine, **options}
    return Pipeline(source, settings.pop("factory"), sinks, **settings)  # type: ignore[arg-type]


def counts(run: Pipeline) -> dict[Outcome, int]:
    run.ledger.check()
    return {outcome: count for outcome, count in run.ledger.outcomes.items() if count}


def test_every_frame_of_a_recording_arrives_in_order() -> None:
    sink = ListSink()
    source = ScriptedSource([make_frame(i) for i in range(200)])
    run = pipeline(source, sink)
    summary = run.run()
    assert [r.frame.number for r in sink.results] == list(range(200))
    assert all(r.image.shape == (16, 20) and r.image[0, 0] == r.frame.image[0, 0] for r in sink.results)
    assert counts(run) == {Outcome.UPSCALED: 200}
    assert summary.captured == 200
    assert summary.state is State.STOPPED
    assert summary.outputs == ("200 results",)
    assert summary.sinks["list"] == {"written": 200, "skipped": 0}
    assert (source.closed, sink.closed) == (1, 1)
    times = sink.results[5].times
    assert times.captured <= times.prepared <= times.submitted <= times.collected


def test_a_slow_engine_on_a_live_source_sheds_the_oldest_and_counts_them() -> None:
    gate = threading.Semaphore(0)
    read_all = threading.Event()
    frames: list[Step] = [make_frame(i) for i in range(40)]
    source = ScriptedSource([*frames, read_all.set, lambda: gate.release(100)], live=True)
    sink = ListSink()
    run = pipeline(source, sink, factory=lambda shape: FakeEngine(shape, gate=gate))
    run.run()
    outcome = counts(run)
    assert outcome[Outcome.UPSCALED] + outcome[Outcome.STALE] == 40
    assert outcome[Outcome.STALE] >= 34, "two in flight and two waiting are all that may survive, or nearly"
    numbers = [r.frame.number for r in sink.results]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 39, "the newest frame is never the one that is dropped"


def test_a_slow_display_neither_slows_the_recorder_nor_unbalances_the_ledger() -> None:
    blocked, release = threading.Event(), threading.Event()

    def slow(_result: Result) -> None:
        blocked.set()
        assert release.wait(20)

    recorder = ListSink(name="recorder")
    display = ListSink(name="display", policy=Policy.DROP_OLDEST, on_write=slow)

    def script() -> Iterator[Step]:
        yield from (make_frame(i) for i in range(100))
        while len(recorder.results) < 90:  # the recorder gets on while the display hangs
            yield None
        assert blocked.is_set()
        release.set()

    run = pipeline(ScriptedSource(script()), recorder, display)
    summary = run.run()
    assert counts(run) == {Outcome.UPSCALED: 100}
    assert len(recorder.results) == 100
    shown = summary.sinks["display"]
    assert shown["written"] + shown["skipped"] == 100
    assert shown["skipped"] > 50
    assert display.results[-1].frame.number == 99


def test_a_slow_recorder_makes_a_recording_wait() -> None:
    sink = ListSink(on_write=lambda _r: None)
    run = pipeline(ScriptedSource(make_frame(i) for i in range(300)), sink)
    run.run()
    assert len(sink.results) == 300


def test_gaps_in_the_numbers_are_lost_at_the_source() -> None:
    run = pipeline(ScriptedSource([make_frame(i) for i in (5, 6, 9, 10, 20)]), ListSink())
    run.run()
    assert counts(run) == {Outcome.UPSCALED: 5, Outcome.LOST: 11}
    assert run.ledger.captured == 16


def test_frames_that_a_camera_took_before_the_engine_was_ready_are_passed_over() -> None:
    sink = ListSink()
    frames = [*(make_frame(i, time_ns=1) for i in range(3)), *(make_frame(i) for i in range(5, 9))]
    run = pipeline(ScriptedSource(frames, live=True), sink)
    run.run()
    assert Outcome.LOST not in counts(run)
    assert run.ledger.captured == 4
    assert [r.frame.number for r in sink.results][-1] == 8


def test_corrupt_frames_are_counted_and_named() -> None:
    messages = hear()
    script: list[Step] = [make_frame(0), Corrupt(1, 0, "bad block"), make_frame(2)]
    run = pipeline(ScriptedSource(script), ListSink())
    summary = run.run()
    assert counts(run) == {Outcome.UPSCALED: 2, Outcome.CORRUPT: 1}
    assert "bad block" in messages[0]
    assert summary.notes == tuple(messages)


def test_an_engine_that_raises_on_frame_7_degrades_and_comes_back() -> None:
    engines: list[FakeEngine] = []
    messages = hear()

    def factory(shape: tuple[int, int]) -> FakeEngine:
        engines.append(FakeEngine(shape, fails=(7,)))
        return engines[-1]

    sink = ListSink()
    run = pipeline(ScriptedSource(make_frame(i) for i in range(20)), sink, factory=factory)
    states: list[State] = []
    sink.on_write = lambda _r: states.append(run.status().state)
    summary = run.run()
    assert counts(run) == {Outcome.UPSCALED: 19, Outcome.FAILED: 1}
    failed = [r for r in sink.results if r.outcome is Outcome.FAILED]
    assert [r.frame.number for r in failed] == [7]
    assert failed[0].image.shape == (16, 20)
    assert np.all(failed[0].image == 7), "bicubic of a flat frame is flat"
    assert [r.frame.number for r in sink.results] == list(range(20))
    assert len(engines) == 2
    assert engines[0].closed
    assert "told to fail on 7" in messages[0]
    assert "back" in messages[-1]
    assert summary.state is State.STOPPED


def test_an_engine_that_cannot_come_back_is_tried_again_after_growing_waits() -> None:
    clock = ManualClock()
    opened: list[int] = []

    def factory(shape: tuple[int, int]) -> FakeEngine:
        opened.append(clock.now_ns())
        if len(opened) > 1:
            raise EngineError("no memory")
        return FakeEngine(shape, fails=(0,))

    def script() -> Iterator[Step]:
        for i in range(100):
            clock.advance(0.1)
            yield make_frame(0 if i == 0 else i + 1)

    sink = ListSink()
    run = pipeline(ScriptedSource(script(), clock=clock), sink, factory=factory, clock=clock)
    run.run()
    outcome = counts(run)
    assert outcome[Outcome.FAILED] + outcome.get(Outcome.UPSCALED, 0) == 100
    assert outcome[Outcome.FAILED] >= 98
    assert 3 <= len(opened) <= 8, "0.5, 1, 2, 5 s between tries over 10 s of frames"


def test_a_change_of_size_opens_an_engine_for_the_new_size() -> None:
    shapes: list[tuple[int, int]] = []

    def factory(shape: tuple[int, int]) -> FakeEngine:
        shapes.append(shape)
        return FakeEngine(shape)

    frames = [make_frame(i, (8, 10) if i < 5 else (9, 7)) for i in range(10)]
    sink = ListSink()
    run = pipeline(ScriptedSource(frames, shape=(8, 10)), sink, factory=factory)
    run.run()
    assert shapes == [(8, 10), (9, 7)]
    assert [r.image.shape for r in sink.results] == [(16, 20)] * 5 + [(18, 14)] * 5


def test_at_most_depth_frames_are_in_flight() -> None:
    engine = FakeEngine((8, 10))
    run = pipeline(
        ScriptedSource(make_frame(i) for i in range(50)), ListSink(), factory=lambda _shape: engine
    )
    run.run()
    assert engine.most_in_flight <= 2


def test_a_stalled_source_shows_its_age_and_comes_back() -> None:
    clock = ManualClock()
    seen: list[Status] = []
    sink = ListSink()
    period = 0.04

    def script() -> Iterator[Step]:
        for i in range(10):
            clock.advance(period)
            yield make_frame(i, time_ns=clock.now_ns())
            while len(sink.results) <= i:
                yield None
        for _ in range(3):
            clock.advance(period)
            seen.append(run.status())
            yield None
        clock.advance(5)
        yield make_frame(10, time_ns=clock.now_ns())
        while len(sink.results) < 11:
            yield None
        seen.append(run.status())

    run = pipeline(ScriptedSource(script(), live=True, clock=clock), sink, clock=clock)
    run.run()
    assert [status.stalled for status in seen] == [False, False, True, False], "within three frame periods"
    age = seen[2].age_ns
    assert age is not None
    assert age >= 3 * period * 1e9
    assert counts(run) == {Outcome.UPSCALED: 11}


def test_stop_drains_what_was_captured() -> None:
    sink = ListSink()
    run: Pipeline

    def script() -> Iterator[Step]:
        yield from (make_frame(i) for i in range(10))
        yield lambda: run.stop()
        yield make_frame(10)
        pytest.fail("read on after stop")

    run = pipeline(ScriptedSource(script()), sink)
    summary = run.run()
    assert len(sink.results) == 11
    assert summary.state is State.STOPPED


def test_abort_gives_up_waiting_frames_as_stale() -> None:
    gate = threading.Semaphore(0)
    engines: list[FakeEngine] = []
    run: Pipeline

    def factory(shape: tuple[int, int]) -> FakeEngine:
        engines.append(FakeEngine(shape, gate=gate))
        return engines[-1]

    def abort() -> None:
        until(lambda: engines[0].most_in_flight == 2)
        run.abort()
        gate.release(10)

    script: list[Step] = [*(make_frame(i) for i in range(4)), abort]
    run = pipeline(ScriptedSource(script), ListSink(), factory=factory)
    run.run()
    assert counts(run) == {Outcome.UPSCALED: 2, Outcome.STALE: 2}, "two were in flight, two waited"


@pytest.mark.parametrize(("limits", "expected"), [(Limits(frames=7), 7), (Limits(seconds=0.4), 10)])
def test_limits(limits: Limits, expected: int) -> None:
    clock = ManualClock()

    def script() -> Iterator[Step]:
        for i in range(1000):
            yield make_frame(i)
            clock.advance(0.04)

    run = pipeline(ScriptedSource(script(), clock=clock), ListSink(), limits=limits, clock=clock)
    run.run()
    assert abs(run.ledger.captured - expected) <= 1
    assert counts(run) == {Outcome.UPSCALED: run.ledger.captured}


@pytest.mark.parametrize("live", [False, True])
def test_a_source_that_breaks_is_drained_and_raised(live: bool) -> None:
    sink = ListSink()
    source = ScriptedSource([make_frame(0), make_frame(1), SourceError("cable cut")], live=live)
    run = pipeline(source, sink)
    with pytest.raises(SourceError, match="cable cut"):
        run.run()
    assert len(sink.results) == 2
    assert counts(run) == {Outcome.UPSCALED: 2}
    assert (source.closed, sink.closed) == (1, 1)
    assert run.summary().state is State.FAILED


def test_a_sink_that_breaks_does_not_stop_the_others_and_is_raised_at_the_end() -> None:
    def full(result: Result) -> None:
        if result.frame.number == 3:
            raise SinkError("no space left")

    broken, good = ListSink(name="broken", on_write=full), ListSink(name="good")
    messages = hear()
    run = pipeline(ScriptedSource(make_frame(i) for i in range(50)), broken, good)
    with pytest.raises(SinkError, match="no space left"):
        run.run()
    assert len(broken.results) == 3
    assert len(good.results) == 50
    assert broken.closed == 1
    assert any("no space left" in m for m in messages)
    assert counts(run) == {Outcome.UPSCALED: 50}


def test_the_last_sink_that_breaks_ends_the_run() -> None:
    def full(_result: Result) -> None:
        raise SinkError("no space left")

    def script() -> Iterator[Step]:
        for i in range(100_000):
            yield make_frame(i)
        pytest.fail("went on without a sink")

    run = pipeline(ScriptedSource(script()), ListSink(on_write=full))
    with pytest.raises(SinkError):
        run.run()
    run.ledger.check()


def test_a_roi_outside_the_frame_is_a_usage_error_before_any_frame() -> None:
    source = ScriptedSource([make_frame(0)], shape=(8, 10))
    run = pipeline(source, ListSink(), prepare=Prepare(roi=Roi(5, 5, 100, 100)))
    with pytest.raises(UsageError, match="10x8"):
        run.run()
    assert source.closed == 1


def test_an_engine_that_never_starts_is_raised() -> None:
    def factory(_shape: tuple[int, int]) -> FakeEngine:
        raise EngineError("no such device")

    with pytest.raises(EngineError, match="no such device"):
        pipeline(ScriptedSource([make_frame(0)], shape=(8, 10)), ListSink(), factory=factory).run()


class Screen(ListSink):
    """A live sink: quits when ``quits`` says so, and remembers what it was shown."""

    def __init__(self, quits: Callable[[Screen], bool]) -> None:
        super().__init__(name="screen", policy=Policy.DROP_OLDEST)
        self.quits = quits
        self.threads: set[str] = set()

    def refresh(self, status: Status) -> bool:
        self.threads.add(threading.current_thread().name)
        return not self.quits(self)


def test_a_screen_runs_on_a_thread_of_its_own_and_can_stop_the_run() -> None:
    screen = Screen(lambda s: bool(s.results) and s.results[-1].frame.number >= 5)

    def script() -> Iterator[Step]:
        number = 0
        while True:
            yield make_frame(number)
            number += 1

    run = pipeline(ScriptedSource(script(), live=True), screen)
    summary = run.run()
    assert screen.threads == {"clesr screen"}
    assert summary.state is State.STOPPED
    run.ledger.check()


def test_a_recording_slower_than_its_own_pace_says_so_once() -> None:
    clock = ManualClock()
    messages = hear()

    def slow(_result: Result) -> None:
        clock.advance(0.2)

    source = ScriptedSource((make_frame(i) for i in range(60)), fps=25.0, clock=clock)
    run = pipeline(source, ListSink(on_write=slow), clock=clock)
    run.run()
    assert len(messages) == 1
    assert "later than its own pace" in messages[0]


def checkered(number: int) -> Frame:
    """A frame that repeating its pixels does not keep: it disagrees with what comes of it."""
    image = np.full((48, 40), 60, np.uint8)
    image[::2, number % 2 :: 2] = 160
    return Frame(image, number, 0)


def test_every_upscaled_frame_has_its_fidelity_and_a_failed_one_has_none() -> None:
    def factory(shape: tuple[int, int]) -> FakeEngine:
        engine = FakeEngine(shape, fails=(160,))
        engine.info = replace(engine.info, limit_db=60.0)
        return engine

    sink = ListSink()
    run = pipeline(ScriptedSource([checkered(1), checkered(0), checkered(1)]), sink, factory=factory)
    summary = run.run()
    good = [r for r in sink.results if r.outcome is Outcome.UPSCALED]
    (failed,) = (r for r in sink.results if r.outcome is Outcome.FAILED)
    assert (failed.fidelity, failed.check) == (None, None)
    assert len(good) == 2
    for result in good:
        assert result.check is not None
        assert result.fidelity == result.check.db
        assert 20 < result.fidelity < 40
        assert result.check.below_limit
    figures = summary.as_json()["fidelity_db"]
    assert (figures["frames"], figures["below_limit"], figures["limit"]) == (2, 2, 60.0)
    assert figures["worst"] <= figures["p1"] <= figures["p50"]
    assert figures["worst_tile"] > figures["worst"], "what is as fine as noise hardly counts"
    assert figures["worst"] == pytest.approx(good[0].fidelity, abs=0.01)


def test_a_consistent_run_gives_corrected_images() -> None:
    sink = ListSink()
    pipeline(ScriptedSource([checkered(0), checkered(1)]), sink, consistent=True).run()
    for result in sink.results:
        assert result.check is not None
        assert result.fidelity is not None
        assert result.check.before_db is not None
        assert result.fidelity > result.check.before_db + 10
        reprojected = Degrader((48, 40), 2)(result.image)
        assert np.abs(reprojected.astype(int) - result.lr).mean() <= 1


def test_an_engine_that_checks_itself_is_believed() -> None:
    class Checking(FakeEngine):
        reprojected: tuple[Image, ...] = ()
        corrected = False

        def collect(self) -> Image:
            lr = self._in_flight[0]
            self.reprojected = (lr + np.uint8(2), lr + np.uint8(1)) if self.corrected else (lr + np.uint8(2),)
            return super().collect()

        def correct(self) -> None:
            self.corrected = True

    for consistent, expected, before in ((False, 2, None), (True, 1, 2)):
        sink = ListSink()
        pipeline(ScriptedSource([checkered(0)]), sink, factory=Checking, consistent=consistent).run()
        (result,) = sink.results
        assert result.check is not None
        assert result.fidelity == pytest.approx(20 * np.log10(255 / expected))
        assert (result.check.before_db is None) is (before is None)
        assert np.array_equal(result.image, np.repeat(np.repeat(result.lr, 2, 0), 2, 1)), (
            "not corrected twice"
        )


def test_what_a_person_looks_at_is_refreshed_many_times_a_second() -> None:
    """Without a frame, too: the age of the image on show and the keys must not wait."""
    times: list[int] = []

    class Display(ListSink):
        def refresh(self, _status: Status) -> bool:
            times.append(SYSTEM.now_ns())
            return True

    def wait() -> None:
        until(lambda: len(times) >= 40)

    pipeline(ScriptedSource([make_frame(0), wait], live=True), Display()).run()
    steps = sorted(later - time for time, later in pairwise(times))
    assert steps[len(steps) // 2] < 250_000_000
