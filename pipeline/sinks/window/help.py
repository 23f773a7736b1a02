"""What the keys and the mouse do, as a panel."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from clesr.pipeline.display.facts import BLUE, GRAY, WHITE
from clesr.pipeline.display.layout import Box
from clesr.pipeline.display.text import DOTS, Colour, Pen, fitting, width
from clesr.pipeline.sinks.window.strips import DARK, SMALLEST

MOUSE = (
    ("wheel", "zoom at the pointer"),
    ("drag", "move the image, or the edge of a wipe"),
    ("right drag", "mark a region; a click takes it away"),
    ("Ctrl drag", "contrast"),
    ("double click", "the whole image again"),
)
LARGEST = 18  # height of a capital
READABLE = 8  # from which on texts are rather cut than made smaller
PITCH = 2.1
REASON = 40  # characters in a row of what is missing
SOFT = (205, 205, 205)
DIM = (130, 130, 130)


class _HelpRow(NamedTuple):
    """What ``key`` does, dim where that cannot be, or why, in gray; a heading is blue."""

    key: str
    text: str
    colour: Colour = SOFT

    def key_width(self, size: int) -> int:
        return width(self.key, size) + round(1.8 * size) if self.key else 0


def show_help(pen: Pen, actions: Sequence[Mapping[str, Any]], clear: Box) -> None:
    """The panel in the middle of ``clear``, in two columns, as large as fits. What the run lacks for an action stands
    under it, where there is room for that."""
    columns = _columns(_groups(actions, reasons=True))
    if _panel_height(columns, SMALLEST) > clear.height:
        columns = _columns(_groups(actions, reasons=False))
    size = LARGEST
    while size > SMALLEST and _panel_height(columns, size) > clear.height:
        size -= 1
    while size > READABLE and _panel_width(columns, size) > clear.width:
        size -= 1
    high = min(_panel_height(columns, size), clear.height)
    wide = min(_panel_width(columns, size), clear.width)
    left, top = clear.left + (clear.width - wide) // 2, clear.top + (clear.height - high) // 2
    pen.fill(Box(left, top, wide, high), DARK, 0.92)
    begin = left + 2 * size
    for column, room in zip(columns, _rooms(columns, wide - 7 * size, size), strict=True):
        keys = min(_key_width(column, size), 2 * room // 3)
        for number, row in enumerate(column):
            baseline = top + round((number + 1.3) * PITCH * size)
            if row is not None and baseline + size // 2 < top + high:
                _write(pen, row, begin, baseline, room, keys, size)
        begin += room + 3 * size


def _rooms(columns: Sequence[Sequence[_HelpRow | None]], room: int, size: int) -> tuple[int, int]:
    """How wide each of two columns may be: the wider one does without what is not there."""
    first, second = (_column_width(column, size) for column in columns)
    missing = max(first + second - room, 0)
    first -= min(missing, max(first - room // 2, 0))
    return first, min(second, max(room - first, 0))


def _panel_width(columns: Sequence[Sequence[_HelpRow | None]], size: int) -> int:
    """Of the panel."""
    return sum(_column_width(column, size) for column in columns) + 3 * size * (len(columns) - 1) + 4 * size


def _panel_height(columns: Sequence[Sequence[_HelpRow | None]], size: int) -> int:
    return round((max(map(len, columns)) + 1.4) * PITCH * size)


def _key_width(column: Sequence[_HelpRow | None], size: int) -> int:
    return max((row.key_width(size) for row in column if row is not None), default=0)


def _column_width(column: Sequence[_HelpRow | None], size: int) -> int:
    texts = max((width(row.text, size) for row in column if row is not None), default=0)
    return _key_width(column, size) + texts


def _write(pen: Pen, row: _HelpRow, left: int, baseline: int, room: int, keys: int, size: int) -> None:
    """``row`` from column ``left`` on, in ``room`` columns, of which the key may have ``keys``."""
    if row.colour == BLUE:
        pen.write(fitting(row.text, size, room), left, baseline, size, BLUE)
        return
    if row.key:
        pen.write(fitting(row.key, size, keys), left, baseline, size, DIM if row.colour == DIM else WHITE)
    pen.write(_begin(row.text, size, room - keys), left + keys, baseline, size, row.colour)


def _begin(text: str, size: int, room: int) -> str:
    """``text``, without the words at its end that do not fit."""
    words = text.split()
    for kept in range(len(words), 0, -1):
        shown = " ".join(words[:kept]) + DOTS * (kept < len(words))
        if width(shown, size) <= room:
            return shown
    return ""


def _groups(actions: Sequence[Mapping[str, Any]], *, reasons: bool) -> dict[str, list[_HelpRow]]:
    """The actions that have keys under their headings, with the ``reasons`` why they cannot be done, and the mouse."""
    groups: dict[str, list[_HelpRow]] = {}
    for action in actions:
        if action["key"]:
            said, missing = re.split(r"[.;:]", str(action["help"]))[0], str(action["missing"])
            rows = groups.setdefault(str(action["group"]), [])
            rows.append(_HelpRow(str(action["key"]), said, DIM if missing else SOFT))
            if reasons:
                rows += [
                    _HelpRow("", part, GRAY)
                    for part in textwrap.wrap(missing, REASON, break_on_hyphens=False)
                ]
    groups["Mouse"] = [_HelpRow(*row) for row in MOUSE]
    return groups


def _columns(groups: dict[str, list[_HelpRow]]) -> tuple[list[_HelpRow | None], list[_HelpRow | None]]:
    """The groups in two columns of about the same length; None is an empty row."""
    blocks = [[_HelpRow("", name, BLUE), *rows, None] for name, rows in groups.items()]
    total = sum(map(len, blocks))
    split = min(
        range(len(blocks) + 1),
        key=lambda at: max(sum(map(len, blocks[:at])), total - sum(map(len, blocks[:at]))),
    )
    left, right = ([row for block in part for row in block][:-1] for part in (blocks[:split], blocks[split:]))
    return left, right
