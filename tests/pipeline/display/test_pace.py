"""Drawing gives way to the engine where both want the cores."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ManualClock

from clesr.pipeline.display.pace import BUSY, FREE, LOOK_NS, DrawingPace, share_of
from clesr.pipeline.sinks import browser

Used = Callable[[], float]


def busy_pace(share: float = 0.04, used: Used = lambda: 100.0) -> tuple[ManualClock, DrawingPace]:
    """On a machine whose cores are in use, as it has seen."""
    clock = ManualClock()
    pace = DrawingPace(clock, used, share=share)
    clock.advance(LOOK_NS / 1e9)
    pace.drew(0.0)
    return clock, pace


def rests(*used: float) -> list[bool]:
    """Whether to rest after each of as many drawings, a look at the cores apart."""
    clock, figures = ManualClock(), iter(used)
    pace, found = DrawingPace(clock, lambda: next(figures)), []
    for _ in used:
        clock.sleep_until(clock.now_ns() + LOOK_NS)
        pace.drew(0.01)
        found.append(pace.rest_s() > 0)
    return found


def test_a_machine_with_a_core_to_spare_draws_whatever_is_new() -> None:
    assert rests(10, 60, BUSY) == [False] * 3


def test_a_busy_machine_draws_less_until_it_is_free_again() -> None:
    assert rests(BUSY + 1, FREE + 1, FREE - 1, BUSY - 1) == [True, True, False, False]


def test_drawing_gets_its_share_of_a_core() -> None:
    clock = ManualClock()
    pace = DrawingPace(clock, lambda: 100.0, share=0.05)
    pace.drew(0.01)
    assert pace.rest_s() == 0, "it has not looked yet"
    clock.sleep_until(clock.now_ns() + LOOK_NS)
    pace.drew(0.01)
    assert pace.rest_s() == pytest.approx(0.01 / 0.05)
    clock.advance(0.15)
    assert pace.rest_s() == pytest.approx(0.05)
    clock.advance(0.1)
    assert pace.rest_s() == 0


def test_what_takes_long_to_draw_lets_nothing_else_rest() -> None:
    clock, pace = busy_pace()
    pace.drew(0.004, "small")
    pace.drew(0.016, "large")
    assert (pace.rest_s("small"), pace.rest_s("large")) == pytest.approx((0.1, 0.4))
    assert pace.rest_s("another") == 0
    clock.advance(0.1)
    assert pace.rest_s("small") == 0


@pytest.mark.parametrize(("live", "took_s", "least", "most"), [(True, 0.012, 5, 12), (False, 0.004, 5, 12)])
def test_how_many_pictures_a_second_a_busy_machine_shows(
    live: bool, took_s: float, least: int, most: int
) -> None:
    """Of 25: enough of live ones to follow a probe, for a tenth of a core; of recorded ones for a twentieth at most."""
    clock, pace = busy_pace(share_of(live))
    drawn = 0
    for _ in range(250):
        clock.advance(0.04)
        if not pace.rest_s():
            drawn += 1
            pace.drew(took_s)
    assert least <= drawn / 10 <= most
    assert drawn / 10 * took_s < (0.13 if live else 0.05)


def test_a_picture_never_rests_until_the_page_calls_it_old() -> None:
    """Half of that time is left for its way, and for the next one; a heavy one rests for some of it."""
    script = (Path(browser.__file__).parent / "page/hud.js").read_text()
    old = re.search(r"OLD_MS = (\d+);", script)
    assert old is not None
    _, pace = busy_pace()
    pace.drew(10.0)
    assert 0.1 < pace.rest_s() <= int(old[1]) / 2000
