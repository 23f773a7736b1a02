"""Several streams that end one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from session_runs import frames, make_run
from support import ListSink, Step, until

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import SinkError
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.status import Status
from clesr.pipeline.watchdog import Timeouts
from clesr.tools.common.runs import run_pipelines

ALARM, REASON = "RECORDING ENDED: the disk is full", "the camera was pulled"
ENDED = f"broken: STREAM ENDED: {REASON}"


class View(ListSink):
    def refresh(self, _status: Status) -> bool:
        return True


def fails(_result: object) -> None:
    raise OSError("the screen is gone")


def test_what_nobody_has_seen_of_a_stream_that_ends_waits_in_another() -> None:
    """Its window and its page end with it."""

    def going_on() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: len(left.alarms.waiting) == 2)

    def breaking() -> Iterator[Step]:
        yield from frames(range(2))
        right.alarms.add("seen")
        right.alarms.acknowledge()
        right.alarms.add(ALARM)
        yield RuntimeError(REASON)

    left, right = (make_run(script)[0] for script in (going_on(), breaking()))
    run_pipelines({"left": (left, None), "right": (right, None)})
    assert left.alarms.waiting == (f"right: STREAM ENDED: {REASON}", f"right: {ALARM}")
    assert right.alarms.waiting == (), "whoever acknowledges it there has seen it"
    assert right.status().alarms == ()


def test_it_waits_where_somebody_sees_it() -> None:
    """The window of another stream may have broken, while its recording goes on."""

    def going_blind() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: any(ENDED in alarm for each in (blind, seen) for alarm in each.alarms.waiting))

    def going_on() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: not blind.busy)

    def breaking() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: not blind.views)
        yield RuntimeError(REASON)

    blind = make_run(going_blind(), sinks=[View("window", on_write=fails), ListSink("keeps")])[0]
    seen = make_run(going_on(), sinks=[View("window")])[0]
    broken = make_run(breaking(), sinks=[View("window")])[0]
    run_pipelines({"blind": (blind, None), "seen": (seen, None), "broken": (broken, None)})
    assert ENDED in seen.alarms.waiting
    assert blind.alarms.waiting == ()


def test_a_stream_whose_window_broke_is_heard_of_beside_another() -> None:
    """Also what becomes of it later; its own window shows nothing any more, the stream itself goes on."""
    lost = "blind: OUTPUT ENDED: window broke: the screen is gone"

    def going_blind() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: seen.alarms.waiting == (lost,))
        assert seen.alarms.acknowledge() == lost
        blind.alarms.add(ALARM)
        yield from frames(range(2, 4))

    def going_on() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: not blind.busy)

    blind = make_run(going_blind(), sinks=[View("window", on_write=fails), ListSink("keeps")])[0]
    seen = make_run(going_on(), sinks=[View("window")])[0]
    run_pipelines({"blind": (blind, None), "seen": (seen, None)})
    assert blind.ledger.captured == 4
    assert seen.alarms.waiting == (f"blind: {ALARM}",)
    assert blind.alarms.waiting == ()


def test_without_another_that_is_seen_a_stream_keeps_its_alarms() -> None:
    def until_both_are_blind() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: sum(len(run.alarms.waiting) for run in both) == 2)

    def blind() -> Pipeline:
        sinks = [View("window", on_write=fails), ListSink("keeps")]
        return make_run(until_both_are_blind(), sinks=sinks)[0]

    both = [blind(), blind()]
    run_pipelines({"left": (both[0], None), "right": (both[1], None)})
    assert all(run.ended_by is None for run in both)
    waiting = sorted(alarm for run in both for alarm in run.alarms.waiting)
    lost = "OUTPUT ENDED: window broke: the screen is gone"
    assert waiting in ([lost, f"left: {lost}"], [lost, f"right: {lost}"], [lost, lost])


def test_an_output_that_broke_and_was_acknowledged_is_no_end_of_the_stream() -> None:
    def going_on() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: not other.busy)

    def fails(_result: object) -> None:
        raise OSError("no space is left")

    def losing() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: bool(other.alarms.acknowledge()))
        yield from frames(range(2, 4))

    stays = make_run(going_on())[0]
    other = make_run(losing(), sinks=[ListSink("out", on_write=fails), ListSink("keeps")])[0]
    run_pipelines({"stays": (stays, None), "other": (other, None)})
    assert other.error is not None
    assert stays.alarms.waiting == ()


def fails_at_close(_run: Pipeline, output: Any) -> None:
    def close() -> str | None:
        raise OSError("no space is left")

    output.close = close


def hangs_at_close(run: Pipeline, output: Any) -> None:
    """Until it is given up."""
    close = output.close

    def hang() -> Any:
        until(lambda: run.error is not None)
        return close()

    output.close = hang
    run._ending._timeouts = Timeouts(full=24 * 3600.0, told=0.1, close=0.2, recorder=0.2)


@pytest.mark.parametrize("name", ["out", "recorder"])
@pytest.mark.parametrize("breaking", [fails_at_close, hangs_at_close])
def test_what_breaks_while_a_stream_is_closed_is_an_alarm_beside_it(
    breaking: Callable[[Pipeline, Any], None], name: str, tmp_path: Path
) -> None:
    def going_on() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: bool(stays.alarms.waiting))

    out: Any = ListSink("out")
    stays = make_run(going_on(), sinks=[View("window")])[0]
    ends = make_run(frames(range(2)), sinks=[View("window"), out], clock=SYSTEM)[0]
    ends.start_recording(tmp_path / "s")
    assert isinstance(ends.recorder, Recorder)
    breaking(ends, out if name == "out" else ends.recorder._segments)
    run_pipelines({"stays": (stays, None), "ends": (ends, None)})
    assert stays.ended_by is None
    (alarm,) = stays.alarms.waiting
    assert re.match("ends: (OUTPUT|RECORDING) ENDED: ", alarm)


def test_a_ledger_that_does_not_balance_is_an_alarm_beside_it() -> None:
    def going_on() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: bool(stays.alarms.waiting))

    stays, ends = make_run(going_on())[0], make_run(frames(range(2)))[0]
    ends.ledger.capture()
    run_pipelines({"stays": (stays, None), "ends": (ends, None)})
    (alarm,) = stays.alarms.waiting
    assert alarm.startswith("ends: STREAM ENDED: ")


def test_a_window_that_breaks_while_another_stream_is_closed_is_heard_of_at_once() -> None:
    closing = Event()

    def close() -> str | None:
        closing.set()
        until(lambda: bool(seen.alarms.waiting))
        return None

    def breaks(_result: object) -> None:
        until(closing.is_set)
        fails(_result)

    def going_blind() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: bool(seen.alarms.waiting))

    def going_on() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: not blind.busy and not ends.busy)

    slow = ListSink("slow")
    slow.close = close  # type: ignore[method-assign]
    ends = make_run(frames(range(2)), sinks=[slow])[0]
    blind = make_run(going_blind(), sinks=[View("window", on_write=breaks), ListSink("keeps")])[0]
    seen = make_run(going_on(), sinks=[View("window")])[0]
    run_pipelines({"ends": (ends, None), "blind": (blind, None), "seen": (seen, None)})
    assert seen.alarms.waiting == ("blind: OUTPUT ENDED: window broke: the screen is gone",)


def test_a_window_that_hangs_shows_no_alarm_of_another() -> None:
    go_on = Event()

    class Hangs(View):
        def refresh(self, _status: Status) -> bool:
            return go_on.wait(60)

    def hanging() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: bool(seen.alarms.waiting))
        go_on.set()

    def going_on() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: not hangs.busy and not ends.busy)

    def ending() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: not all(hangs.views.values()))
        ends.alarms.add(ALARM)

    hangs = make_run(hanging(), sinks=[Hangs("window"), ListSink("keeps")], clock=SYSTEM)[0]
    ends = make_run(ending(), sinks=[View("window")])[0]
    seen = make_run(going_on(), sinks=[View("window")])[0]
    run_pipelines({"hangs": (hangs, None), "ends": (ends, None), "seen": (seen, None)})
    assert seen.alarms.waiting == (f"ends: {ALARM}",)


def test_a_last_look_that_fails_is_no_error_of_the_run() -> None:
    class Late(View):
        def refresh(self, _status: Status) -> bool:
            if not run.busy:
                raise SinkError("the window has died")
            return True

    run = make_run(frames(range(2)), sinks=[Late("window")])[0]
    run_pipelines({"alone": (run, None)})
    assert run.error is None


def test_a_recording_that_breaks_after_one_that_could_not_begin_is_an_alarm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    def going_on() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: bool(stays.alarms.waiting))

    def recorded() -> Iterator[Step]:
        ends.start_recording(tmp_path / "file" / "s")
        yield from frames(range(2))
        until(lambda: bool(ends.alarms.acknowledge()))
        ends.start_recording(tmp_path / "s")
        yield from frames(range(2, 4))

    stays = make_run(going_on(), sinks=[View("window")])[0]
    ends = make_run(recorded(), sinks=[View("window")], clock=SYSTEM)[0]
    assert isinstance(ends.recorder, Recorder)
    hangs_at_close(ends, ends.recorder._segments)
    run_pipelines({"stays": (stays, None), "ends": (ends, None)})
    assert stays.ended_by is ends.ended_by is None
    (alarm,) = stays.alarms.waiting
    assert alarm.startswith("ends: OUTPUT ENDED: recorder broke: ")


def test_a_write_that_comes_back_after_it_was_given_up_raises_no_alarm_again() -> None:
    come_back = Event()

    def hang(_result: object) -> None:
        until(come_back.is_set)

    def going_on() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: bool(stays.alarms.acknowledge()))
        come_back.set()
        until(lambda: worker._thread is not None and not worker._thread.is_alive())

    stays = make_run(going_on(), sinks=[View("window")])[0]
    ends = make_run(frames(range(2)), sinks=[ListSink("out", on_write=hang)], clock=SYSTEM)[0]
    ends._ending._timeouts = Timeouts(full=24 * 3600.0, told=0.1, close=0.2)
    (worker,) = (worker for worker in ends._workers if worker.sink.name == "out")
    run_pipelines({"stays": (stays, None), "ends": (ends, None)})
    assert stays.ended_by is None
    assert stays.alarms.waiting == ()


def test_while_all_end_alarms_go_where_a_window_is_still_open() -> None:
    def going_blind() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: ends.alarms.handed_over)

    def going_on() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: not blind.busy)

    def ending() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: any(run.alarms.acknowledge() for run in (ends, seen)))  # that a window broke
        for run in (blind, seen):
            run._ending.stop.set()
        ends.alarms.add(ALARM)

    blind = make_run(going_blind(), sinks=[View("window", on_write=fails), ListSink("keeps")])[0]
    ends = make_run(ending(), sinks=[View("window")])[0]
    seen = make_run(going_on(), sinks=[View("window")])[0]
    run_pipelines({"blind": (blind, None), "ends": (ends, None), "seen": (seen, None)})
    assert seen.alarms.waiting == (f"ends: {ALARM}",)
