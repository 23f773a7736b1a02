"""What a window is to show, and where things stand on it once they are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from clesr.engines.common.image import Pixels
from clesr.pipeline.display.layout import Box, Layout
from clesr.pipeline.display.overlay import Canvas
from clesr.pipeline.display.view_state import ViewState
from clesr.pipeline.frame import Result
from clesr.pipeline.status import Status

Shares = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """``result`` is the newest image, or the frozen one, which is ``age_ns`` old. ``aspect`` is the width of a pixel of
    the image over its height. ``actions`` are what `Controls.describe` tells. ``dragged`` is the part of the image that
    the mouse is marking: left, top, right and bottom, as shares. ``map`` (H, W) uint8 is the map of the frames so far,
    None where it is not to be seen. ``unrecorded`` where another stream of the run is recorded, and this one not.
    ``time_ns`` is when all this was so; None where it stays so."""

    result: Result | None
    status: Status
    view: ViewState = ViewState()
    age_ns: int | None = None
    aspect: float = 1.0
    actions: tuple[Mapping[str, Any], ...] = ()
    dragged: Shares | None = None
    map: Pixels | None = None
    unrecorded: bool = False
    time_ns: int | None = None

    def at(self, now_ns: int) -> Scene:
        """The scene at ``now_ns``, when its images are older."""
        if self.time_ns is None:
            return self
        passed = now_ns - self.time_ns
        status = self.status
        if status.age_ns is not None:
            status = replace(status, age_ns=status.age_ns + passed)
        age_ns = None if self.age_ns is None else self.age_ns + passed
        return replace(self, status=status, age_ns=age_ns, time_ns=now_ns)

    def key_of(self, action: str) -> str:
        """The key that ``action`` has, "" without one."""
        return next((str(each["key"]) for each in self.actions if each["name"] == action), "")


class Drawn(NamedTuple):
    """A window's content (H, W, 3), blue-green-red, where its picture stands, and where a click acknowledges the alarm;
    None where there is none."""

    canvas: Canvas
    layout: Layout | None
    alarm: Box | None
