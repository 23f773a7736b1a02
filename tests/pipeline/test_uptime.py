"""The monotonic clock begins near zero when a machine boots: nothing may depend on where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from session_runs import PERIOD_NS, frames, make_run, noise, record
from support import FakeEngine, ListSink, ManualClock, ShiftedClock, Step

from clesr.pipeline.alarms import Alarms
from clesr.pipeline.frame import Frame, Outcome
from clesr.pipeline.session.commit import DEAD_NS, Committer, DiskWatchdog
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.verify import verify
from clesr.pipeline.session.writer import SessionWriter

YEAR_NS = 365 * 86_400 * 10**9
BOOTED = pytest.mark.parametrize("now_ns", [0, 1, 60 * 10**9, YEAR_NS, 100 * YEAR_NS])


@BOOTED
@pytest.mark.parametrize("live", [False, True])
def test_a_recording_holds_and_has_the_same_times(tmp_path: Path, now_ns: int, live: bool) -> None:
    clock = ManualClock(now_ns)

    def stamped(number: int) -> Step:
        if number:
            clock.advance(PERIOD_NS / 1e9)
        return Frame(noise(number), number, clock.now_ns())

    sink = ListSink()

    def script() -> Iterator[Step]:
        for number in range(6):
            yield stamped(number)
            while len(sink.results) <= number:
                yield None

    run, _ = make_run(script(), live=live, sinks=[sink], clock=clock)
    run.start_recording(tmp_path)
    summary = run.run()
    certificate = verify(tmp_path)
    assert certificate.problems == ()
    assert summary.seconds == pytest.approx(5 * PERIOD_NS / 1e9)
    records = list(read_session(tmp_path).records())
    assert [r.captured_ns - now_ns for r in records] == [n * PERIOD_NS for n in range(6)]
    assert [r.ticks for r in records] == [40 * n for n in range(6)]
    assert {r.outcome for r in records} == {Outcome.UPSCALED}


@BOOTED
def test_a_disk_is_given_up_after_the_same_time(now_ns: int) -> None:
    clock = ManualClock(now_ns)
    watchdog = DiskWatchdog(clock)
    assert not watchdog.full()
    for _ in range(10):
        clock.advance(DEAD_NS / 1e10)
        assert not watchdog.full()
    clock.advance(1)
    assert watchdog.full()


@BOOTED
def test_the_first_commit_is_due_at_once(tmp_path: Path, now_ns: int) -> None:
    record(tmp_path / "a", frames(range(2)))
    (tmp_path / "b").mkdir()
    writer = SessionWriter(tmp_path / "b", read_session(tmp_path / "a").info)
    begun: list[int] = []
    prepare = writer.prepare_commit
    writer.prepare_commit = lambda: begun.append(1) or prepare()  # type: ignore[method-assign,func-returns-value]
    clock = ManualClock(now_ns)
    committer = Committer(Alarms())
    committer.commit_when_due(writer, clock.now_ns(), clock.now_ns())
    assert begun
    committer.end(writer)
    committer.close()


@BOOTED
def test_a_broken_engine_is_opened_again_before_the_next_frame(tmp_path: Path, now_ns: int) -> None:
    opened: list[FakeEngine] = []

    def factory(shape: tuple[int, int]) -> FakeEngine:
        opened.append(FakeEngine(shape, depth=1, fails=() if opened else range(256)))
        return opened[-1]

    record(tmp_path, frames(range(6), timed=False), factory=factory, clock=ShiftedClock(now_ns))
    outcomes = [r.outcome for r in read_session(tmp_path).records()]
    assert outcomes[0] is Outcome.FAILED
    assert outcomes[-1] is Outcome.UPSCALED
    assert len(opened) == 2
    assert verify(tmp_path).problems == ()
