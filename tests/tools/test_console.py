"""What a command says while it works."""

from __future__ import annotations

import io
import re

import pytest
from heard import hear
from rich.console import Console

from clesr.tools.common import console
from clesr.tools.common.console import progress_bar


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.s = 100.0

    def now_ns(self) -> int:
        return round(self.s * 1e9)


def lines_of(
    monkeypatch: pytest.MonkeyPatch, calls: list[tuple[float, float]], total: float | None
) -> list[str]:
    """What is said off a terminal where ``calls`` are (seconds since the one before, completed)."""
    clock, said = Clock(), hear()
    monkeypatch.setattr(console, "SYSTEM", clock)
    monkeypatch.setattr(console, "console", Console(file=io.StringIO()))
    with progress_bar("live", total, unit="frames") as advance:
        for seconds, completed in calls:
            clock.s += seconds
            advance(completed, "")
    return said


@pytest.mark.parametrize("began", [0, 40])
def test_the_time_left_is_reckoned_from_the_first_progress(
    monkeypatch: pytest.MonkeyPatch, began: int
) -> None:
    """Not from the start: an engine that took 60 s to open, or what was done before, says nothing of pace."""
    calls = [(1.0, float(began))] * 60 + [(10.0, began + 100.0)]
    assert (
        lines_of(monkeypatch, calls, began + 300)[-1]
        == f"live: {began + 100} of {began + 300} frames, 20 s left"
    )


@pytest.mark.parametrize(
    ("left_s", "words"),
    [(119, "119 s"), (121, "2 min"), (7100, "118 min"), (7200, "2 h 0 min"), (18819, "5 h 14 min")],
)
def test_long_times_are_said_in_minutes_and_hours(
    monkeypatch: pytest.MonkeyPatch, left_s: int, words: str
) -> None:
    said = lines_of(monkeypatch, [(0.0, 0.0), (10.0, 10.0)], 10 + left_s)
    assert said == [f"live: 10 of {10 + left_s} frames, {words} left"]


@pytest.mark.parametrize("total", [None, 1000.0])
def test_the_bar_says_left_of_the_time_left_alone(
    monkeypatch: pytest.MonkeyPatch, total: float | None
) -> None:
    """A live source has no end that is known: the time that has gone by is not called left."""
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, color_system=None, width=200)
    monkeypatch.setattr(console, "console", terminal)
    with console.progress_bars({"live": total}, unit="frames") as bars:
        bars["live"](0, "here")
        for done in range(1, 30):
            bars["live"](done, "here")
    last = [line for line in re.split(r"[\r\n]", screen.getvalue()) if "29/" in line][-1]
    clock = r"\d:\d\d:\d\d"
    assert re.search(
        rf"frames {clock} +here" if total is None else rf"frames {clock} {clock} left here", last
    )
