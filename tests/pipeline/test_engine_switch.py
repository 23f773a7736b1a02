"""Another engine for a running stream: beside the present one, in its place between two frames, or not at all."""

from __future__ import annotations

import gc
import threading
import weakref
from functools import partial
from typing import Any

import pytest
from heard import hear
from support import FakeEngine, ListSink, ManualClock, ScriptedSource, make_frame, until
from switched_runs import READY, SHAPE, Openers, Run, failing
from waits import joined

from clesr.engines import results
from clesr.engines.common.errors import EngineError, UsageError
from clesr.pipeline.engine_stage import EngineStage
from clesr.pipeline.engine_switch import EngineAim, EngineSwitch
from clesr.pipeline.frame import Corrupt, Outage, Outcome, PreparedFrame
from clesr.pipeline.live_engine import LiveEngine
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.sharing import run_together
from clesr.pipeline.status import State
from clesr.pipeline.watchdog import left_behind


def test_a_switch_opens_beside_the_present_engine_and_takes_over_between_two_frames() -> None:
    go_on = threading.Event()
    openers = Openers(faults={(4, "one"): lambda: go_on.wait(60)})
    run = Run(openers)
    run.frames(3)
    run.switch(scale=4)
    run.do(lambda: until(lambda: run.status == "x4 one: opening"))
    run.frames(5)  # come through while it is being opened
    run.do(go_on.set)
    run.ready("x4 one")
    run.do(lambda: openers.opened[0].closed and pytest.fail("the present engine was closed too early"))
    run.frames(4)
    run.settled()
    run.do(lambda: until(lambda: openers.opened[0].closed))
    run.frames(1)
    assert run.run() == [2] * 8 + [4] * 5
    assert all(r.outcome is Outcome.UPSCALED for r in run.sink.results)
    assert [e.info.scale for e in openers.opened] == [2, 4]
    status, summary = run.pipeline.status(), run.pipeline.summary()
    assert (status.scale, status.switching, status.switch_error) == (4, "", "")
    assert (summary.scale, summary.model) == (4, "one")


def test_a_model_is_switched_and_shown_with_its_first_image() -> None:
    run = Run(Openers())
    run.frames(2)
    run.switch(model="two")
    run.ready()
    run.frames(2)
    assert run.run() == [2] * 4
    assert [r.model for r in run.sink.results] == ["one", "one", "two", "two"]


def test_an_engine_of_a_function_of_ones_own_takes_over() -> None:
    openers = Openers()
    run = Run(openers)
    run.frames(2)
    run.switch(8, open_engine=openers.switched(8, "two").__call__)
    run.ready("x8")
    run.frames(1)
    run.switch(open_engine=openers.switched(4, "three"))  # which says itself for which scale
    run.ready("x4 three")
    run.frames(1)
    assert run.run() == [2, 2, 8, 4]


def hold(begun: threading.Event, go_on: threading.Event) -> None:
    begun.set()
    assert go_on.wait(60)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "does not open": ({"faults": {(4, "one"): failing(EngineError("no card"))}}, "no card"),
    "fails its self-test": ({"faults": {(4, "one"): failing(EngineError("self-test: bad"))}}, "self-test: bad"),
    "exits": ({"faults": {(4, "one"): failing(SystemExit(3))}}, "SystemExit"),
    "says what it is not": ({"options": {(4, "one"): {"depth": 0}}}, "0 frames at a time"),
    "fails on the last frame": ({"options": {(4, "one"): {"fails": range(251)}}}, "told to fail on 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_an_engine_that_is_not_sound_never_gets_a_frame(name: str) -> None:
    options, words = FAULTS[name]
    run = Run(Openers(**options))
    run.frames(2)
    run.switch(scale=4)
    run.settled()
    run.frames(2)
    assert run.run() == [2] * 4
    assert {r.outcome for r in run.sink.results} == {Outcome.UPSCALED}
    error = run.pipeline.status().switch_error
    assert error.startswith("x4 one does not take over, x2 one goes on: ")
    assert words in error
    assert run.said.count(error) == 1
    assert "\n" not in error


def test_an_unknown_model_is_told_and_changes_nothing() -> None:
    run = Run(Openers())
    run.frames(1)
    run.switch(model="none")
    run.settled()
    run.frames(1)
    run.run()
    assert "model 'none' is unknown" in run.pipeline.status().switch_error


@pytest.mark.parametrize("gone", [2, 4, 8])
def test_an_engine_that_fails_on_its_first_frame_leaves_it_to_the_present_one(gone: int) -> None:
    """Whatever was captured for it meanwhile, too."""
    run = Run(Openers(options={(4, "one"): {"fails": range(2, 251)}}))
    run.frames(2)
    run.switch(scale=4)
    run.ready()
    run.frames(gone)
    run.settled()
    run.frames(2)
    assert run.run() == [2] * (gone + 4)
    assert {r.outcome for r in run.sink.results} == {Outcome.UPSCALED}
    assert "told to fail on 2" in run.pipeline.status().switch_error
    assert run.pipeline.status().scale == 2
    assert not [line for line in run.said if "the engine failed" in line]


def test_a_first_frame_that_is_too_large_for_the_present_engine_is_bicubic_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results, "MOST_PIXELS", 64 * 8 * 10)
    run = Run(Openers(8, options={(2, "one"): {"fails": range(2, 251)}}))
    run.frames(2)
    run.switch(scale=2)
    run.ready()
    large = (16, 20)
    run.script += [make_frame(2, large), make_frame(3, large), make_frame(4)]
    run.number = 5
    run.settled()
    run.frames(1)
    assert run.run() == [8, 8, 2, 2, 8, 8]
    outcomes = [r.outcome for r in run.sink.results]
    assert outcomes == [Outcome.UPSCALED] * 2 + [Outcome.FAILED] * 2 + [Outcome.UPSCALED] * 2


