"""What is drawn on the picture itself: the edge of a wipe, names of what is seen, the tile that is not to be trusted, a
region, a scale bar, what colours mean."""

from __future__ import annotations

import cv2
import numpy as np

from clesr.pipeline.display.compose import worst_tile
from clesr.pipeline.display.facts import AMBER, BLUE, WHITE
from clesr.pipeline.display.layout import Box, Layout, scale_bar
from clesr.pipeline.display.overlay import Canvas, Scale, legend
from clesr.pipeline.display.text import Colour, Pen, fitting, width
from clesr.pipeline.display.view_state import Mode
from clesr.pipeline.frame import Outcome, Result
from clesr.pipeline.sinks.window.scene import Scene, Shares
from clesr.pipeline.sinks.window.strips import DARK, OPACITY

SR = "SR"
LABELS = {
    Mode.WIPE: ("bicubic", SR),
    Mode.SIDE: ("bicubic", SR),
    Mode.RAW_SIDE: ("raw", SR),
    Mode.BICUBIC: ("bicubic",),
    Mode.RAW: ("raw",),
}


def mark(canvas: Canvas, scene: Scene, result: Result, layout: Layout) -> None:
    """Lines over the picture: the seam or edge between two images, the worst tile, regions."""
    view, place = scene.view, layout.place
    inside = canvas[place.top : place.top + place.height, place.left : place.left + place.width]
    if view.mode is Mode.WIPE:
        edge = round(layout.edge(view))
        if place.left <= edge < place.left + place.width:
            _edge(inside, edge - place.left)
    elif layout.panes > 1:
        seam = place.width // 2
        inside[:, seam - 1 : seam + 1] = DARK
    if (tile := worst_tile(result, view)) is not None:
        _corners(canvas, layout, tile, AMBER)
    if (marked := region_shares(scene, result)) is not None:
        _rectangle(canvas, layout, marked)
    if scene.dragged is not None:
        _rectangle(canvas, layout, scene.dragged)


def region_shares(scene: Scene, result: Result) -> Shares | None:
    """The region that is marked, as shares of the image on show."""
    if scene.view.region is None:
        return None
    x, y, across, down = scene.view.region
    raw = scene.view.mode is Mode.RAW
    left, top = (0, 0) if raw else result.corner
    height, width = (result.frame.image if raw else result.lr).shape
    return (x - left) / width, (y - top) / height, (x + across - left) / width, (y + down - top) / height


def name_images(pen: Pen, scene: Scene, layout: Layout, clear: Box, size: int) -> int:
    """What each image is, where not all of the picture is SR, at the top of ``clear``; the row below."""
    names = LABELS.get(scene.view.mode, ())
    small, high = max(size - 1, 7), round(2.0 * size)
    if not names or layout.place.width < len(names) * 8 * size:
        return clear.top
    place, pad = layout.place, round(0.7 * size)
    begin = max(clear.top, place.top) + pad
    if begin + high > clear.top + clear.height:
        return clear.top
    failed = scene.result is not None and scene.result.outcome is Outcome.FAILED
    for index, named in enumerate(names):
        name = "bicubic" if failed and named == SR else named
        wide = width(name, small) + 2 * pad
        if scene.view.mode is Mode.WIPE:
            edge = round(layout.edge(scene.view))
            left = edge - wide - pad if index == 0 else edge + pad + 1
            if left < place.left or left + wide > place.left + place.width:
                continue
        else:
            left = place.left + index * place.width // layout.panes + pad
        _label(pen, name, Box(left, begin, wide, high), small, pad)
    return begin + high


