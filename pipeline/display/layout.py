"""Where the picture stands on a window or a page, and which place of the image each of its pixels shows.

Places of an image are shares of its width and height, (0, 0) its upper left corner and (1, 1) its lower right one: they
mean the same in the SR image, the bicubic one and the one that the engine read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from clesr.pipeline.display.view_state import Mode, ViewState

MOST_ZOOM = 16.0
MAP_SHARE = 0.4  # of the room, where a map is shown beside the live image
BAR = 0.25  # of a pane's width that a scale bar takes at most


class Box(NamedTuple):
    """A rectangle in whole pixels."""

    left: int
    top: int
    width: int
    height: int

    def contains(self, x: float, y: float) -> bool:
        return self.left <= x < self.left + self.width and self.top <= y < self.top + self.height


def parted(room: Box) -> tuple[Box, Box]:
    """``room`` for the live image, and what is left of it for the map."""
    width = round(MAP_SHARE * room.width)
    return room._replace(width=room.width - width), room._replace(
        left=room.left + room.width - width, width=width
    )


def panes(mode: Mode) -> int:
    """How many images stand side by side."""
    return 2 if mode in (Mode.SIDE, Mode.RAW_SIDE) else 1


def visible(shape: tuple[int, int], view: ViewState) -> Box:
    """What ``view`` shows of an image of ``shape`` (H, W), in its pixels: all of it, or a part with the same
    proportions around the centre, moved inside where it would reach over the edge."""
    (top, height), (left, width) = (
        _span(side, centre, view.zoom) for side, centre in zip(shape, reversed(view.centre), strict=True)
    )
    return Box(left, top, width, height)


def _span(side: int, centre: float, zoom: float) -> tuple[int, int]:
    length = min(side, max(1, round(side / max(zoom, 1.0))))
    return min(max(0, round(centre * side - length / 2)), side - length), length


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a picture stands. ``place`` is its rectangle on the window or page, ``crop`` what is visible of the image
    of ``shape`` (H, W), in that image's pixels; side by side there are two ``panes``, which show the same part."""

    place: Box
    crop: Box
    shape: tuple[int, int]
    panes: int = 1

    @property
    def magnification(self) -> float:
        """How many pixels of the window a pixel of the image is wide."""
        return self.place.width / self.panes / self.crop.width

    def pane_at(self, x: float) -> int:
        """Which pane column ``x`` of the window belongs to, the nearest where it lies beside them."""
        share = (x - self.place.left) / self.place.width * self.panes
        return min(max(math.floor(share), 0), self.panes - 1)

    def to_image(self, x: float, y: float, pane: int | None = None) -> tuple[float, float]:
        """The place of the image that is seen at ``(x, y)`` of the window, which is given in pixels, the middle of the
        first one at 0.5; beyond the edges of the picture as if it went on. In ``pane``, or that of ``x``."""
        pane = self.pane_at(x) if pane is None else pane
        along = (x - self.place.left) / self.place.width * self.panes - pane
        down = (y - self.place.top) / self.place.height
        height, width = self.shape
        return (self.crop.left + along * self.crop.width) / width, (
            self.crop.top + down * self.crop.height
        ) / height

    def to_window(self, u: float, v: float, pane: int = 0) -> tuple[float, float]:
        """Where in the window the place ``(u, v)`` of the image is seen."""
        height, width = self.shape
        along = (u * width - self.crop.left) / self.crop.width
        down = (v * height - self.crop.top) / self.crop.height
        return (
            self.place.left + (along + pane) * self.place.width / self.panes,
            self.place.top + down * self.place.height,
        )

    def edge(self, view: ViewState) -> float:
        """The column of the window on which the edge of a wipe stands."""
        width = self.shape[1]
        return self.to_window(edge_of(width, view) / width, 0)[0]


def edge_of(width: int, view: ViewState) -> int:
    """The first column of a wipe, ``width`` pixels wide, that shows the SR image."""
    return round(min(max(view.wipe, 0.0), 1.0) * width)


def lay_out(shape: tuple[int, int], room: Box, view: ViewState, aspect: float = 1.0) -> Layout:
    """The picture of an image of ``shape`` (H, W) in the middle of ``room``, as large as fits with its proportions;
    ``aspect`` is the width of a pixel of the image over its height."""
    crop, count = visible(shape, view), panes(view.mode)
    height, width = crop.height, crop.width * aspect * count
    ratio = min(room.height / height, room.width / width)
    rows, columns = max(1, round(height * ratio)), max(count, round(width * ratio / count) * count)
    if columns > room.width >= count:
        columns -= count
    place = Box(room.left + (room.width - columns) // 2, room.top + (room.height - rows) // 2, columns, rows)
    return Layout(place, crop, shape, count)


def zoomed(
    view: ViewState, layout: Layout, x: float, y: float, factor: float
) -> tuple[float, tuple[float, float]]:
    """Zoom and centre for which the place at ``(x, y)`` of the window stays there while the image becomes ``factor``
    times as large, or as small as it is without zoom."""
    zoom = min(max(view.zoom * factor, 1.0), MOST_ZOOM)
    u, v = layout.to_image(x, y)
    height, width = layout.shape
    middle = (
        (layout.crop.left + layout.crop.width / 2) / width,
        (layout.crop.top + layout.crop.height / 2) / height,
    )
    kept = view.zoom / zoom
    return zoom, inside((u + (middle[0] - u) * kept, v + (middle[1] - v) * kept), zoom)


def inside(centre: tuple[float, float], zoom: float) -> tuple[float, float]:
    """``centre``, moved so that nothing beyond the image would be seen."""
    half = 0.5 / zoom
    u, v = (min(max(share, half), 1 - half) for share in centre)
    return u, v


class ScaleBar(NamedTuple):
    """``micrometres``, a round number, are ``pixels`` long on the window."""

    micrometres: float
    pixels: int

    def __str__(self) -> str:
        long = self.micrometres >= 1000
        return f"{self.micrometres / 1000 if long else self.micrometres:g} {'mm' if long else 'µm'}"


def scale_bar(layout: Layout, pixel_um: float) -> ScaleBar:
    """The longest bar of 1, 2 or 5 times a power of ten that fills a quarter of a pane at most; ``pixel_um`` is what a
    pixel of the image is wide, in micrometres."""
    per_um = layout.magnification / pixel_um
    length = round_length(BAR * layout.place.width / layout.panes / per_um)
    return ScaleBar(float(f"{length:.3g}"), round(length * per_um))


def round_length(most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is ``most`` at most."""
    power = 10.0 ** math.floor(math.log10(most))
    return next(n * power for n in (5, 2, 1) if n * power <= most * (1 + 1e-9))