def test_a_later_request_replaces_one_that_is_being_opened() -> None:
    go_on, at_once = threading.Event(), []
    openers = Openers(faults={(4, "one"): lambda: go_on.wait(60)})
    openers.faults = {**openers.faults, (8, "one"): lambda: at_once.append(openers.count_open())}
    run = Run(openers)
    run.frames(1)
    run.switch(scale=4)
    run.do(lambda: until(lambda: run.status == "x4 one: opening"))
    run.switch(scale=8)
    run.frames(2)
    run.do(go_on.set)
    run.ready("x8 one")
    run.frames(2)
    assert run.run() == [2] * 3 + [8] * 2
    assert at_once == [1], "the one that was not wanted any more is closed before the next is opened"


def test_later_requests_add_to_earlier_ones() -> None:
    go_on = threading.Event()
    run = Run(Openers(faults={(4, "one"): lambda: go_on.wait(60)}))
    run.frames(1)
    run.switch(scale=4)
    run.switch(model="two")
    run.do(go_on.set)
    run.ready("x4 two")
    run.frames(1)
    assert run.run() == [2, 4]
    assert run.sink.results[-1].model == "two"


@pytest.mark.parametrize("waits", ["opening", READY])
def test_a_request_for_what_is_in_use_takes_an_earlier_one_back(waits: str) -> None:
    go_on = threading.Event()
    if waits == READY:
        go_on.set()
    openers = Openers(faults={(4, "one"): lambda: go_on.wait(60)})
    run = Run(openers)
    run.frames(1)
    run.switch(scale=4)
    run.do(lambda: until(lambda: run.status.endswith(waits)))
    run.switch(scale=2)
    run.do(go_on.set)
    run.settled()
    run.frames(2)
    assert run.run() == [2] * 3
    assert not run.pipeline.status().switch_error


def test_in_an_outage_an_engine_waits_and_a_later_request_replaces_it() -> None:
    openers = Openers()
    run = Run(openers)
    run.frames(2)
    run.script.append(Outage("unplugged", over=False))
    run.switch(scale=4)
    run.ready("x4")
    run.script += [None, None]
    run.switch(scale=8)
    run.ready("x8")
    run.do(lambda: until(lambda: openers.count_open() == 2))
    run.script.append(Outage("unplugged", known=True))
    run.frames(2)
    assert run.run() == [2, 2, 8, 8]


def test_a_corrupt_frame_takes_no_engine() -> None:
    run = Run(Openers())
    run.frames(1)
    run.switch(scale=4)
    run.ready()
    run.script.append(Corrupt(1, 1, "torn"))
    run.ready()
    run.script.append(make_frame(2))
    run.script.append(run.pipeline.stop)
    run.pipeline.run()
    assert [(r.frame.number, r.scale) for r in run.sink.results] == [(0, 2), (2, 4)]


def test_an_engine_that_has_failed_is_replaced() -> None:
    openers = Openers(options={(2, "one"): {"fails": range(251)}})
    run = Run(openers)
    run.frames(3)
    run.do(lambda: until(lambda: run.pipeline.status().state is State.DEGRADED))
    run.switch(model="two")
    run.ready()
    run.frames(2)
    run.do(lambda: until(lambda: run.pipeline.status().state is State.RUNNING))
    run.script.append(run.pipeline.stop)
    run.pipeline.run()
    outcomes = [r.outcome for r in run.sink.results]
    assert outcomes == [Outcome.FAILED] * 3 + [Outcome.UPSCALED] * 2
    assert openers.count_open() == 0


