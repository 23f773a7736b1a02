"""Several streams that end one after the other."""

from __future__ import annotations

from collections.abc import Iterator

from session_runs import frames, make_run
from support import Step, until

from clesr.tools.common.runs import run_pipelines

ALARM, REASON = "RECORDING ENDED: the disk is full", "the camera was pulled"


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
