"""A recording that begins with the next image."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from clesr.pipeline.session.writer import Entry

KEPT = 100_000  # frames without an image before the first one


class Opening:
    """``folder`` that the recording goes into, None where none is to begin, and the frames without an image that came
    since it was asked for: the last ``KEPT``."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._entries: deque[Entry] = deque(maxlen=KEPT)

    def add(self, entry: Entry) -> Entry | None:
        """Keep ``entry``; the one for which there is no more room."""
        dropped = self._entries[0] if len(self._entries) == KEPT else None
        self._entries.append(entry)
        return dropped

    def take(self) -> tuple[Path | None, list[Entry]]:
        """The folder and the frames; nothing is to begin any more."""
        folder, self.folder = self.folder, None
        entries = list(self._entries)
        self._entries.clear()
        return folder, entries