def test_an_engine_that_fails_later_is_opened_again_as_it_is_now() -> None:
    openers = Openers(options={(4, "one"): {"fails": [4]}})
    run = Run(openers)
    run.frames(2)
    run.switch(scale=4)
    run.ready()
    run.frames(1)
    run.settled()
    run.frames(4)
    run.script.append(run.pipeline.stop)
    run.pipeline.run()
    assert [(r.scale, r.outcome is Outcome.FAILED) for r in run.sink.results] == [
        (2, False), (2, False), (4, False), (4, False), (4, True), (4, False), (4, False),
    ]  # fmt: skip
    assert [e.info.scale for e in openers.opened] == [2, 4, 4]


def test_before_the_first_frame_of_an_unknown_size_a_switch_waits_for_it() -> None:
    run = Run(Openers(), shape=None)
    run.switch(scale=8)
    run.ready("x8")
    run.frames(2)
    assert run.run() == [8, 8]


def test_a_switch_before_the_first_engine_is_open_that_fails_leaves_the_frames_to_that_one() -> None:
    """A recorded stream beside live ones opens its engine for its first frame."""
    beside = Pipeline(ScriptedSource([make_frame(0)], live=True, shape=SHAPE), FakeEngine, [], scale=2)
    run = Run(Openers(options={(4, "one"): {"fails": range(251)}}))
    run.number = 1
    run.switch(scale=4)
    run.ready()
    run.script += [make_frame(0)]
    run.frames(2)
    run.script.append(run.pipeline.stop)
    run_together([beside, run.pipeline])
    assert run.pipeline.error is None
    assert [(r.frame.number, r.scale, r.outcome) for r in run.sink.results] == [
        (number, 2, Outcome.UPSCALED) for number in range(3)
    ]
    assert "told to fail on 0" in run.pipeline.status().switch_error


def test_frames_that_change_their_size_keep_the_engine_that_was_switched_to() -> None:
    run = Run(Openers())
    run.frames(1)
    run.switch(scale=4)
    run.ready()
    run.frames(2)
    run.frames(2, (12, 6))
    run.frames(2)
    assert run.run() == [2] + [4] * 6


def test_a_live_stream_does_not_wait_for_an_engine_of_another_size() -> None:
    """It was opened on the engine's thread, where all streams waited for it."""
    openers = Openers()
    live = LiveEngine(openers, 2, ManualClock(), hurried=True)
    frame = make_frame(1, (12, 6))
    for opened in (0, 1):
        with pytest.raises(EngineError, match="frames are 6x12 now, which was not known; switch again"):
            live.attempt(PreparedFrame(frame, frame.image, 0))
        assert len(openers.opened) == opened
        live.open(SHAPE)
    live.close()
    assert openers.count_open() == 0


def test_an_image_that_would_be_too_large_is_refused_before_anything_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results, "MOST_PIXELS", 2000)
    openers, errors = Openers(), list[str]()
    run = Run(openers)

    def refused(*arguments: Any) -> None:
        with pytest.raises(UsageError) as caught:
            run.pipeline.switch(*arguments)
        errors.append(str(caught.value))

    run.do(partial(refused, 8))  # by the size that the source states
    run.frames(1)
    run.do(partial(refused, 8))
    run.do(partial(refused, 3))
    run.do(lambda: None if not run.status else pytest.fail(run.status))
    run.frames(1)
    assert run.run() == [2, 2]
    assert len(openers.opened) == 1
    assert "would become 80x64" in errors[0]
    assert errors[1] == errors[0]
    assert errors[2] == "scale 3 is not one of 2, 4, 8"


def test_a_frame_that_is_too_large_for_the_engine_that_waits_stays_with_the_present_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results, "MOST_PIXELS", 2000)
    run = Run(Openers())
    run.frames(1)
    run.switch(scale=4)
    run.ready()
    run.frames(1, (16, 20))
    run.settled()
    run.frames(1)
    assert run.run() == [2, 2, 2]
    assert "would become 80x64" in run.pipeline.status().switch_error


def test_a_run_that_has_no_other_engines_says_so_and_one_that_has_ended_too() -> None:
    run = Pipeline(ScriptedSource([make_frame(0)]), FakeEngine, [ListSink()], scale=2)
    with pytest.raises(UsageError, match="a function of its own"):
        run.switch(scale=4)
    run.run()
    with pytest.raises(UsageError, match="the run has ended"):
        run.switch(scale=4, open_engine=partial(FakeEngine, scale=4))


def test_of_streams_that_share_an_engine_one_is_switched_and_the_others_stay() -> None:
    openers = Openers()
    stage = EngineStage(partial(LiveEngine, openers, 2, FakeClock()))
    runs = [Run(openers, engine=stage) for _ in range(2)]
    switching, other = runs
    for run in runs:
        run.frames(2)
    switching.switch(scale=4)
    switching.ready()
    switching.frames(2)
    other.do(lambda: until(lambda: switching.pipeline.ledger.captured == 4))
    other.frames(3)
    for run in runs:
        run.script.append(run.pipeline.stop)
    run_together([run.pipeline for run in runs])
    assert [r.scale for r in switching.sink.results] == [2, 2, 4, 4]
    assert [r.scale for r in other.sink.results] == [2] * 5
    assert [r.frame.number for r in other.sink.results] == list(range(5))
    assert sorted(e.info.scale for e in openers.opened) == [2, 4]
    assert openers.count_open() == 0