def draw_scale(pen: Pen, scene: Scene, result: Result, layout: Layout, clear: Box, size: int) -> int:
    """A scale bar in the lower right corner of ``clear``; how many columns it takes."""
    if not scene.view.scale_bar or scene.status.pixel_um is None:
        return 0
    raw = scene.view.mode is Mode.RAW
    pixel_um = scene.status.pixel_um * (1 if raw else result.lr.shape[1] / result.image.shape[1])
    bar = scale_bar(layout, pixel_um)
    text, pad = str(bar), round(0.8 * size)
    wide, high = max(bar.pixels, width(text, size)) + 2 * pad, round(3.1 * size)
    right = min(layout.place.left + layout.place.width, clear.left + clear.width) - size
    bottom = min(layout.place.top + layout.place.height, clear.top + clear.height) - size
    box = Box(right - wide, bottom - high, wide, high)
    if box.left < clear.left or box.top < clear.top:
        return 0
    pen.fill(box, DARK, OPACITY)
    middle = box.left + wide // 2
    pen.write(text, middle - width(text, size) // 2, box.top + round(1.6 * size), size, WHITE)
    thick = max(2, round(size / 4))
    pen.fill(Box(middle - bar.pixels // 2, box.top + round(2.2 * size), bar.pixels, thick), WHITE)
    return wide + size


def draw_legend(canvas: Canvas, pen: Pen, scale: Scale, clear: Box, size: int) -> None:
    """What the overlay's colours mean, in the lower left corner of ``clear``."""
    small, pad = max(7, size - 1), size
    text = "differs from the measured image by, grey levels"
    ends = f"{scale.low:.1f}", f"{scale.high:.1f} and more"
    room = min(clear.width - 2 * size, width(text, small) + 2 * pad) - 2 * pad
    high = round(5.6 * small)
    if room < 12 * small or clear.height < 2 * high:
        return
    box = Box(clear.left + size, clear.top + clear.height - high - size, room + 2 * pad, high)
    pen.fill(box, DARK, OPACITY)
    left = box.left + pad
    pen.write(fitting(text, small, room), left, box.top + round(1.8 * small), small, WHITE)
    begin = box.top + round(2.4 * small)
    canvas[begin : begin + small, left : left + room] = legend(room, small)
    base = box.top + round(4.9 * small)
    pen.write(ends[0], left, base, small, WHITE)
    pen.write(ends[1], left + room - width(ends[1], small), base, small, WHITE)


def _label(pen: Pen, text: str, box: Box, size: int, pad: int) -> None:
    pen.fill(box, DARK, OPACITY)
    pen.write(text, box.left + pad, box.top + (box.height + size) // 2, size, WHITE)


def _edge(inside: Canvas, column: int) -> None:
    """A line that stands out on bright and on dark, with a handle in the middle."""
    inside[:, max(column - 1, 0) : column + 2] = DARK
    inside[:, column] = WHITE
    middle, arm = inside.shape[0] // 2, 7
    for way in (-1, 1):
        tip = column + way * (arm + 4)
        points = np.array([[tip, middle], [tip - way * arm, middle - arm], [tip - way * arm, middle + arm]])
        cv2.fillConvexPoly(inside, points.astype(np.int32), WHITE, cv2.LINE_AA)
        cv2.polylines(inside, [points.astype(np.int32)], True, DARK, 1, cv2.LINE_AA)


def _ends(layout: Layout, part: Shares, pane: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The upper left and lower right corner of ``part``, in pixels of that pane."""
    left = layout.place.left + pane * layout.place.width // layout.panes
    corners = layout.to_window(*part[:2], pane), layout.to_window(*part[2:], pane)
    (x, y), (right, bottom) = ((round(u - left), round(v - layout.place.top)) for u, v in corners)
    return (x, y), (right, bottom)


def _pane(canvas: Canvas, layout: Layout, pane: int) -> Canvas:
    """That part of ``canvas``: what is drawn beyond it is cut."""
    place, wide = layout.place, layout.place.width // layout.panes
    left = place.left + pane * wide
    return canvas[place.top : place.top + place.height, left : left + wide]


def _rectangle(canvas: Canvas, layout: Layout, part: Shares) -> None:
    for pane in range(layout.panes):
        ends = _ends(layout, part, pane)
        for colour, thickness in ((DARK, 3), (BLUE, 1)):
            cv2.rectangle(_pane(canvas, layout, pane), *ends, colour, thickness)


def _corners(canvas: Canvas, layout: Layout, part: Shares, colour: Colour) -> None:
    """Four corners, dark behind, around ``part`` of the last image."""
    last = layout.panes - 1
    pane, ((left, top), (right, bottom)) = _pane(canvas, layout, last), _ends(layout, part, last)
    arm = max(3, min(right - left, bottom - top) // 4)
    for y, inwards in ((top, 1), (bottom, -1)):
        for x, along in ((left, 1), (right, -1)):
            points = np.array([[x, y + inwards * arm], [x, y], [x + along * arm, y]], np.int32)
            for shade, thickness in (((0, 0, 0), 5), (colour, 2)):
                cv2.polylines(pane, [points], False, shade, thickness, cv2.LINE_AA)
