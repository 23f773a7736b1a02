"""Keys by name, and gestures that become actions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import window_scenes as scenes
from window_scenes import LIVE

from clesr.pipeline.display.layout import Box, lay_out
from clesr.pipeline.display.view_state import Mode, ViewState
from clesr.pipeline.frame import Frame, Result
from clesr.pipeline.sinks.window import hud, mouse
from clesr.pipeline.sinks.window.keys import key_name
from clesr.pipeline.sinks.window.mouse import (
    CTRL,
    LEFT_DOWN,
    LEFT_TWICE,
    LEFT_UP,
    MOVE,
    RIGHT_DOWN,
    RIGHT_UP,
    SHIFT,
    WHEEL,
    Mouse,
    Pointer,
    Seen,
)
from clesr.pipeline.sinks.window.scene import Scene


@pytest.mark.parametrize(("code", "name"), [
    (32, "space"), (27, "esc"), (13, "enter"), (ord("f"), "f"), (ord("F"), "F"), (ord("+"), "+"), (ord("?"), "?"),
    (65361, "left"), (65364, "down"), (65470, "f1"), (65481, "f12"), (65535, "delete"), (65505, ""), (1 << 20, ""),
    (9, "tab"), (0, ""), (65451, "+"), (65457, "1"), (200, ""),
])  # fmt: skip
def test_keys_have_names(code: int, name: str) -> None:
    assert key_name(code) == name


class Hand:
    """A mouse over a window of 400x400 whose image fills it, and what it did."""

    def __init__(self, view: ViewState, made: Result | None = None, alarm: Box | None = None) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.mouse = Mouse(lambda *act: self.done.append(act))
        self.made = made or scenes.result(400)
        self.view, self.alarm = view, alarm

    def use(self, event: int, x: int, y: int, flags: int = 0) -> None:
        shape = self.made.frame.image.shape if self.view.mode is Mode.RAW else self.made.image.shape
        layout = lay_out((shape[0], shape[1]), Box(0, 0, 400, 400), self.view)
        self.mouse.take(Pointer(event, x, y, flags), Seen(self.made, layout, self.alarm, self.view))

    def drag(
        self, start: tuple[int, int], end: tuple[int, int], flags: int = 0, *, right: bool = False
    ) -> None:
        self.use(RIGHT_DOWN if right else LEFT_DOWN, *start, flags)
        self.use(MOVE, (start[0] + end[0]) // 2, (start[1] + end[1]) // 2, flags)
        self.use(MOVE, *end, flags)
        self.use(RIGHT_UP if right else LEFT_UP, *end, flags)


def test_the_edge_of_a_wipe_is_dragged() -> None:
    hand = Hand(ViewState(mode=Mode.WIPE, wipe=0.5, hud="off"))
    hand.drag((205, 100), (300, 300))
    assert hand.done[-1] == ("wipe", 0.75)
    assert {act[0] for act in hand.done} == {"wipe"}
    hand.drag((200, 100), (900, 100))
    assert hand.done[-1] == ("wipe", 1.0)


def test_beside_the_edge_nothing_is_dragged() -> None:
    hand = Hand(ViewState(mode=Mode.WIPE, wipe=0.5))
    hand.drag((100, 100), (300, 300))
    hand.use(MOVE, 50, 50)
    assert hand.done == []


def test_a_zoomed_image_is_moved_with_the_pointer() -> None:
    hand = Hand(ViewState(zoom=4.0))
    hand.drag((200, 200), (240, 180))
    act, u, v = hand.done[-1]
    assert act == "centre"
    assert (u, v) == pytest.approx((0.5 - 0.1 / 4, 0.5 + 0.05 / 4))
    hand.done.clear()
    hand.drag((200, 200), (9000, 200))
    assert hand.done[-1][1:] == pytest.approx((0.125, 0.5)), "not beyond the edge"
    still = Hand(ViewState())
    still.drag((200, 200), (240, 180))
    assert still.done == [], "all of the image is there already"


def notches(count: int) -> int:
    return (120 * count & 0xFFFF) << 16


@pytest.mark.parametrize(
    ("count", "before", "zoom"), [(1, 1.0, 1.25), (-1, 1.0, 1.0), (2, 2.0, 3.125), (-3, 1.5, 1.0)]
)
def test_the_wheel_zooms_at_the_pointer(count: int, before: float, zoom: float) -> None:
    hand = Hand(ViewState(zoom=before))
    layout = lay_out((400, 400), Box(0, 0, 400, 400), hand.view)
    place = layout.to_image(300, 100)
    hand.use(WHEEL, 300, 100, notches(count))
    assert hand.done[0] == ("zoom", pytest.approx(zoom))
    name, u, v = hand.done[1]
    assert name == "centre"
    after = lay_out((400, 400), Box(0, 0, 400, 400), ViewState(zoom=zoom, centre=(u, v)))
    if zoom > 1 and count > 0:
        assert after.to_image(300, 100) == pytest.approx(place, abs=1.5 / 400)


def test_a_double_click_shows_all_again() -> None:
    hand = Hand(ViewState(zoom=5.0))
    hand.use(LEFT_TWICE, 10, 10)
    assert hand.done == [("zoom", 1.0), ("centre", 0.5, 0.5)]


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("back", [True, False])
def test_a_region_is_marked_in_captured_pixels(right: bool, back: bool) -> None:
    """Whichever way it is dragged; it is seen while it is marked."""
    made = replace(scenes.result(400), corner=(30, 20))
    hand = Hand(ViewState(), made)
    ends = [(40, 100), (240, 200)]
    start, end = reversed(ends) if back else ends
    hand.use(RIGHT_DOWN if right else LEFT_DOWN, *start, 0 if right else SHIFT)
    hand.use(MOVE, *end, 0 if right else SHIFT)
    assert hand.mouse.marked == pytest.approx((0.1, 0.25, 0.6, 0.5))
    assert hand.done == []
    hand.use(RIGHT_UP if right else LEFT_UP, *end)
    assert hand.done == [("region", 40, 45, 50, 25)]
    assert hand.mouse.marked is None


def test_a_region_lies_in_the_image_and_a_click_marks_none() -> None:
    hand = Hand(ViewState())
    hand.drag((200, 200), (-500, 9000), right=True)
    assert hand.done == [("region", 0, 50, 50, 50)]
    hand.done.clear()
    hand.drag((200, 200), (202, 199), right=True)
    assert hand.done == []
    marked = Hand(ViewState(region=(1, 2, 3, 4)))
    marked.drag((200, 200), (201, 200), right=True)
    assert marked.done == [("region", 0, 0, 0, 0)], "but takes a mark away"


def test_a_region_of_a_raw_image_is_in_all_of_it() -> None:
    whole = scenes.result(400)
    made = replace(whole, frame=Frame(whole.image, 0, 0), corner=(30, 20))
    hand = Hand(ViewState(mode=Mode.RAW), made)
    hand.drag((40, 100), (240, 200), right=True)
    assert hand.done == [("region", 40, 100, 200, 100)]


def test_side_by_side_both_panes_are_the_same_image() -> None:
    marked = []
    for start, end in (((50, 150), (100, 200)), ((250, 150), (300, 200))):
        hand = Hand(ViewState(mode=Mode.SIDE))
        hand.drag(start, end, right=True)
        marked += hand.done
    assert marked[0] == marked[1] == ("region", 25, 25, 25, 25)


def test_levels_are_dragged() -> None:
    hand = Hand(ViewState(levels=(50.0, 150.0)))
    hand.drag((200, 200), (200, 300), CTRL)
    name, low, high = hand.done[-1]
    assert name == "levels"
    assert (low, high) == pytest.approx((0.0, 100 + 50 - 255 / 4), abs=1), "downwards: brighter"
    hand.drag((200, 200), (300, 200), CTRL)
    assert hand.done[-1][2] - hand.done[-1][1] > 100, "to the right: less contrast"
    for end in ((-5000, -5000), (5000, 5000)):
        hand.drag((200, 200), end, CTRL)
        _, low, high = hand.done[-1]
        assert 0 <= low < high <= 255


def test_a_click_on_the_alarm_acknowledges_it_and_one_beside_it_does_not() -> None:
    drawn = hud.draw(Scene(scenes.result(), scenes.ALARM), (400, 400))
    assert drawn.alarm is not None
    hand = Hand(ViewState(zoom=2.0), alarm=drawn.alarm)
    x, y = drawn.alarm.left + 30, drawn.alarm.top + 10
    for event in (LEFT_DOWN, LEFT_UP, LEFT_TWICE, LEFT_UP):
        hand.use(event, x, y)
    assert hand.done == [("acknowledge",)]
    hand.use(LEFT_DOWN, x, drawn.alarm.top + drawn.alarm.height + 2)
    assert hand.done == [("acknowledge",)]
    assert hud.draw(Scene(scenes.result(), LIVE), (400, 400)).alarm is None


def test_gestures_of_any_kind_in_any_order_end_nothing() -> None:
    hand = Hand(ViewState(mode=Mode.WIPE, zoom=2.0))
    for event in (
        LEFT_UP,
        RIGHT_UP,
        MOVE,
        mouse.LEFT_DOWN,
        RIGHT_DOWN,
        LEFT_UP,
        MOVE,
        RIGHT_UP,
        3,
        6,
        8,
        9,
        11,
        99,
    ):
        hand.use(event, 150, 150)
