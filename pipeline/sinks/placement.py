"""Several windows on one screen: where each stands, and the keys that they share."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field

TITLE = "clesr"


class Keyboard:
    """The keys pressed in any window go to all of them, to each once."""

    def __init__(self) -> None:
        self._waiting: dict[object, list[int]] = {}
        self._lock = threading.Lock()

    def press(self, key: int) -> None:
        with self._lock:
            for keys in self._waiting.values():
                keys.append(key)

    def pressed(self, window: object) -> list[int]:
        """The keys since ``window`` asked last."""
        with self._lock:
            keys = self._waiting.get(window, [])
            self._waiting[window] = []
        return keys

    def forget(self, window: object) -> None:
        with self._lock:
            self._waiting.pop(window, None)


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
