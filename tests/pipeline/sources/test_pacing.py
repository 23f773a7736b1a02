"""Pacing on a clock that moves only when it is slept on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ManualClock, ScriptedSource

from clesr.engines.common.errors import EndOfSource, SourceError, UsageError
from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.source import Pace, parse_pace
from clesr.pipeline.sources.pacing import Paced

MS = 1_000_000
IMAGE = np.zeros((2, 2), np.uint8)
TICK = Fraction(1, 1000)


def frames(times_ms: Sequence[int | None]) -> list[Frame]:
    return [
        Frame(IMAGE, number, 0, time, None if time is None else TICK) for number, time in enumerate(times_ms)
    ]


def paced(
    times_ms: Sequence[int | None], clock: ManualClock, *, pace: Pace = "original", fps: float | None = None
) -> Paced:
    return Paced(ScriptedSource(frames(times_ms), fps=fps), clock=clock, pace=pace)


def releases(source: Paced, clock: ManualClock, *, busy_ms: Sequence[int] = ()) -> list[int]:
    """Milliseconds after the start at which frames come to a reader that is busy after each."""
    start, seen = clock.now_ns(), []
    try:
        while True:
            item = source.read(1000)
            assert isinstance(item, Frame | Corrupt)
            assert item.time_ns == clock.now_ns()
            seen.append((item.time_ns - start) // MS)
            if len(seen) <= len(busy_ms):
                clock.advance(busy_ms[len(seen) - 1] / 1000)
    except EndOfSource:
        return seen


def test_original_pace_follows_the_time_stamps() -> None:
    clock = ManualClock()
    assert releases(paced([500, 540, 545, 1000], clock), clock) == [0, 40, 45, 500]


def test_original_pace_without_time_stamps_follows_the_rate() -> None:
    clock = ManualClock()
    assert releases(paced([None] * 4, clock, fps=20.0), clock) == [0, 50, 100, 150]


def test_without_stamps_and_rate_nothing_is_waited_for() -> None:
    clock = ManualClock()
    assert releases(paced([None] * 3, clock), clock) == [0, 0, 0]


def test_as_fast_as_they_are_read() -> None:
    clock = ManualClock()
    assert releases(paced([0, 1000, 2000], clock, pace="max"), clock, busy_ms=[3, 4]) == [0, 3, 7]


@pytest.mark.parametrize("pace", [10, 10.0, "10"])
def test_a_given_rate_passes_over_the_time_stamps(pace: Pace) -> None:
    clock = ManualClock()
    source = paced([0, 1, 2, 3], clock, pace=pace)
    assert releases(source, clock) == [0, 100, 200, 300]


def test_a_short_delay_is_made_up() -> None:
    clock = ManualClock()
    source = paced([0, 40, 80, 120, 160], clock)
    assert releases(source, clock, busy_ms=[0, 70, 0, 0]) == [0, 40, 110, 120, 160]


def test_a_long_delay_moves_the_schedule_and_no_burst_follows() -> None:
    clock = ManualClock()
    source = paced([0, 40, 80, 120, 160], clock)
    assert releases(source, clock, busy_ms=[0, 500, 0, 0]) == [0, 40, 540, 580, 620]


def test_after_a_long_gap_a_delay_of_a_tenth_of_a_second_is_made_up_at_most() -> None:
    clock = ManualClock()
    source = paced([0, 10_000, 10_040, 10_080], clock)
    assert releases(source, clock, busy_ms=[12_000, 0, 0]) == [0, 12_000, 12_040, 12_080]


@given(
    gaps=st.lists(st.integers(1, 400), min_size=1, max_size=20),
    busy=st.lists(st.integers(0, 600), min_size=20, max_size=20),
)
def test_a_slow_reader_gets_every_frame_and_never_a_burst(gaps: list[int], busy: list[int]) -> None:
    clock = ManualClock()
    times = [sum(gaps[:index]) for index in range(len(gaps) + 1)]
    seen = releases(paced(list(times), clock), clock, busy_ms=busy)
    assert len(seen) == len(times)
    for first in range(len(seen)):
        for last in range(first + 1, len(seen)):
            # A stretch of the recording is never played faster than by the delay that may be made up.
            assert seen[last] - seen[first] >= times[last] - times[first] - 101


def test_a_time_out_before_the_frame_is_due() -> None:
    clock = ManualClock()
    source = paced([0, 1000], clock)
    assert source.read(0.1) is not None
    start = clock.now_ns()
    assert source.read(0.1) is None
    assert clock.now_ns() - start == 100 * MS
    item = source.read(5)
    assert isinstance(item, Frame)
    assert (item.number, clock.now_ns() - start) == (1, 1000 * MS)


def test_corrupt_frames_do_not_wait() -> None:
    clock = ManualClock()
    first, second = frames([0, 80])
    script: list[Frame | Corrupt] = [first, Corrupt(1, 0, "broken"), replace(second, number=2)]
    source = Paced(ScriptedSource(script), clock=clock)
    assert releases(source, clock) == [0, 0, 80]


def test_a_source_that_has_nothing_yet() -> None:
    source = Paced(ScriptedSource([None, *frames([0])]), clock=ManualClock())
    assert source.read(0.1) is None
    assert source.read(0.1) is not None


def test_the_end_stays_the_end() -> None:
    source = paced([0], ManualClock())
    source.read(0)
    for _ in range(2):
        with pytest.raises(EndOfSource):
            source.read(0)


class WakingClock(ManualClock):
    """Closes a source in the middle of the first sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.source: Paced | None = None
        self.slept: list[int] = []

    def sleep_until(self, time_ns: int) -> None:
        self.slept.append(time_ns - self.now_ns())
        super().sleep_until(time_ns)
        assert self.source is not None
        self.source.close()


