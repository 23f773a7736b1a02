"""Several streams that end one after the other."""

from __future__ import annotations

from collections.abc import Iterator

from session_runs import frames, make_run
from support import ListSink, Step, until

from clesr.tools.common.runs import run_pipelines

ALARM, REASON = "RECORDING ENDED: the disk is full", "the camera was pulled"
ENDED = f"broken: STREAM ENDED: {REASON}"


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
    assert right.alarms.waiting == (ALARM,), "its summary has it, too"


def test_it_waits_where_somebody_sees_it() -> None:
    """The window of another stream may have broken, while its recording goes on."""

    def waiting() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: any(ENDED in alarm for each in (blind, seen) for alarm in each.alarms.waiting))

    def fails(_result: object) -> None:
        raise OSError("the screen is gone")

    def breaking() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: bool(blind.alarms.waiting))
        yield RuntimeError(REASON)

    blind = make_run(waiting(), sinks=[ListSink("window", on_write=fails), ListSink("keeps")])[0]
    seen = make_run(waiting(), sinks=[ListSink("window")])[0]
    broken = make_run(breaking(), sinks=[ListSink("window")])[0]
    run_pipelines({"blind": (blind, None), "seen": (seen, None), "broken": (broken, None)})
    assert seen.alarms.waiting == (ENDED,)
    assert ENDED not in blind.alarms.waiting


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
