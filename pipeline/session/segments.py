"""The segments of a recording: sessions that follow one another where frames change their size or depth, or where
somebody takes the folder away."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sized
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from clesr.engines.common.errors import first_line
from clesr.engines.engine import EngineInfo
from clesr.pipeline.frame import Image
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.session.commit import DEAD, Committer, DiskWatchdog
from clesr.pipeline.session.folder import free_folder, make_folder, next_folder
from clesr.pipeline.session.format import DamagedError, MovedError, SessionError, cause
from clesr.pipeline.session.manifest import Provenance
from clesr.pipeline.session.preroll import PreRollBuffer, Trigger
from clesr.pipeline.session.video import EncodedImage, ImageEncoder, ImageFormat, raw_threads
from clesr.pipeline.session.writer import Entry, SessionWriter

log = SafeLogger(logging.getLogger(__name__))
AT_ONCE = 4  # new folders in WITHIN_NS that are begun at once
WITHIN_NS = 60_000_000_000
IN_A_ROW = 25  # frames of one format after which a segment of their own begins all the same
EARLY = 100_000  # frames without an image that are kept before the first one
ALARMS = 20  # messages that are told and kept


class _Changes:
    """Bounds how many folders one recording makes.

    A change is followed at once, as long as there were few lately. A source that goes to and fro gets a new folder only
    for a format of which ``IN_A_ROW`` frames came: then frames of the other formats are recorded by number alone.
    """

    def __init__(self) -> None:
        self._followed: deque[int] = deque(maxlen=AT_ONCE)
        self._images: ImageFormat | None = None
        self.row = 0  # frames of one format that came last

    def met(self, images: ImageFormat) -> None:
        """A frame of this format came."""
        self.row = self.row + 1 if images == self._images else 1
        self._images = images

    def few(self, now_ns: int) -> bool:
        """Whether a new folder may be begun at once."""
        return len(self._followed) < AT_ONCE or now_ns - self._followed[0] >= WITHIN_NS

    def followed(self, now_ns: int) -> None:
        """A new folder is begun."""
        self._followed.append(now_ns)


class Segments:
    """What a recorder records into: the session that takes the frames, and those that wait for outcomes.

    Of the recorder thread, but for what is said to be of any. When writing fails the session is closed with what is
    there, and ``errors`` says so. ``reports`` has a line for each session, after ``close``.
    """

    def __init__(self, provenance: Provenance, *, fps: float) -> None:
        self.settings, self.clock = provenance.settings, provenance.clock
        self.trigger = Trigger(armed=self.settings.retro_s > 0)
        self.watchdog = DiskWatchdog(self.clock)
        self.key_wanted = True  # of the next SR image: that it needs none before it
        self.open: dict[int, Entry] = {}  # entries that will still change, by number; any thread may look
        self._provenance, self._fps = provenance, fps
        self._opening: Path | None = None  # what is recorded into from the next image on
        self._early: deque[Entry] = deque(maxlen=EARLY)  # frames without an image that came since
        self._writer: SessionWriter | None = None
        self._closing: list[SessionWriter] = []  # stopped, but some frames are still without an outcome
        self._preroll = PreRollBuffer(self.settings.retro_s, self.settings.retro_bytes)
        self._encoder: ImageEncoder | None = None  # of the last raw image
        self._changes = _Changes()
        self._without: set[str] = set()  # why frames of this session have no pixels, as far as that was told
        self._reached_ns = self.clock.now_ns()  # frames that came until then were worked on
        self._came = False  # a frame, since it was looked which commits are due
        self._committer = Committer()
        self._alarms: list[str] = []  # what went wrong outside sessions
        self.alarm: str | None = None  # what went wrong last, but in the committer; any thread may read
        self.reports, self.failures = self._committer.reports, self._committer.errors

    @property
    def errors(self) -> list[str]:
        """After ``close``: what went wrong, a line each."""
        return [*self._alarms, *self.failures]

    def declare_dead(self) -> None:
        """Source thread: the disk takes nothing."""
        self.trigger.disarm()
        self.alarm = f"{DEAD}: the recording ends"
        log.error(self.alarm)

    def handle(self, message: Callable[[], None] | None, waiting: Sized) -> None:
        """Do the work of ``message``; other messages are ``waiting``.

        What breaks where nobody expects it, as for want of memory, ends the sessions and not the thread.
        """
        try:
            if message is not None:
                message()
            now = self.clock.now_ns()
            if not waiting:
                self._reached_ns = now
            if (self._came or not waiting) and now >= self._committer.due_ns:
                self._came = False
                for writer in self._writers():
                    commit = partial(self._committer.commit_when_due, writer, self._reached_ns, now)
                    self._guarded(writer, commit)
        except Exception as error:  # noqa: BLE001 - as said
            writers = self._writers()
            for writer in writers:
                self._end(writer, error)
            if not writers:
                self._raise_alarm(f"the recorder failed: {type(error).__name__}: {first_line(error)}")

    def close(self) -> None:
        """Nothing comes any more: return when every session is closed."""
        try:
            self.trigger.disarm()
            self._stop_opening()
            for writer in self._writers():
                self._end(writer)
            self._encoder = None  # its threads must not wait for the last who knows this recorder
            self._preroll.take()
            self.open.clear()
        finally:
            self._committer.close()

    def start(self, folder: Path, *, or_next: bool = False) -> None:
        self.trigger.begin()
        if self._writer is None and self._opening is None:
            self._open_folder(folder, free_folder if or_next else None)
        self._rest()

    def stop(self) -> None:
        self._stop_opening()
        writer, self._writer = self._writer, None
        if writer is not None:
            self._closing.append(writer)
            self._close_when_settled(writer)
        self._rest()

    def on_frame(self, entry: Entry, image: Image, taken_ns: int) -> None:
        """``image``, which came at ``taken_ns``."""
        self._reached_ns = taken_ns
        images, before = ImageFormat(image.shape, image.dtype), self._encoder
        if self._belongs(entry, images):
            try:
                encoder = before
                if encoder is None or encoder.images != images:
                    encoder = ImageEncoder("ffv1", images, fps=self._fps, threads=raw_threads())
                entry.raw = encoder.encode(image)
            except Exception as error:  # noqa: BLE001 - whatever an encoder raises, those it takes are recorded
                self._without_pixels(entry, f"could not be coded: {images}: {cause(error)}")
            else:
                self._encoder = encoder
                if encoder is not before:
                    self._change(entry, images)
                if self._opening is not None:
                    self._begin(self._opening, entry, images)
        self.admit(entry)

    def on_missed(self, entry: Entry, images: ImageFormat, reason: str) -> None:
        """A frame for which there was no time, for a ``reason``."""
        if self._belongs(entry, images):
            self._without_pixels(entry, reason)
        self.admit(entry)

    def on_settled(
        self, number: int, values: dict[str, Any], engine: EngineInfo | None = None, reason: str = ""
    ) -> None:
        entry = self.open.get(number)
        if entry is None:
            return
        entry.record = structs.replace(entry.record, **values)
        if reason:
            entry.explain(reason)
        entry.settled, entry.sr_due, entry.engine = True, "collected_ns" in values, engine
        self._complete(entry)

    def on_sr(self, number: int, image: EncodedImage | str) -> None:
        """The SR ``image`` of a frame, or why there is none."""
        entry = self.open.get(number)
        if entry is None:
            return
        entry.sr_due = False
        if isinstance(image, str):
            entry.explain(image)
        elif not entry.other:
            entry.sr = image
            if entry.writer is not None:
                self._guarded(entry.writer, partial(entry.writer.add_sr, entry))
                self.key_wanted = entry.writer.needs_key
            elif entry.kept:
                self._preroll.grew(len(image.data))
                self.key_wanted = False
        self._complete(entry)

    def admit(self, entry: Entry) -> None:
        """``entry`` goes into the recording, else to those that one begun late would contain."""
        wanted = self._opening is not None or self._writer is not None or self.settings.retro_s > 0
        if wanted and (not entry.settled or entry.sr_due):
            self.open[entry.record.number] = entry
        if self._opening is not None:
            if len(self._early) == EARLY:
                self.open.pop(self._early[0].record.number, None)
            self._early.append(entry)
        elif self._writer is not None:
            self._guarded(self._writer, partial(self._writer.add, entry))
        elif wanted:
            self._preroll.add(entry)
        self._came = True

    def _belongs(self, entry: Entry, images: ImageFormat) -> bool:
        """Whether a frame goes into the session, or begins one of its own (see _Changes)."""
        self._changes.met(images)
        if self._writer is None or images == self._writer.images:
            return True
        if self._changes.few(entry.record.captured_ns) or self._changes.row >= IN_A_ROW:
            return True
        entry.other = True
        self._without_pixels(entry, f"other size: {images} in a recording of {self._writer.images}")
        return False

    def _without_pixels(self, entry: Entry, reason: str) -> None:
        """``entry`` is recorded by its number, for a ``reason`` whose kind is told once."""
        entry.explain(reason)
        kind = reason.partition(":")[0]
        if self._writer is not None and kind not in self._without:
            self._without.add(kind)
            log.warning(
                f"frames are missing from the recording {self._writer.path} ({reason}); their numbers are in it"
            )

    def _change(self, entry: Entry, images: ImageFormat) -> None:
        """The image of ``entry`` is of another format than the one before it, which its session is of, too."""
        writer, self._writer = self._writer, None
        if writer is None:
            self._preroll.take()
            return
        self._changes.followed(entry.record.captured_ns)
        self._closing.append(writer)  # first of all: from now on it is closed whatever breaks
        self._go_on(writer.path, f"frames are {images} now")
        self._close_when_settled(writer)

    def _open_folder(
        self, folder: Path, another: Callable[[Path], Path] | None = None, *, above: bool = True
    ) -> None:
        """The next image goes into ``folder``, or ``another`` made of its name."""
        try:
            folder = another(folder) if another is not None else folder
            make_folder(folder, above=above)
        except SessionError as error:
            self._raise_alarm(str(error))
        except Exception as error:  # noqa: BLE001 - whatever the disk says, no recording begins
            self._raise_alarm(f"no recording can be made beside {folder}: {cause(error)}")
        else:
            self._opening = folder
        self.trigger.recording = self._opening is not None

    def _stop_opening(self) -> None:
        """No image came for the recording that was to begin."""
        if self._opening is not None:
            count = len(self._early)
            numbers = f"; {count} frames came without an image" if count else ""
            self._raise_alarm(f"nothing was recorded in {self._opening}: no image came{numbers}")
        self._opening = None
        self._early.clear()

    def _begin(self, folder: Path, entry: Entry, images: ImageFormat) -> None:
        """``entry`` has the first image of a recording: make its session, with what was kept."""
        entries, self._opening = [*self._preroll.take(), *self._early], None
        self._early.clear()
        first = entries[0] if entries else entry
        try:
            info = self._provenance.describe(first.record, images.shape, images.dtype.name)
            writer = SessionWriter(folder, info)
        except Exception as error:  # noqa: BLE001 - whatever breaks, the run goes on
            self._raise_alarm(f"no recording can be made in {folder}: {cause(error)}")
            self.trigger.recording = False
            self._forget(None)
            self._rest()
            return
        self._writer, self.key_wanted = writer, True
        self._without.clear()
        log.info(f"recording to {folder}")
        for earlier in entries:
            self._guarded(writer, partial(writer.add, earlier))

    def _complete(self, entry: Entry) -> None:
        """Hand ``entry`` over where it will not change any more."""
        if not entry.settled or entry.sr_due:
            return
        self.open.pop(entry.record.number, None)
        writer = entry.writer
        if writer is not None:
            self._guarded(writer, partial(writer.complete, entry))
            if writer in self._closing:
                self._close_when_settled(writer)

    def _close_when_settled(self, writer: SessionWriter) -> None:
        if not writer.waiting:
            self._end(writer, announce=True)

    def _guarded(self, writer: SessionWriter, work: Callable[[], None]) -> None:
        """Do ``work`` of ``writer``. Where it fails the session is closed with what is on the disk."""
        if writer is not self._writer and writer not in self._closing:
            return
        try:
            if self.watchdog.dead:
                raise SessionError(DEAD)
            work()
        except Exception as error:  # noqa: BLE001 - whatever breaks a session, the recorder goes on
            self._end(writer, error)

    def _end(
        self, writer: SessionWriter, failure: Exception | None = None, *, announce: bool = False
    ) -> None:
        """``writer`` takes nothing more: the committer closes it."""
        if failure is None and self.watchdog.dead:
            failure = SessionError(DEAD)
        current = writer is self._writer
        if current:
            self._writer = None
        elif writer in self._closing:
            self._closing.remove(writer)
        self._forget(writer)
        if failure is not None:
            self.alarm = f"the recording {writer.path} ended early: {cause(failure)}"
        self._committer.end(writer, failure, announce=announce)
        if current:
            self.trigger.recording = False
            now = self.clock.now_ns()
            if isinstance(failure, MovedError | DamagedError) and self._changes.few(now):
                self._changes.followed(now)
                self._go_on(writer.path, "the frames that follow are safe")
        self._rest()

    def _go_on(self, last: Path, why: str) -> None:
        """The recording goes on in a folder after the ``last``, where one can be made beside it."""
        self._open_folder(last, next_folder, above=False)
        if self._opening is not None:
            log.warning(f"{why}: the recording goes on in {self._opening}")

    def _raise_alarm(self, message: str) -> None:
        """A recording could not begin, or something broke: ``message`` says it in one line."""
        self.alarm = message
        if message not in self._alarms and len(self._alarms) < ALARMS:
            self._alarms.append(message)
            log.error(message)

    def _forget(self, writer: SessionWriter | None) -> None:
        """Entries of ``writer``, or of none, change no more."""
        self.open = {n: entry for n, entry in self.open.items() if entry.writer is not writer}

    def _rest(self) -> None:
        """Take no more notice of frames where nothing is recorded or kept, and no recording was ordered."""
        if not (self._writers() or self._opening is not None or self.settings.retro_s > 0):
            self.trigger.rest()

    def _writers(self) -> list[SessionWriter]:
        return [*self._closing, *([self._writer] if self._writer is not None else [])]
