"""Several windows on one screen: where each stands, and the keys that they share."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

TITLE = "clesr"
MOST_KEYS = 64  # that wait for a window


class Keyboard:
    """The keys pressed in any window go to all of them, to each once."""

    def __init__(self) -> None:
        self._windows: list[deque[int]] = []

    def join(self) -> deque[int]:
        """The keys that are pressed from now on, for one more window to take; the oldest go where it takes none."""
        self._windows.append(deque(maxlen=MOST_KEYS))
        return self._windows[-1]

    def press(self, key: int) -> None:
        for keys in self._windows:
            keys.append(key)


@dataclass(frozen=True, slots=True)
class WindowPlacement:
    """Where a window stands: the ``index``-th of ``count`` in a grid over the screen."""

    title: str = TITLE
    index: int = 0
    count: int = 1
    keyboard: Keyboard = field(default_factory=Keyboard)

    def part_of(self, screen: tuple[int, int]) -> tuple[int, int, int, int]:
        """Left, top, width and height of its cell, in pixels of a ``screen`` of (width, height)."""
        columns = math.ceil(math.sqrt(self.count))
        rows = math.ceil(self.count / columns)
        row, column = divmod(self.index, columns)
        width, height = screen[0] // columns, screen[1] // rows
        return column * width, row * height, width, height
