"""When frames of another size or depth begin a session of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

AT_ONCE = 4  # new folders in WITHIN_NS that are begun at once
WITHIN_NS = 60_000_000_000
IN_A_ROW = 25  # frames of one kind after which a session of their own begins all the same


class Changes:
    """Bounds how many folders one recording makes. Of the recorder thread.

    A change is followed at once, as long as there were few lately. A source that goes to and fro gets a new folder only
    for a kind of frames of which ``IN_A_ROW`` came: then frames of the other kinds are recorded by number alone.
    """

    def __init__(self) -> None:
        self._followed: deque[int] = deque(maxlen=AT_ONCE)
        self._kind: Hashable = None
        self._row = 0

    def met(self, kind: Hashable) -> None:
        """A frame of this ``kind`` came."""
        self._row = self._row + 1 if kind == self._kind else 1
        self._kind = kind

    @property
    def lasting(self) -> bool:
        """Whether enough frames in a row were of one kind."""
        return self._row >= IN_A_ROW

    def few(self, now_ns: int) -> bool:
        """Whether a new folder may be begun at once."""
        return len(self._followed) < AT_ONCE or now_ns - self._followed[0] >= WITHIN_NS

    def followed(self, now_ns: int) -> None:
        """A new folder is begun."""
        self._followed.append(now_ns)
