"""What the mouse does on the picture: each gesture becomes an action."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from clesr.pipeline.display.compose import shown_shape
from clesr.pipeline.display.layout import Box, Layout, inside, zoomed
from clesr.pipeline.display.view_state import Mode, ViewState
from clesr.pipeline.frame import Result
from clesr.pipeline.sinks.window.scene import Shares

# OpenCV's events and flags (highgui.hpp)
MOVE, LEFT_DOWN, RIGHT_DOWN, LEFT_UP, RIGHT_UP, LEFT_TWICE, WHEEL = 0, 1, 2, 4, 5, 7, 10
CTRL, SHIFT = 8, 16
GRAB = 12  # pixels beside the edge of a wipe at which it is taken hold of
NOTCH = 120  # of the wheel
STEP = 1.25  # of zoom for each notch
NEAR = 1e-6  # pixels: as good as an edge
FEWEST = 4.0  # grey levels between black and white
SMALLEST = 5  # pixels of a drag that marks a region

Act = Callable[..., None]  # an action and its arguments, in their order


class Pointer(NamedTuple):
    """A mouse event at ``(x, y)`` of the window; ``flags`` are OpenCV's."""

    event: int
    x: int
    y: int
    flags: int

    @property
    def notches(self) -> float:
        delta = (self.flags >> 16) & 0xFFFF
        return (delta - 0x10000 if delta >= 0x8000 else delta) / NOTCH


class Seen(NamedTuple):
    """What was on the window when the mouse was used."""

    result: Result
    layout: Layout
    alarm: Box | None
    view: ViewState


class Mouse:
    """The mouse over one window; ``act`` does an action. ``marked`` is the part of the image that is being marked."""

    def __init__(self, act: Act) -> None:
        self._act = act
        self._drag: Callable[[Pointer, Seen], None] | None = None
        self.marked: Shares | None = None

    def take(self, at: Pointer, seen: Seen) -> None:
        """What the user did with the mouse."""
        if at.event == LEFT_DOWN:
            self._press(at, seen)
        elif at.event == RIGHT_DOWN:
            self._drag = self._marking(at, seen)
        elif at.event == WHEEL:
            self._zoom(at, seen)
        elif at.event == LEFT_TWICE and not (seen.alarm and seen.alarm.contains(at.x, at.y)):
            self._act("zoom", 1.0)
            self._act("centre", 0.5, 0.5)
        elif at.event in (MOVE, LEFT_UP, RIGHT_UP) and self._drag is not None:
            self._drag(at, seen)
        if at.event in (LEFT_UP, RIGHT_UP):
            self._end(at, seen)

    def _press(self, at: Pointer, seen: Seen) -> None:
        self._drag = None
        if seen.alarm is not None and seen.alarm.contains(at.x, at.y):
            self._act("acknowledge")
        elif at.flags & SHIFT:
            self._drag = self._marking(at, seen)
        elif at.flags & CTRL:
            self._drag = self._levelling(at, seen)
        elif seen.view.mode is Mode.WIPE and abs(at.x - seen.layout.edge(seen.view)) <= GRAB:
            self._drag = self._wipe
        elif seen.view.zoom > 1:
            self._drag = self._panning(at, seen)

    def _wipe(self, at: Pointer, seen: Seen) -> None:
        u, _ = seen.layout.to_image(at.x, at.y)
        self._act("wipe", min(max(u, 0.0), 1.0))

    def _zoom(self, at: Pointer, seen: Seen) -> None:
        zoom, centre = zoomed(seen.view, seen.layout, at.x, at.y, STEP**at.notches)
        self._act("zoom", zoom)
        self._act("centre", *centre)

    def _panning(self, start: Pointer, before: Seen) -> Callable[[Pointer, Seen], None]:
        """The place that was taken hold of stays under the pointer."""
        place = before.layout.place
        width, height = place.width / before.layout.panes, place.height

        def pan(at: Pointer, seen: Seen) -> None:
            rows, columns = seen.layout.shape
            u = (at.x - start.x) / width * before.layout.crop.width / columns
            v = (at.y - start.y) / height * before.layout.crop.height / rows
            centre = before.view.centre[0] - u, before.view.centre[1] - v
            self._act("centre", *inside(centre, seen.view.zoom))

        return pan

    def _levelling(self, start: Pointer, before: Seen) -> Callable[[Pointer, Seen], None]:
        """To the right less contrast, downwards brighter, as in other viewers of medical images."""
        low, high = before.view.levels
        place = before.layout.place

        def level(at: Pointer, _seen: Seen) -> None:
            half = (high - low) / 2 * math.exp(2 * (at.x - start.x) / place.width)
            middle = (low + high) / 2 - 255 * (at.y - start.y) / place.height
            black = min(max(middle - half, 0.0), 255.0 - FEWEST)
            self._act("levels", black, min(max(middle + half, black + FEWEST), 255.0))

        return level

    def _marking(self, start: Pointer, before: Seen) -> Callable[[Pointer, Seen], None]:
        """Mark what lies between the place where the drag began and the pointer."""
        pane = before.layout.pane_at(start.x)
        u, v = before.layout.to_image(start.x, start.y, pane)

        def mark(at: Pointer, seen: Seen) -> None:
            far = seen.layout.to_image(at.x, at.y, pane)
            if max(abs(at.x - start.x), abs(at.y - start.y)) < SMALLEST:
                self.marked = None
                return
            (left, right), (top, bottom) = (
                tuple(sorted(min(max(share, 0.0), 1.0) for share in pair))
                for pair in ((u, far[0]), (v, far[1]))
            )
            self.marked = left, top, right, bottom

        return mark

    def _end(self, at: Pointer, seen: Seen) -> None:
        """The button was let go."""
        dragged, self._drag = self._drag, None
        if at.event == RIGHT_UP and self.marked is None and dragged is not None and seen.view.region:
            self._act("region", 0, 0, 0, 0)  # a click takes the mark away
        if self.marked is not None:
            region = captured_region(self.marked, seen.result, seen.view)
            self.marked = None
            self._act("region", *region)


def captured_region(part: Shares, result: Result, view: ViewState) -> tuple[int, int, int, int]:
    """``part`` of the image on show in pixels of the captured one: x, y, width and height, of one pixel at least."""
    raw = view.mode is Mode.RAW
    height, width = shown_shape(result, view) if raw else result.lr.shape
    left, top = (0, 0) if raw else result.corner
    x, y = (
        min(math.floor(share * side + NEAR), side - 1)
        for share, side in zip(part, (width, height), strict=False)
    )
    right, bottom = (
        max(math.ceil(part[2] * width - NEAR), x + 1),
        max(math.ceil(part[3] * height - NEAR), y + 1),
    )
    return left + x, top + y, right - x, bottom - y
