"""Drawing gives way to the engine where both want the cores."""

from __future__ import annotations

import itertools

import pytest
from support import ManualClock

from clesr.pipeline.display.pace import BUSY, FREE, LOOK_NS, SHARE, DrawingPace


def rests(*used: float) -> list[bool]:
    """Whether to rest after each of as many drawings, a look at the cores apart."""
    clock, figures = ManualClock(), itertools.chain([0.0], used)
    pace, found = DrawingPace(clock, lambda: next(figures)), []
    for _ in used:
        clock.sleep_until(clock.now_ns() + LOOK_NS)
        found.append(pace.rest_s(0.01) > 0)
    return found


def test_a_machine_with_a_core_to_spare_draws_whatever_is_new() -> None:
    assert rests(10, 60, BUSY) == [False] * 3


def test_a_busy_machine_draws_less_until_it_is_free_again() -> None:
    assert rests(BUSY + 1, FREE + 1, FREE - 1, BUSY - 1) == [True, True, False, False]


def test_drawing_gets_its_share_of_a_core() -> None:
    clock = ManualClock()
    pace = DrawingPace(clock, lambda: 100.0)
    assert pace.rest_s(0.01) == 0, "it has not looked yet"
    clock.sleep_until(clock.now_ns() + LOOK_NS)
    assert pace.rest_s(0.01) == pytest.approx(0.01 / SHARE)