def test_close_ends_a_waiting_read_soon() -> None:
    clock = WakingClock()
    clock.source = paced([0, 3_600_000], clock)
    clock.source.read(0)
    with pytest.raises(EndOfSource):
        clock.source.read(10_000)
    assert clock.slept == [20 * MS]


class Recording(ScriptedSource):
    """Fresh frames at each opening; keeps what was opened."""

    opened: list[Recording]

    def __init__(
        self, times_ms: Sequence[int | None], opened: list[Recording], fps: float | None = None
    ) -> None:
        super().__init__(frames(times_ms), fps=fps)
        opened.append(self)


def looped(
    times_ms: Sequence[int | None], clock: ManualClock, opened: list[Recording], fps: float | None
) -> Paced:
    first = Recording(times_ms, opened, fps)
    return Paced(first, clock=clock, reopen=lambda: Recording(times_ms, opened, fps))


def test_a_loop_goes_on_in_numbers_and_times() -> None:
    clock, opened = ManualClock(), list[Recording]()
    source = looped([500, 540, 580], clock, opened, 25.0)
    assert source.info.frames is None
    items = [source.read(10) for _ in range(8)]
    assert [item.number for item in items if isinstance(item, Frame)] == list(range(8))
    stamps = [item.pts for item in items if isinstance(item, Frame)]
    assert stamps == [500, 540, 580, 620, 660, 700, 740, 780]
    times = [item.time_ns for item in items if isinstance(item, Frame)]
    assert [(time - times[0]) // MS for time in times] == [0, 40, 80, 120, 160, 200, 240, 280]
    assert [recording.closed for recording in opened] == [1, 1, 0]
    source.close()
    assert opened[-1].closed == 1


@given(
    gaps=st.lists(st.integers(1, 2000), max_size=6),
    start=st.integers(-1000, 100_000),
    fps=st.one_of(st.none(), st.floats(0.5, 200)),
)
def test_a_loop_always_rises(gaps: list[int], start: int, fps: float | None) -> None:
    clock, opened = ManualClock(), list[Recording]()
    source = looped([start + sum(gaps[:index]) for index in range(len(gaps) + 1)], clock, opened, fps)
    items = [source.read(100_000) for _ in range(3 * (len(gaps) + 1) + 1)]
    assert [item.number for item in items if isinstance(item, Frame)] == list(range(len(items)))
    stamps = [item.pts for item in items if isinstance(item, Frame)]
    assert len(stamps) == len(items)
    assert all(a is not None and b is not None and a < b for a, b in pairwise(stamps))


def test_a_loop_over_nothing_ends() -> None:
    opened = list[Recording]()
    source = looped([], ManualClock(), opened, None)
    with pytest.raises(EndOfSource):
        source.read(1)
    assert len(opened) == 1


def test_a_loop_over_a_file_that_has_gone() -> None:
    def gone() -> Recording:
        raise SourceError("a.mkv: no such file; check the path")

    source = Paced(ScriptedSource(frames([0])), clock=ManualClock(), reopen=gone)
    source.read(1)
    with pytest.raises(SourceError, match="no such file"):
        source.read(1)


def test_close_from_another_thread() -> None:
    inner = ScriptedSource(frames([0]))
    source = Paced(inner, clock=ManualClock())
    thread = threading.Thread(target=source.close)
    thread.start()
    thread.join(timeout=5)
    assert inner.closed == 1
    with pytest.raises(EndOfSource):
        source.read(0)


@pytest.mark.parametrize("pace", ["fast", "", "0", 0, -3, "nan", "inf", 1e9])
def test_other_paces_are_refused(pace: Pace) -> None:
    with pytest.raises(UsageError, match="original, max"):
        parse_pace(pace)


def test_info_is_the_sources() -> None:
    inner = ScriptedSource([], fps=12.0, shape=(3, 4))
    assert Paced(inner).info == inner.info
