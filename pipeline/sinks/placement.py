"""Several windows on one screen: where each stands, and the keys that they share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

TITLE = "clesr"


class Keyboard:
    """What several windows share: the end that is asked for by a key in one is that of all, and ``recorded`` are the
    indices of those whose streams are recorded. Any thread."""

    def __init__(self) -> None:
        self.ended = False
        self.recorded: set[int] = set()

    def end(self) -> None:
        """The user wants to stop."""
        self.ended = True


@dataclass(frozen=True, slots=True)
class WindowPlacement:
    """Where a window stands: the ``index``-th of ``count`` in a grid over the screen. ``opened`` is its process
    (WindowProcess) where that was started before anything else."""

    title: str = TITLE
    index: int = 0
    count: int = 1
    keyboard: Keyboard = field(default_factory=Keyboard)
    opened: Any = None

    def part_of(self, screen: tuple[int, int]) -> tuple[int, int, int, int]:
        """Left, top, width and height of its cell, in pixels of a ``screen`` of (width, height)."""
        columns = math.ceil(math.sqrt(self.count))
        rows = math.ceil(self.count / columns)
        row, column = divmod(self.index, columns)
        width, height = screen[0] // columns, screen[1] // rows
        return column * width, row * height, width, height
