from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support import ManualClock

from clesr.engines.guidance import Guidance
from clesr.engines.levels import Levels
from clesr.pipeline.frame import Fidelity, Frame, Outcome, Result, Times, Told
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.stats import Fidelities, Latency, Ledger, Rate, RateMonitor, RecentResults, RunStats


def result(captured_ns: int, *spans_ms: float) -> Result:
    image = np.zeros((2, 2), np.uint8)
    stamps = captured_ns + np.cumsum(np.array(spans_ms) * 1e6).astype(int)
    times = Times(captured_ns, *(int(t) for t in stamps))
    return Result(Frame(image, 0, captured_ns), image, image, Outcome.UPSCALED, 1, times, "m")


def test_ledger_balances_only_when_every_frame_has_one_outcome() -> None:
    ledger = Ledger()
    ledger.capture(3)
    ledger.record(Outcome.UPSCALED, 2)
    with pytest.raises(RuntimeError, match="3 captured, 2 outcomes"):
        ledger.check()
    ledger.record(Outcome.STALE)
    ledger.check()
    assert ledger.outcomes[Outcome.STALE] == 1


def test_recent_results_are_kept_for_a_second_and_in_so_many_bytes() -> None:
    made = [
        replace(each, frame=replace(each.frame, number=number))
        for number, each in enumerate(result(40_000_000 * number, 1, 1, 1) for number in range(100))
    ]
    recent, small = RecentResults(), RecentResults(40)  # 12 bytes each
    for each in made:
        recent.add(each)
        small.add(each)
    assert [number for number in range(101) if recent.find(number)] == list(range(74, 100))
    assert recent.find(80) is made[80]
    assert [number for number in range(101) if small.find(number)] == [97, 98, 99]
    alone = RecentResults(0)
    alone.add(made[0])
    assert alone.find(0) is made[0]
    assert alone.find(1) is None


def test_what_is_known_of_recent_results_counts_too() -> None:
    """The image degraded, and the map of trust: as large as the captured image."""
    image = np.zeros((2, 2), np.uint8)
    levels = Levels(1, 1, 0, 0, 0)
    more: list[dict[str, Any]] = [
        {},
        {"check": Fidelity(40.0, None, None, None, None, image)},
        {"told": Told(Guidance(levels.as_input(), image), levels, 1.0)},
    ]
    for known, kept in zip(more, (4, 3, 3), strict=True):
        recent = RecentResults(48)
        for number in range(5):
            made = result(number, 1, 1, 1)
            recent.add(replace(made, frame=replace(made.frame, number=number), **known))
        assert [number for number in range(5) if recent.find(number)] == list(range(5 - kept, 5))


def test_latency_percentiles_by_stage() -> None:
    latency = Latency()
    assert latency.percentiles() == {}
    for i in range(1, 101):
        latency.add(result(10**15 + 7 * i, 1, 2, i))
    table = latency.percentiles()
    assert table["prepare"]["p50"] == pytest.approx(1, abs=1e-3)
    assert table["wait"]["p99"] == pytest.approx(2, abs=1e-3)
    assert table["engine"]["p50"] == pytest.approx(50.5, abs=0.1)
    assert table["total"]["p99.9"] == pytest.approx(3 + np.percentile(np.arange(1, 101), 99.9), abs=0.1)


def test_latency_keeps_the_newest() -> None:
    latency = Latency(kept=4)
    for ms in (100, 1, 2, 3, 4):
        latency.add(result(0, 0, 0, ms))
    assert latency.percentiles()["total"]["p99.9"] < 5


def test_rate() -> None:
    rate = Rate()
    assert rate.recent() == rate.overall() == 0
    for i in range(101):
        rate.add(i * 40_000_000)
    assert rate.recent() == pytest.approx(25)
    assert rate.overall() == pytest.approx(25)


def test_the_rate_falls_where_nothing_comes() -> None:
    rate = Rate()
    assert rate.present(10**9) == 0
    for i in range(101):
        rate.add(i * 40_000_000)
    last = 100 * 40_000_000
    assert rate.present(last) == rate.present(last + 39_000_000) == pytest.approx(25)
    assert rate.present(last + 2_000_000_000) == pytest.approx(50 / 3.96)
    assert rate.present(last + 3600 * 10**9) < 0.02