class FakeClock:
    """Stands still."""

    def now_ns(self) -> int:
        return 1

    def sleep_until(self, time_ns: int) -> None:
        raise AssertionError


def make_switch(openers: Openers) -> EngineSwitch:
    return EngineSwitch(
        EngineAim.of(openers, 2),
        lambda opener, scale: LiveEngine(opener, scale, FakeClock()),
        lambda: (None, SHAPE),
    )


def test_a_run_that_ends_while_an_engine_is_opened_frees_it() -> None:
    go_on, begun = threading.Event(), threading.Event()
    openers = Openers(faults={(4, "one"): partial(hold, begun, go_on)})
    run = Run(openers)
    run.frames(1)
    run.switch(scale=4)
    run.do(lambda: begun.wait(60))
    source = run.pipeline.source
    assert isinstance(source, ScriptedSource)

    def let_go() -> None:
        until(lambda: run.pipeline._engines._closed)
        go_on.set()

    after = threading.Thread(target=let_go)
    after.start()
    assert run.run() == [2]
    joined(after)
    assert [e.info.scale for e in openers.opened] == [2, 4]
    assert source.closed == 1


def test_an_engine_that_is_never_open_is_given_up_and_freed_if_it_comes() -> None:
    go_on, begun = threading.Event(), threading.Event()
    openers, said = Openers(faults={(4, "one"): partial(hold, begun, go_on)}), hear()
    switch = make_switch(openers)
    switch.request(4, None, None)
    thread = switch._thread
    assert thread is not None
    assert begun.wait(60)
    switch.close(0.01)
    assert thread in left_behind
    assert said == ["x4 one is still being opened after 0 s and is given up"]
    left_behind.remove(thread)
    go_on.set()
    thread.join(60)
    assert [e.closed for e in openers.opened] == [True]


def test_an_engine_that_was_captured_for_and_never_got_the_frame_is_freed() -> None:
    openers = Openers()
    switch = make_switch(openers)
    switch.request(4, None, None)
    until(lambda: switch.choice is not None)
    assert switch.take(SHAPE) is switch.choice
    switch.close(60)
    assert [e.closed for e in openers.opened] == [True]


def test_an_engine_that_may_be_in_use_by_a_thread_that_hangs_is_left_to_it() -> None:
    openers = Openers()
    switch = make_switch(openers)
    switch.request(4, None, None)
    until(lambda: switch.choice is not None)
    switch.take(SHAPE)
    switch.close(60, hung=True)
    assert [e.closed for e in openers.opened] == [False]


def test_an_engine_that_cannot_be_closed_is_told_and_the_run_goes_on() -> None:
    class Stuck(FakeEngine):
        def close(self) -> None:
            super().close()
            raise RuntimeError("stuck")

    run = Run(Openers())
    run.openers.opened.append(engine := Stuck(SHAPE))
    run.pipeline._engine._make_engine = lambda: LiveEngine(lambda _shape: engine, 2, FakeClock())
    run.frames(1)
    run.switch(scale=4)
    run.ready()
    run.frames(1)
    run.settled()
    run.frames(1)
    assert run.run() == [2, 4, 4]
    assert "the engine that is out of use cannot be closed: stuck" in run.said


def test_twenty_switches_leave_no_thread_and_no_engine() -> None:
    before = threading.active_count()
    openers = Openers()
    run = Run(openers)
    run.frames(1)
    for scale in [4, 8, 4, 2] * 5:
        run.switch(scale=scale)
        run.ready(f"x{scale}")
        run.frames(1)
        run.settled()
        run.do(lambda: openers.count_open() == 1 or pytest.fail("an engine was left open"))
    assert run.run() == [2] + [4, 8, 4, 2] * 5
    assert threading.active_count() == before


def test_nothing_of_a_run_that_switched_is_kept() -> None:
    gc.collect()
    gc.disable()
    try:
        run = Run(Openers(options={(8, "one"): {"fails": range(2, 251)}}))
        run.frames(1)
        run.switch(scale=4)
        run.ready()
        run.frames(1)
        run.settled()
        run.switch(scale=8)
        run.ready()
        run.frames(2)
        run.settled()
        run.run()
        run.script.clear()
        kept: list[weakref.ref[Any]] = [weakref.ref(run.pipeline), *map(weakref.ref, run.openers.opened)]
        assert len(kept) == 4
        del run
        assert [reference() for reference in kept] == [None] * 4
    finally:
        gc.enable()
