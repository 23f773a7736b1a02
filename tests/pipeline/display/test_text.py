"""Words on a picture."""

from __future__ import annotations

import numpy as np
import pytest

from clesr.pipeline.display import text
from clesr.pipeline.display.layout import Box
from clesr.pipeline.display.text import Pen

WHITE = (255, 255, 255)


def blank(rows: int = 60, columns: int = 400) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    return np.zeros((rows, columns, 3), np.uint8)


@pytest.mark.parametrize("size", [9, 13, 20, 40])
def test_capitals_are_as_high_as_asked_and_stand_on_the_line(size: int) -> None:
    canvas = blank(100)
    Pen(canvas).write("HEH", 5, 70, size, WHITE)
    rows = np.nonzero(canvas.max(axis=(1, 2)) > 100)[0]
    assert rows.max() == 69
    assert rows.max() - rows.min() + 1 == pytest.approx(size, abs=1)
    columns = np.nonzero(canvas.max(axis=(0, 2)) > 0)[0]
    assert columns.min() >= 5
    assert columns.max() < 5 + text.width("HEH", size)


def test_letters_have_soft_edges_and_their_colour() -> None:
    canvas = blank()
    Pen(canvas).write("age 41 ms", 5, 40, 16, (10, 20, 250))
    assert (canvas == (10, 20, 250)).all(axis=-1).any()
    assert len(np.unique(canvas[..., 2])) > 20


def test_numbers_that_change_stay_where_they_are() -> None:
    for size in (9, 12, 30):
        assert len({text.width(f"{digit * 111} ms", size) for digit in range(1, 10)}) == 1


def test_what_lies_beside_the_canvas_is_left_out() -> None:
    canvas = blank(20, 30)
    pen = Pen(canvas)
    for left, baseline in ((-200, 10), (500, 10), (5, -50), (5, 400), (-5, 3), (25, 25)):
        pen.write("words and words", left, baseline, 12, WHITE)
    assert canvas.shape == (20, 30, 3)
    assert len(pen.boxes) == 2, "of which a part is seen"


@pytest.mark.parametrize("name", ["/media/disk/" + "x" * 500 + "/end.mkv", "x" * 5000, "日本" * 100])
@pytest.mark.parametrize("room", [0, 1, 30, 300])
def test_what_is_too_long_loses_its_middle(name: str, room: int) -> None:
    shown = text.fitting(name, 12, room)
    assert text.width(shown, 12) <= max(room, 1)
    if room == 300 and name.startswith("/"):
        assert shown.startswith("/media/")
        assert shown.endswith("/end.mkv")
        assert "..." in shown


def test_what_a_terminal_would_obey_is_shown_escaped() -> None:
    assert text.fitting("a\x1b[31m\n\u202eb", 12, 300) == "a\\x1b[31m\\n\\u202eb"


def test_letters_that_no_font_has_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "OTHERS", ())
    assert text._writable("ready 25") == ("ready 25", "")
    assert text._writable("Röhre µ") == ("R\\xf6hre \\xb5", "")
    assert text._writable("日") == ("\\u65e5", "")


@pytest.mark.parametrize("other", ["DejaVuSans.ttf", "no font of that name.ttf"])
def test_a_font_of_the_system_helps_where_there_is_one(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "OTHERS", (other,))
    shown, name = text._writable("Röhre 50 µm")
    if text._font(other, 12) is None:
        assert (shown, name) == ("R\\xf6hre 50 \\xb5m", "")
    else:
        assert (shown, name) == ("Röhre 50 µm", other)


@pytest.mark.parametrize("opacity", [0.0, 0.3, 1.0])
def test_a_box_lets_shine_through_what_it_should(opacity: float) -> None:
    canvas = np.full((20, 20, 3), 200, np.uint8)
    Pen(canvas).fill(Box(5, -5, 50, 10), (0, 100, 250), opacity)
    expected = np.multiply(200, 1 - opacity) + np.multiply((0, 100, 250), opacity)
    assert canvas[2, 10].tolist() == pytest.approx(expected.tolist(), abs=1)
    assert (canvas[5:] == 200).all()
    assert (canvas[:, :5] == 200).all()
