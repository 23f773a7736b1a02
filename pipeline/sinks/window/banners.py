"""What stands out: alerts, the alarm, questions and answers."""

from __future__ import annotations

import cv2
import numpy as np

from clesr.pipeline.display.alerts import Alert
from clesr.pipeline.display.facts import WHITE, Fact
from clesr.pipeline.display.layout import Box
from clesr.pipeline.display.overlay import Canvas
from clesr.pipeline.display.text import Colour, Pen, fitting, width
from clesr.pipeline.sinks.window.strips import DARK

INK: Colour = (16, 14, 12)  # on a bright colour
ALARM: Colour = (48, 40, 200)
SCRIM = 0.6
PALE = 0.4, 24.0  # how much is left of the contrast of an image that is not live, and how bright its black is
CHIP = 1.1  # heights of a capital beside the words in a tab


def show_alarm(pen: Pen, text: str, how: str, clear: Box, top: int, size: int) -> Box:
    """``text`` over the whole width from row ``top`` on, and below it ``how`` to acknowledge it; where it stands."""
    large, room = round(2.2 * size), clear.width - 4 * size
    while large > size and width(text, large, bold=True) > room:
        large -= 1
    box = Box(clear.left, top, clear.width, round(2.1 * large + 2.2 * size))
    pen.fill(box, ALARM)
    rows = ((fitting(text, large, room, bold=True), large, box.top + round(1.7 * large)), (how, size, 0))
    for words, high, base in rows:
        shown = fitting(words, high, room, bold=high > size)
        left = clear.left + (clear.width - width(shown, high, bold=high > size)) // 2
        baseline = base or box.top + box.height - round(0.8 * size)
        pen.write(shown, left, baseline, high, WHITE, bold=high > size)
    return box


def show_tab(pen: Pen, alert: Alert, clear: Box, top: int, size: int) -> int:
    """``alert`` as a bright tab in the middle, from row ``top`` on; the row below it."""
    large, pad = round(1.8 * size), round(CHIP * size)
    room = clear.width - 2 * pad - 2 * size
    name = fitting(alert.text, large, room, bold=True)
    begin = width(name, large, bold=True) + (size if alert.detail else 0)
    detail = fitting(alert.detail, size, room - begin) if room - begin > 6 * size else ""
    if not detail:
        begin = width(name, large, bold=True)
    wide = begin + (width(detail, size) if detail else 0) + 2 * pad
    box = Box(clear.left + (clear.width - wide) // 2, top, wide, round(2.1 * large))
    pen.fill(box, alert.colour)
    baseline = box.top + (box.height + large) // 2
    pen.write(name, box.left + pad, baseline, large, INK, bold=True)
    if detail:
        pen.write(detail, box.left + pad + begin, baseline, size, INK)
    return box.top + box.height + size // 2


def show_signal(pen: Pen, alert: Alert, clear: Box, top: int, size: int) -> None:
    """``alert`` in the middle of ``clear``, not above row ``top``, its figure large."""
    name, figure, small = 2 * size, 4 * size, round(1.1 * size)
    lines = [(alert.text, name, True), (alert.figure, figure, True), (alert.detail, small, False)]
    shown = [(text, high, bold) for text, high, bold in lines if text]
    room = clear.width - 4 * size
    wanted = sum(round(1.7 * high) for _, high, _ in shown) + size
    widest = max(width(text, high, bold=bold) for text, high, bold in shown)
    space = clear.top + clear.height - top
    if wanted > space:
        shown = shown[:2]  # name and figure
        wanted = sum(round(1.7 * high) for _, high, _ in shown) + size
    ratio = min(1.0, room / widest, max(space, 1) / wanted)
    shown = [(text, max(7, int(high * ratio)), bold) for text, high, bold in shown]
    total = sum(round(1.7 * high) for _, high, _ in shown) + round(size * ratio)
    begin = max(top, clear.top + (clear.height - total) // 2)
    pen.fill(Box(clear.left, begin, clear.width, total), DARK, SCRIM)
    baseline = begin
    for text, high, bold in shown:
        baseline += round(1.55 * high)
        fitted = fitting(text, high, clear.width, bold=bold)
        left = clear.left + (clear.width - width(fitted, high, bold=bold)) // 2
        pen.write(fitted, left, baseline, high, alert.colour, bold=bold)
        baseline += round(0.15 * high)


def show_words(pen: Pen, text: str, clear: Box, size: int, *, asking: bool) -> Box:
    """A question, or the answer to the last action, in the middle at the bottom of ``clear``; what is left of that."""
    high = round(1.3 * size) if asking else size
    pad, tall = round(CHIP * high), round(2.4 * high)
    shown = fitting(text, high, clear.width - 2 * pad - 2 * size)
    wide, left = width(shown, high) + 2 * pad, clear.height - tall - size // 2
    if not shown or left < 0:
        return clear
    box = Box(clear.left + (clear.width - wide) // 2, clear.top + left, wide, tall)
    pen.fill(box, WHITE if asking else DARK, 1.0 if asking else 0.85)
    pen.write(shown, box.left + pad, box.top + (tall + high) // 2, high, INK if asking else WHITE)
    return clear._replace(height=max(left - size // 2, 0))


def show_recording(pen: Pen, fact: Fact, clear: Box, top: int, size: int) -> int:
    """Whether a session is recorded, in the upper left corner of ``clear``; the row below it."""
    pad = round(0.7 * size)
    box = Box(clear.left + size // 2, top, width(fact.value, size) + 2 * pad, 2 * size)
    pen.fill(box, DARK, 0.85)
    pen.write(fact.value, box.left + pad, box.top + (box.height + size) // 2, size, fact.colour)
    return box.top + box.height + size // 2


def frame(canvas: Canvas, colours: list[Colour], size: int) -> None:
    """A frame around everything in each of ``colours``, the first outermost."""
    thick, (height, wide) = max(3, size // 2), canvas.shape[:2]
    for index, colour in enumerate(colours):
        at = index * thick
        for row in range(at, min(at + thick, height // 2, wide // 2)):
            cv2.rectangle(canvas, (row, row), (wide - 1 - row, height - 1 - row), colour, 1)


def grey(picture: Canvas) -> None:
    """Make ``picture`` one that nobody takes for live: without colour, pale and low in contrast."""
    gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    pale = cv2.convertScaleAbs(gray, None, *PALE)
    picture[:] = np.asarray(cv2.cvtColor(pale, cv2.COLOR_GRAY2BGR), np.uint8)
