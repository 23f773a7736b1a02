"""The facts of a run: in strips over the image or above and below it, or in a panel beside it."""

from __future__ import annotations

from typing import NamedTuple

from clesr.pipeline.display.facts import GRAY, Fact
from clesr.pipeline.display.layout import Box
from clesr.pipeline.display.text import Pen, fitting, width

DARK = (22, 20, 18)
OPACITY = 0.72  # of a strip over the image
MARGIN = 2  # heights of a capital left and right of the words
PITCH = 1.9  # rows from line to line, in heights of a capital
PANEL = 23  # heights of a capital that the panel beside the image is wide
STRIP = 5  # a strip takes at most the height of the window over this
MOST = 0.45  # of the window that a panel beside the image may take at most
SMALLEST = 7  # height of a capital


Groups = list[list[Fact]]  # what belongs together


class FactsPlan(NamedTuple):
    """Where the facts stand: in ``top`` and ``bottom``, or in ``side``. ``room`` is for the picture, ``clear`` the part
    of it that no fact covers."""

    room: Box
    clear: Box
    top: Box | None = None
    bottom: Box | None = None
    side: Box | None = None


def plan(
    place: str, shape: tuple[int, int], groups: tuple[Groups, Groups], size: int, ratio: float
) -> FactsPlan:
    """Where the facts stand in a window of ``shape`` (H, W): ``over`` the image, ``beside`` it or ``off``. ``ratio`` is
    the width of the picture over its height: beside it they stand where more is left for it."""
    height, wide = shape
    whole = Box(0, 0, wide, height)
    if place == "off":
        return FactsPlan(whole, whole)
    lines = [len(_flow(part, size, wide - 2 * MARGIN * size)) for part in groups]
    above, below = (min(_height(count, size), height // STRIP) for count in lines)
    between = Box(0, above, wide, height - above - below)
    top, bottom = Box(0, 0, wide, above), Box(0, height - below, wide, below)
    if place == "over":
        return FactsPlan(whole, between, top, bottom)
    taken = min(PANEL * size, round(MOST * wide))
    beside = Box(0, 0, wide - taken, height)
    if _size_of_picture(beside, ratio) >= _size_of_picture(between, ratio):
        return FactsPlan(beside, beside, side=Box(wide - taken, 0, taken, height))
    return FactsPlan(between, between, top, bottom)


def _size_of_picture(room: Box, ratio: float) -> float:
    return min(room.height, room.width / ratio)


def _height(lines: int, size: int) -> int:
    return round(PITCH * size * lines + 1.7 * size)


def _baseline(row: int, size: int) -> int:
    """Of line ``row``, below the upper edge of a strip or panel."""
    return round(PITCH * size * row + 2.3 * size)


def write_facts(pen: Pen, plan: FactsPlan, groups: tuple[Groups, Groups], size: int) -> None:
    """Write ``groups`` where ``plan`` says: those above the image, and those below it."""
    over = plan.room != plan.clear
    for box, part in zip((plan.top, plan.bottom), groups, strict=True):
        if box is not None:
            pen.fill(box, DARK, OPACITY if over else 1.0)
            for row, line in enumerate(_flow(part, size, box.width - 2 * MARGIN * size)):
                baseline = box.top + _baseline(row, size)
                if baseline + size // 2 < box.top + box.height:
                    _write_line(pen, line, baseline, size, box)
    if plan.side is not None:
        pen.fill(plan.side, DARK)
        _write_panel(pen, plan.side, [*groups[0], *groups[1]], size)


def _flow(groups: Groups, size: int, room: int) -> list[list[tuple[int, Fact]]]:
    """Lines of facts one after the other, as many as have room, each with how far right of the margin it stands."""
    lines: list[list[tuple[int, Fact]]] = []
    end = room
    for group in groups:
        gap = 4 * size  # between groups more than in them
        for fact in group:
            wide = width(str(fact), size)
            if not lines or end + gap + wide > room:
                lines.append([])
                end = gap = 0
            lines[-1].append((end + gap, fact))
            end, gap = end + gap + wide, 2 * size
    return lines


def _write_line(pen: Pen, line: list[tuple[int, Fact]], baseline: int, size: int, box: Box) -> None:
    margin = MARGIN * size
    for left, fact in line:
        shown = fitting(str(fact), size, box.width - 2 * margin - left)
        pen.write(shown, box.left + margin + left, baseline, size, fact.colour)


def _write_panel(pen: Pen, box: Box, groups: Groups, size: int) -> None:
    """A row for each fact, what it is on the left, how much on the right; smaller where they do not fit."""
    room = box.width - 2 * MARGIN * size
    rows = _rows(groups, size, room)
    while size > SMALLEST and _height(len(rows), size) > box.height:
        size -= 1
        rows = _rows(groups, size, room)
    left, right = box.left + (box.width - room) // 2, box.left + (box.width + room) // 2
    for row, fact in enumerate(rows):
        baseline = box.top + _baseline(row, size)
        if fact is None or baseline + size > box.top + box.height:
            continue
        if fact.plain:
            pen.write(fitting(fact.value, size, room), left, baseline, size, fact.colour)
            continue
        wide = pen.write(fitting(fact.label, size, room), left, baseline, size, GRAY)
        value = fitting(fact.value, size, room - wide - size)
        pen.write(value, right - width(value, size), baseline, size, fact.colour)


def _rows(groups: Groups, size: int, room: int) -> list[Fact | None]:
    """A fact for each row, long ones on several; None is an empty row."""
    rows: list[Fact | None] = []
    for group in groups:
        for fact in group:
            whole = width(str(fact), size) + (0 if fact.plain else 2 * size)
            if whole <= room or not (fact.plain or " " in fact.value):
                rows.append(fact)
                continue
            if not fact.plain:
                rows.append(Fact("", fact.label, GRAY, plain=True))
            rows += [Fact("", part, fact.colour, plain=True) for part in _wrapped(fact.value, size, room)]
        rows.append(None)
    return rows[:-1]


def _wrapped(text: str, size: int, room: int) -> list[str]:
    """``text`` in lines that fit, broken between words."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width(longer, size) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
