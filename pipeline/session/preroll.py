"""Before a recording: when one is wanted, what it contains of the time before it was ordered, what waits for its first
image, and when frames of another format get a folder of their own."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from pathlib import Path

from clesr.pipeline.session.format import SessionNote
from clesr.pipeline.session.video import ImageFormat
from clesr.pipeline.session.writer import Entry

AT_ONCE = 4  # new folders in WITHIN_NS that are begun at once
WITHIN_NS = 60_000_000_000
IN_A_ROW = 25  # frames of one format after which a segment of their own begins all the same
EARLY = 100_000  # frames without an image that are kept before the first one
OLDER = "the SR image was made by the engine before that of this recording"


class Trigger:
    """When frames are recorded: ordered from any thread, carried out by the recorder thread. ``armed`` while frames are
    taken notice of at all, ``recording`` while they go into a recording, ``wanted`` while they are to."""

    def __init__(self, *, armed: bool) -> None:
        self.armed, self.recording, self.wanted = armed, False, False
        self._asked = self._taken_up = 0  # orders
        self._lock = threading.RLock()  # so that a recording can be ordered in a signal handler

    def order(self, recording: bool) -> None:
        """A recording is to begin, or to end; ``take_up`` follows on the recorder thread."""
        with self._lock:
            self.armed, self.recording, self.wanted = self.armed or recording, recording, recording
            self._asked += 1

    def take_up(self) -> None:
        """The oldest order is being carried out."""
        with self._lock:
            self._taken_up += 1

    def found(self, recording: bool) -> None:
        """Whether there is a ``recording``, as the recorder thread found; what was ordered meanwhile counts more."""
        with self._lock:
            if self._asked == self._taken_up:
                self.recording = recording

    def rest(self) -> None:
        """Nothing is recorded: disarm, unless something was ordered meanwhile."""
        with self._lock:
            if self._asked == self._taken_up:
                self.armed = False

    def disarm(self) -> None:
        self.armed = self.recording = False


class PreRollBuffer:
    """Entries of the last ``seconds``, as long as their encoded images fit ``budget`` bytes."""

    def __init__(self, seconds: float, budget: int) -> None:
        self.seconds, self.budget = seconds, budget
        self._entries: deque[Entry] = deque()
        self._size = 0

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self.grew(entry.size)

    def grew(self, count: int) -> None:
        """There are ``count`` bytes more in here: the oldest entries go where that is too much."""
        self._size += count
        while len(self._entries) > 1:
            oldest, newest = self._entries[0], self._entries[-1]
            kept_ns = newest.record.captured_ns - oldest.record.captured_ns
            if self._size <= self.budget and kept_ns <= self.seconds * 1e9:
                return
            self._entries.popleft()
            self._size -= oldest.size
            oldest.kept = False

    def settled(self, seconds: float) -> list[Entry]:
        """Copies of those of the last ``seconds``, up to the first that may still change."""
        done = list(takewhile(lambda entry: entry.settled and not entry.sr_due, self._entries))
        since_ns = done[-1].record.captured_ns - seconds * 1e9 if done else 0
        return [replace(entry) for entry in done if entry.record.captured_ns >= since_ns]

    def drop_images(self) -> None:
        """Frames that follow are for another engine: of those in here only the raw images are kept."""
        for entry in self._entries:
            if entry.sr is not None:
                self._size -= len(entry.sr.data)
            entry.sr, entry.engine, entry.older = None, None, True
            entry.explain(OLDER)

    def take(self) -> list[Entry]:
        """Everything, which is then the caller's."""
        taken = list(self._entries)
        self._entries.clear()
        self._size = 0
        return taken


@dataclass(slots=True)
class PendingRecording:
    """A recording that begins with the next image: its ``folder``, None where none is to begin, and frames without an
    image and notes that came since it was ordered."""

    folder: Path | None = None
    entries: deque[Entry] = field(default_factory=partial(deque, maxlen=EARLY))
    notes: list[SessionNote] = field(default_factory=list)

    @property
    def lost_notes(self) -> str:
        """What an alarm says of them where it does not begin."""
        count = len(self.notes)
        return (
            f"; {count} note{'s' * (count > 1)} for it {'are' if count > 1 else 'is'} lost" if count else ""
        )


class FormatChanges:
    """Bounds how many folders one recording makes.

    A change is followed at once, as long as there were few lately. A source that goes to and fro gets a new folder only
    for a format of which ``IN_A_ROW`` frames came: then frames of the other formats are recorded by number alone.
    """

    def __init__(self) -> None:
        self._followed: deque[int] = deque(maxlen=AT_ONCE)
        self._images: ImageFormat | None = None
        self.row = 0  # frames of one format that came last, 0 where it is that of the session

    def met(self, images: ImageFormat) -> None:
        """A frame of this format came, which the session is not of."""
        self.row = self.row + 1 if images == self._images else 1
        self._images = images

    @property
    def lasting(self) -> bool:
        """Whether the format that came last stays."""
        return self.row >= IN_A_ROW

    def few(self, now_ns: int) -> bool:
        """Whether a new folder may be begun at once."""
        return len(self._followed) < AT_ONCE or now_ns - self._followed[0] >= WITHIN_NS

    def followed(self, now_ns: int) -> None:
        """A new folder is begun."""
        self._followed.append(now_ns)
