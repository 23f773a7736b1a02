from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clesr.pipeline.frame import Frame, Timeline

IMAGE = np.zeros((2, 2), np.uint8)
MS = Fraction(1, 1000)
PERIOD = Fraction(1, 25)


def captured(time_ns: int) -> Frame:
    return Frame(IMAGE, 0, time_ns)


def recorded(pts: int, time_base: Fraction) -> Frame:
    return Frame(IMAGE, 0, 99, pts, time_base)


def test_recorded_times_are_taken_from_the_first_frame_on() -> None:
    timeline = Timeline(Fraction(1, 30000), PERIOD)
    base = Fraction(1001, 30000)
    assert [timeline.place(recorded(pts, base)) for pts in (7, 8, 9, 12)] == [0, 1001, 2002, 5005]
    assert timeline.seconds == float((5 + 3) * base), "the last frame lasts as long as the one before"


def test_capture_times_are_rounded_not_added_up() -> None:
    timeline = Timeline(MS, PERIOD)
    times = [5_000_000_000 + number * 16_666_667 for number in range(1000)]
    assert [timeline.place(captured(t)) for t in times] == [
        round(number * 16.666667) for number in range(1000)
    ]


def test_equal_and_crowded_times_rise_by_one_tick() -> None:
    timeline = Timeline(MS, PERIOD)
    assert [timeline.place(captured(t)) for t in (0, 0, 100_000, 200_000, 50_000_000)] == [0, 1, 2, 3, 50]


def test_a_loop_follows_on_at_the_recording_s_own_distance() -> None:
    timeline = Timeline(MS, PERIOD)
    base = Fraction(1, 10)
    assert [timeline.place(recorded(pts, base)) for pts in (0, 1, 2, 0, 1, 2, 0)] == [
        0, 100, 200, 300, 400, 500, 600,
    ]  # fmt: skip


def test_a_change_from_recorded_to_captured_times_goes_on() -> None:
    timeline = Timeline(MS, PERIOD)
    places = [timeline.place(recorded(pts, Fraction(1, 20))) for pts in (0, 1)]
    places += [timeline.place(captured(t)) for t in (7_000_000_000, 7_050_000_000)]
    assert places == [0, 50, 100, 150]


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=40))
def test_times_always_rise(times: list[int]) -> None:
    timeline = Timeline(MS, PERIOD)
    places = [timeline.place(captured(t)) for t in times]
    assert places[0] == 0
    assert all(a < b for a, b in pairwise(places))
