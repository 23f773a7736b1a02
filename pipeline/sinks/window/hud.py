"""What the window shows: the image as the operator wants to see it, and what tells how far to trust it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.image import Pixels
from clesr.pipeline.display.alerts import Alert, alerts
from clesr.pipeline.display.compose import compose, shown_check, shown_shape
from clesr.pipeline.display.facts import AMBER, GRAY, RED, WHITE, Fact, facts, recording_fact
from clesr.pipeline.display.layout import Box, Layout, lay_out, panes, parted
from clesr.pipeline.display.overlay import Canvas, Scale
from clesr.pipeline.display.text import Colour, Pen, fitting, width
from clesr.pipeline.frame import Result
from clesr.pipeline.sinks.window import banners, marks
from clesr.pipeline.sinks.window.help import show_help
from clesr.pipeline.sinks.window.scene import Drawn, Scene
from clesr.pipeline.sinks.window.strips import Groups, plan, write_facts
from clesr.pipeline.status import is_old

UNRECORDED = Fact("recording", "NOT RECORDED", AMBER, plain=True)  # beside one that is
BACKGROUND = 24  # gray beside the image
SMALLEST = 24  # pixels of a window's side that anything can be seen on
REDUCED = 1.5  # times smaller from which on all pixels of the image count; it takes eight times as long
SHARP = 4.0  # pixels of the window for one of the image from which on that is drawn as the square it is


def draw(scene: Scene, shape: tuple[int, int], out: Canvas | None = None, clock: Clock = SYSTEM) -> Drawn:
    """``scene``, as it is by now, on a window of ``shape`` (H, W), drawn into ``out`` where it has the right shape.

    The image keeps its proportions. One that is not live is greyed; one that is not live, frozen, not super-resolved or
    damaged is marked, and so is the tile that disagrees most with what was measured, where it is below the limit. The
    arrays of the result are not changed.
    """
    result, size = scene.result, text_size(shape)
    canvas = out if out is not None and out.shape == (*shape, 3) else np.empty((*shape, 3), np.uint8)
    canvas[:] = BACKGROUND
    if min(shape) < SMALLEST:
        return Drawn(canvas, None, None)
    pen, scene = Pen(canvas), scene.at(clock.now_ns())
    placed = plan(scene.view.hud, shape, _lines(scene), size, _ratio(scene))
    room, layout = placed.room, None
    if scene.map is not None:
        room, beside = parted(room)
        beside = beside._replace(top=placed.clear.top, height=placed.clear.height)
        _paint_map(pen, canvas, scene.map, beside, size)
    if result is not None:
        layout = lay_out(shown_shape(result, scene.view), room, scene.view, scene.aspect)
        painted = _paint(canvas, scene, result, layout)
        scene = scene.at(clock.now_ns())  # on a busy machine that took a while
        if is_old(scene.status) and not scene.view.frozen:
            banners.grey(painted)
        marks.mark(canvas, scene, result, layout)
    write_facts(pen, placed, _lines(scene), size)
    found = alerts(result, scene.status, scene.view, scene.age_ns)
    alarm = _say(canvas, pen, scene, layout, placed.clear, found, size)
    banners.frame(canvas, _frames(scene, found), size)
    return Drawn(canvas, layout, alarm)


def draw_opening(lines: Sequence[str], shape: tuple[int, int]) -> Canvas:
    """What is seen before anything else: ``lines`` say what is being opened, the last one now."""
    size = text_size(shape)
    canvas = np.full((*shape, 3), BACKGROUND, np.uint8)
    pen, middle = Pen(canvas), shape[0] // 2
    rows = [("clesr", 3 * size, WHITE), *((line, round(1.2 * size), GRAY) for line in lines)]
    rows[-1] = (rows[-1][0], rows[-1][1], WHITE)
    baseline = middle - round(1.2 * size) * len(lines)
    for text, high, colour in rows:
        shown = fitting(text, high, shape[1] - 2 * size)
        pen.write(shown, (shape[1] - width(shown, high)) // 2, baseline, high, colour)
        baseline += round(2.6 * 1.2 * size)
    return canvas


def text_size(shape: tuple[int, int]) -> int:
    """Height in pixels of a capital letter in a window of ``shape`` (H, W)."""
    return round(min(max(min(shape[1] / 90, shape[0] / 50), 9), 20))


def _lines(scene: Scene) -> tuple[Groups, Groups]:
    return facts(scene.result, scene.status, scene.view)


def _ratio(scene: Scene) -> float:
    """The width of the picture over its height."""
    if scene.result is None:
        return 1.0
    height, across = shown_shape(scene.result, scene.view)
    return across * scene.aspect * panes(scene.view.mode) / height


def _paint(canvas: Canvas, scene: Scene, result: Result, layout: Layout) -> Canvas:
    """The picture, as much of it as has place; that part of ``canvas``."""
    picture, place = compose(result, scene.view), layout.place
    method = cv2.INTER_LINEAR
    if layout.magnification >= SHARP:
        method = cv2.INTER_NEAREST
    elif REDUCED * place.height < picture.shape[0]:
        method = cv2.INTER_AREA
    if picture.shape[:2] != (place.height, place.width):
        picture = np.asarray(cv2.resize(picture, (place.width, place.height), interpolation=method), np.uint8)
    top, left = max(place.top, 0), max(place.left, 0)
    room = canvas[top : place.top + place.height, left : place.left + place.width]
    height, across = room.shape[:2]
    picture = picture[top - place.top :, left - place.left :][:height, :across]
    if picture.ndim == 3:
        room[:] = picture
    else:
        cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR, dst=room)
    return room


def _paint_map(pen: Pen, canvas: Canvas, joined: Pixels, room: Box, size: int) -> None:
    """The map, as large as ``room`` has place for."""
    ratio = min(room.height / joined.shape[0], room.width / joined.shape[1])
    height, across = (max(1, int(ratio * side)) for side in joined.shape)
    top, left = room.top + (room.height - height) // 2, room.left + (room.width - across) // 2
    fitted = np.asarray(cv2.resize(joined, (across, height), interpolation=cv2.INTER_AREA), np.uint8)
    canvas[top : top + height, left : left + across] = fitted[:, :, None]
    pen.fill(Box(room.left, top, 1, height), GRAY)
    pen.write("map", left + size, top + height - size, size, GRAY)


def _say(
    canvas: Canvas,
    pen: Pen,
    scene: Scene,
    layout: Layout | None,
    clear: Box,
    found: Sequence[Alert],
    size: int,
) -> Box | None:
    """Everything that is said in ``clear``, from the top and from the bottom; where the alarm stands."""
    top, alarm = clear.top + banner_edge(size), None
    recording = UNRECORDED if scene.unrecorded else recording_fact(scene.status)
    if recording is not None and (scene.unrecorded or scene.view.hud == "off"):
        top = banners.show_recording(pen, recording, clear, top, size)
    if scene.status.alarm:
        alarm = banners.show_alarm(pen, scene.status.alarm, _how(scene), clear, top, size)
        top = alarm.top + alarm.height + size // 2
    large = next((alert for alert in found if alert.figure or alert.colour == GRAY), None)
    if scene.view.help or scene.view.frozen:
        large = None
    for alert in found:
        if alert is not large:
            named = alert._replace(detail=f"{alert.figure} {alert.detail}".strip())
            top = banners.show_tab(pen, named, clear, top, size)
    rest = Box(clear.left, top, clear.width, clear.top + clear.height - banner_edge(size) - top)
    for text, asking in ((scene.view.asking, True), (scene.view.said, False)):
        if text:
            rest = banners.show_words(pen, text, rest, size, asking=asking)
    if scene.view.help:
        show_help(pen, scene.actions, rest)
        return alarm
    if layout is not None and scene.result is not None:
        top = marks.name_images(pen, scene, layout, rest, size)
        if large is None:  # what is not live is not to be measured
            _explain(canvas, pen, scene, scene.result, layout, rest, size)
    if large is not None:
        banners.show_signal(pen, large, rest, top, size)
    return alarm


def _explain(
    canvas: Canvas, pen: Pen, scene: Scene, result: Result, layout: Layout, clear: Box, size: int
) -> None:
    """A scale bar, and what colours mean."""
    taken = marks.draw_scale(pen, scene, result, layout, clear, size)
    check = shown_check(result, scene.view)
    if scene.view.overlay and check is not None:
        room = Box(clear.left, clear.top, clear.width - taken, clear.height)
        marks.draw_legend(canvas, pen, Scale.of(check.limit_db), room, size)


def banner_edge(size: int) -> int:
    """How far what is said stands from the edge, where the frames are."""
    return 2 * max(3, size // 2) + size // 4


def _how(scene: Scene) -> str:
    """How the alarm is acknowledged, and how many more there are."""
    key, more = scene.key_of("acknowledge"), len(scene.status.alarms) - 1
    how = f"seen? press {key}, or click here" if key else "seen? click here"
    return f"{how}; {more} more after it" if more > 0 else how


def _frames(scene: Scene, found: Sequence[Alert]) -> list[Colour]:
    """The colours of the frames around everything."""
    colours = [RED] * bool(scene.status.alarm) + [alert.colour for alert in found]
    return list(dict.fromkeys(colours))[:2]
