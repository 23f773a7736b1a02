"""What a run over an archive has come to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

LISTED = 20  # broken files that are listed by name at the end; the journal has them all


@dataclass
class Report:
    """Files finished now, found finished, and broken (name and reason of the first); frames and LR pixels done.
    ``met`` has bytes and LR pixels of all files begun by suffix, ``passed`` the bytes of those found finished: what the
    time left is reckoned from."""

    done: int = 0
    skipped: int = 0
    broken: int = 0
    listed: list[tuple[str, str]] = field(default_factory=list)
    frames: int = 0
    pixels: int = 0
    latest: str = ""
    met: dict[str, tuple[int, int]] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)

    def list_broken(self, name: str, reason: str) -> None:
        self.broken += 1
        if len(self.listed) < LISTED:
            self.listed.append((name, reason))

    def as_json(self) -> dict[str, Any]:
        shown = ("done", "skipped", "broken", "listed", "frames", "pixels")
        return {name: getattr(self, name) for name in shown}
