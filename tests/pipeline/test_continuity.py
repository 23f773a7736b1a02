"""Numbers and times of a source that cannot be: every frame read is captured, and has one outcome."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import make_frame

from clesr.pipeline.continuity import DAY_S, LAST_NUMBER, SLACK, Continuity, Placed
from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.source import SourceInfo

START_NS, PERIOD_NS, DELAY_NS = 5_000_000_000, 40_000_000, 3_000_000
HOUR_NS = 3600 * 10**9


def frames(count: int) -> list[Frame]:
    return [make_frame(n, time_ns=START_NS + n * PERIOD_NS) for n in range(count)]


def place(items: list[Frame], *, fps: float | None = 25.0) -> list[Placed]:
    """Each of ``items`` as it is placed where it comes DELAY_NS after it should have been captured."""
    continuity = Continuity(SourceInfo("scripted", True, fps))
    return [
        continuity.place(item, START_NS + n * PERIOD_NS + DELAY_NS, START_NS) for n, item in enumerate(items)
    ]


def test_what_follows_stays_as_it_is() -> None:
    given = frames(20)
    placed = place(given)
    assert [p.item for p in placed] == given
    assert not any(p.lost or p.remark for p in placed)


@pytest.mark.parametrize("once", [True, False], ids=["once", "for good"])
@pytest.mark.parametrize(
    "off_ns",
    [-HOUR_NS, HOUR_NS, -100_000_000, 100_000_000, -(2**70), 2**70, -(START_NS + 50 * PERIOD_NS + 5)],
)
def test_a_clock_that_is_set_costs_no_frame_and_little_exactness(off_ns: int, once: bool) -> None:
    given = frames(100)
    wrong = [
        replace(f, time_ns=f.time_ns + off_ns) if (n == 50 if once else n >= 50) else f
        for n, f in enumerate(given)
    ]
    placed = place(wrong)
    for frame, found in zip(given, placed, strict=True):
        assert abs(found.item.time_ns - frame.time_ns) <= PERIOD_NS
        assert found.item.number == frame.number
        assert not found.lost
    assert [n for n, p in enumerate(placed) if p.remark] == ([50] if once else list(range(50, 100)))
    assert "time" in placed[50].remark


@pytest.mark.parametrize(
    ("numbers", "expected", "lost"),
    [
        ([0, 1, 5, 6], [0, 1, 5, 6], 3),
        ([0, 1, 1, 2, 3], [0, 1, 2, 3, 4], 0),
        ([0, 1, 2, 2, 4, 5], [0, 1, 2, 3, 4, 5], 0),
        ([50, 51, 0, 1, 2], [50, 51, 52, 53, 54], 0),
        ([50, 51, 0, 1, 3], [50, 51, 52, 53, 55], 1),
        ([0, 1, 2**62, 2**62 + 1, 2**62 + 3], [0, 1, 2, 3, 5], 1),
        ([0, 1, 2**62, 3, 4], [0, 1, 2, 3, 4], 0),
        ([2**62, 2**62 + 1], [0, 1], 0),
        ([0, 1, 2 + SLACK], [0, 1, 2 + SLACK], SLACK),
        ([0, 1, 1100 + SLACK, 1101 + SLACK], [0, 1, 2, 3], 0),
        ([0, 1, 10**5000, 2], [0, 1, 2, 3], 0),
    ],
)
def test_numbers_rise_and_gaps_are_believable(numbers: list[int], expected: list[int], lost: int) -> None:
    given = [replace(f, number=n) for f, n in zip(frames(len(numbers)), numbers, strict=True)]
    placed = place(given)
    assert [p.item.number for p in placed] == expected
    assert sum(p.lost for p in placed) == lost
    assert [bool(p.remark) for p in placed] == [n != e for n, e in zip(numbers, expected, strict=True)]


def test_a_gap_may_be_as_long_as_time_and_rate_allow() -> None:
    continuity = Continuity(SourceInfo("scripted", True, 25.0))
    hour = 25 * 3600
    continuity.place(make_frame(0, time_ns=START_NS), START_NS, START_NS)
    later = START_NS + HOUR_NS
    assert continuity.place(make_frame(hour, time_ns=later), later, START_NS).lost == hour - 1


def test_recorded_input_states_the_time_that_allows_a_gap() -> None:
    continuity = Continuity(SourceInfo("scripted", False, 25.0))
    base, hour = Fraction(1, 25), 25 * 3600
    image = np.zeros((2, 2), np.uint8)
    continuity.place(Frame(image, 0, 1, 0, base), 10, 0)
    assert continuity.place(Frame(image, hour, 2, hour, base), 11, 0).lost == hour - 1
    far = Frame(image, hour + 2**60, 3, hour + 2**60, base)
    placed = continuity.place(far, 12, 0)
    assert (placed.item.number, placed.lost) == (hour + 1, 0)
    assert isinstance(placed.item, Frame)
    assert placed.item.pts is None, f"longer than {DAY_S} s: it follows the frame before it"
    assert "presentation" in placed.remark


def test_a_frame_that_is_corrupt_is_placed_too() -> None:
    continuity = Continuity(SourceInfo("scripted", True))
    continuity.place(make_frame(7, time_ns=START_NS), START_NS, START_NS)
    placed = continuity.place(Corrupt(-3, 2**80, "torn"), START_NS + 10, START_NS)
    assert placed.item == Corrupt(8, START_NS + 10, "torn")
    assert "-3" in placed.remark


SOMETIMES_ODD = st.one_of(st.just(0), st.just(0), st.integers(-10, 10), st.integers(-(2**80), 2**80))


@given(
    odds=st.lists(st.tuples(SOMETIMES_ODD, SOMETIMES_ODD, st.integers(0, 10**9)), max_size=60),
    live=st.booleans(),
    fps=st.sampled_from([None, 0.01, 25.0, 1e300, float("inf")]),
    corrupt=st.booleans(),
)
def test_whatever_a_source_says_the_frames_are_in_order(
    odds: list[tuple[int, int, int]], live: bool, fps: float | None, corrupt: bool
) -> None:
    continuity = Continuity(SourceInfo("scripted", live, fps))
    now, last = START_NS, None
    for n, (number, time_ns, later_ns) in enumerate(odds):
        now += later_ns
        if corrupt:
            given: Frame | Corrupt = Corrupt(n + number, now + time_ns, "")
        else:
            given = make_frame(max(0, n + number), time_ns=now + time_ns)
        item, lost, remark = continuity.place(given, now, START_NS if live else 0)
        assert 0 <= item.number < LAST_NUMBER
        assert item.time_ns <= now
        assert bool(remark) == ((item.number, item.time_ns) != (given.number, given.time_ns))
        if last is not None:
            assert item.number == last.number + 1 + lost
            assert item.time_ns >= last.time_ns
            assert 0 <= lost <= SLACK + 20_000 * (later_ns / 1e9 + 1)
        last = item


def test_remarks_say_by_how_much_and_what_the_source_said() -> None:
    items = frames(6)
    items[3] = replace(items[3], time_ns=items[3].time_ns - HOUR_NS)
    items[4] = replace(items[4], number=2**70)
    remarks = [p.remark for p in place(items)]
    assert remarks[:3] == ["", "", ""]
    assert remarks[3] == "the source's time for it was off by -3600.000 s"
    assert remarks[4] == "the source called it frame beyond 2^64"
    items[3] = replace(items[3], time_ns=-(2**80))
    assert place(items)[3].remark == "the source's time for it was off by more than a century"


@pytest.mark.parametrize(("gap", "lost"), [(SLACK, SLACK), (SLACK + 1, 0)])
def test_a_gap_that_no_time_allows_has_a_limit(gap: int, lost: int) -> None:
    """Of a source that brings its frames at one instant."""
    continuity = Continuity(SourceInfo("scripted", True, 25.0))
    continuity.place(make_frame(0, time_ns=START_NS), START_NS, START_NS)
    assert continuity.place(make_frame(gap + 1, time_ns=START_NS), START_NS, START_NS).lost == lost