def test_the_period_of_a_source_that_does_not_say_it_follows_what_comes() -> None:
    clock = ManualClock()
    monitor = RateMonitor(SourceInfo("camera", True, None, (2, 2), None), clock)
    assert monitor.shown_period_ns(0.0) is None
    for seconds in (0.0, 0.04, 0.04, 0.14):
        clock.advance(seconds)
        monitor.arrives()
    assert monitor.shown_period_ns(0.0) == pytest.approx(50_000_000, abs=2), "a tenth of the last interval"


def test_a_pause_does_not_make_the_next_old_image_look_live() -> None:
    """The rate of the last results had an outage in it: an image was called old only after an eighth of that."""
    clock = ManualClock()
    stats = RunStats(SourceInfo("camera", True, 25.0, (2, 2), None), clock)
    for pause in (0, 60_000, 3_600_000):
        for number in range(12):
            at = clock.now_ns() // 1_000_000 + (pause if number == 0 else 40)
            clock.sleep_until(at * 1_000_000)
            stats.rate.add(clock.now_ns())
        assert stats.status(clock.now_ns())["period_ns"] == 40_000_000
    for _ in range(30):
        clock.advance(1.0)
        stats.rate.add(clock.now_ns())
    assert stats.status(clock.now_ns())["period_ns"] == 2_000_000_000, "an engine that is slow by now"


def stalled_after(monitor: RateMonitor, clock: ManualClock, seconds: float) -> bool:
    """Whether the source counts as stalled after it was waited for so long."""
    monitor.idle.since_ns = clock.now_ns()
    clock.advance(seconds)
    stalled = monitor.is_stalled(clock.now_ns())
    monitor.idle.since_ns = None
    return stalled


def test_a_live_source_that_gave_one_frame_is_missed_all_the_same() -> None:
    clock = ManualClock()
    monitor = RateMonitor(SourceInfo("zmq", True, None, None, None), clock)
    assert not stalled_after(monitor, clock, 600), "nobody has sent anything yet"
    monitor.arrives()
    assert stalled_after(monitor, clock, 1.5)
    assert monitor.shown_period_ns(0.0)
    recorded = RateMonitor(SourceInfo("a folder", False, None, None, None), clock)
    recorded.arrives()
    assert not stalled_after(recorded, clock, 600), "it comes when it is read"


def test_a_pause_is_not_taken_for_the_pace() -> None:
    clock = ManualClock()
    monitor = RateMonitor(SourceInfo("zmq", True, None, None, None), clock)
    for seconds in (0.0, 60.0):
        clock.advance(seconds)
        monitor.arrives()
    assert stalled_after(monitor, clock, 4.5)


def test_that_recorded_input_runs_late_is_said_once() -> None:
    clock = ManualClock()
    monitor = RateMonitor(SourceInfo("a video", False, 25.0, None, None), clock)
    monitor.arrives()
    clock.advance(60)
    assert "this machine does 5.0 frames/s, the recording has 25" in (monitor.late(10, 5.0) or "")
    clock.advance(60)
    assert monitor.late(20, 4.0) is None


def test_fidelities_are_summed_up() -> None:
    fidelities = Fidelities(kept=50)
    assert fidelities.summary() == {}
    fidelities.add(result(0, 1, 1, 1))
    assert fidelities.summary() == {}, "what was not measured does not count"
    image = np.zeros((2, 2), np.uint8)
    for i in range(200):  # the first hundred, lower by 10 dB, have left the ring
        db = 40 + (i % 100) / 10 + 10 * (i >= 100)
        check = Fidelity(db, None, db - 5 if i else None, (0, 0) if i else None, 36.0, image)
        fidelities.add(replace(result(0, 1, 1, 1), fidelity=db, check=check))
    summary = fidelities.summary()
    assert summary["frames"] == 200
    assert summary["p50"] == pytest.approx(57.45, abs=0.01)
    assert summary["p1"] == pytest.approx(55.05, abs=0.01)
    assert (summary["worst"], summary["worst_tile"]) == (40.0, 35.1)
    assert (summary["limit"], summary["below_limit"]) == (36.0, 9)


def test_without_a_limit_nothing_is_judged() -> None:
    fidelities, image = Fidelities(), np.zeros((2, 2), np.uint8)
    check = Fidelity(44.0, None, None, None, None, image)
    fidelities.add(replace(result(0, 1, 1, 1), fidelity=44.0, check=check))
    assert fidelities.summary() == {
        "frames": 1, "p50": 44.0, "p1": 44.0, "worst": 44.0, "worst_tile": None, "limit": None,
        "below_limit": None,
    }  # fmt: skip
