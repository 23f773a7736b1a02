"""The thread that owns the files of a recorder: sessions begin, take frames and results, go on, end.

Its work comes as letters through the inbox, so an outcome always comes after its frame, and no lock is needed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clesr.engines import EngineInfo
from clesr.pipeline.clock import Clock
from clesr.pipeline.errors import first_line
from clesr.pipeline.frame import Image
from clesr.pipeline.mailbox import Closed
from clesr.pipeline.session.changes import Changes
from clesr.pipeline.session.checkpointer import Checkpointer, cause
from clesr.pipeline.session.coding import Coder, Picture, coder_for, raw_threads
from clesr.pipeline.session.folder import make_folder, next_folder
from clesr.pipeline.session.format import Record, SessionError, SessionInfo
from clesr.pipeline.session.inbox import Inbox
from clesr.pipeline.session.place import DamagedError, MovedError
from clesr.pipeline.session.retro import Retro
from clesr.pipeline.session.settings import RecorderSettings
from clesr.pipeline.session.trigger import Trigger
from clesr.pipeline.session.watchdog import DEAD, Watchdog
from clesr.pipeline.session.writer import Entry, SessionWriter

LOOK_S = 0.1  # longest wait for work before it is looked whether a checkpoint has ended, or is due
EARLY = 100_000  # frames without an image that may come before the first image of a recording
SAID = 20  # things that went wrong which are told and kept

Kind = tuple[tuple[int, ...], np.dtype[np.generic]]  # shape and depth of frames


class RecorderThread:
    """Does the work in ``inbox`` until that is closed and empty. ``start``, ``stop``, ``admit`` and ``on_...`` are such
    work. ``describe`` gives what is known of a session at its first frame. When writing fails the recording is closed
    with what is there, and ``finish`` raises the SessionError; whatever breaks, the thread goes on."""

    def __init__(
        self,
        settings: RecorderSettings,
        describe: Callable[[Record, Coder], SessionInfo],
        *,
        fps: float,
        clock: Clock,
        tell: Callable[[str], None],
    ) -> None:
        self.settings, self.fps, self.tell = settings, fps, tell
        self.key_wanted = True  # of the next SR picture: that it needs none before it
        self.inbox = Inbox(settings.waiting_bytes)
        self.trigger = Trigger(armed=settings.retro_s > 0)
        self.watchdog = Watchdog(clock)
        self._describe = describe
        self._folder: Path | None = None  # of the recording that begins with the next image
        self._writer: SessionWriter | None = None
        self._closing: list[SessionWriter] = []  # stopped, but some frames are still without an outcome
        self._early: deque[Entry] = deque(maxlen=EARLY)  # before the first image of a recording, without one
        self._retro = Retro(settings.retro_s, settings.retro_bytes)
        self._open: dict[int, Entry] = {}  # entries that will still change
        self._raw_coder: Coder | None = None
        self._changes = Changes(clock)
        self._without: set[str] = set()  # why frames of this session have no pixels, as far as that was told
        self._reached_ns = clock.now_ns()  # frames that came until then were worked on
        self._checkpointer = Checkpointer(clock, tell)
        self._errors: list[str] = []
        self._alarm: str | None = None
        self._thread = threading.Thread(target=self._work, name="clesr recorder", daemon=True)
        self._thread.start()

    @property
    def alarm(self) -> str | None:
        """Any thread: what went wrong last with a recording that was asked for, None where nothing did."""
        errors = [*self._errors, *self._checkpointer.errors]
        return self._alarm or (errors[-1] if errors else None)

    def give_up(self) -> None:
        """Source thread: the disk takes nothing."""
        self.trigger.disarm()
        self._alarm = f"{DEAD}: the recording ends"
        self.tell(self._alarm)

    def is_other(self, number: int) -> bool:
        """Any thread: whether frame ``number`` is known to be of another kind than its session."""
        entry = self._open.get(number)
        return entry is not None and entry.other

    def finish(self) -> str | None:
        """Any thread, once the inbox is closed: wait for the end; what was recorded, in a line. Raises SessionError where
        a recording ended early, or nothing of it was recorded."""
        self._thread.join()
        errors = [*self._errors, *self._checkpointer.errors]
        if errors:
            raise SessionError("; ".join(errors))
        return "; ".join(self._checkpointer.reports) or None

    def _work(self) -> None:
        try:
            try:
                self._serve()
            finally:
                self.inbox.close()
                self.trigger.disarm()
                self._stop_waiting()
                for writer in self._writers():
                    self._end(writer)
                self._raw_coder = None
                self._retro.take()
                self._open.clear()
                self._checkpointer.close()
        except Exception as error:  # noqa: BLE001 - raised by finish, on the main thread
            self._fail(f"the recorder failed: {type(error).__name__}: {first_line(error)}")

    def _serve(self) -> None:
        with suppress(Closed):
            while True:
                work = self.inbox.get(LOOK_S)
                if work is not None:
                    self._do(work)
                now = self.watchdog.progress()
                if self.inbox.empty:
                    self._reached_ns = now
                for writer in self._writers():
                    self._guarded(writer, partial(self._checkpointer.tend, writer, self._reached_ns))

    def _do(self, work: Callable[[], None]) -> None:
        """What breaks where nobody expects it, as for want of memory, ends the sessions and not this thread."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - as said
            writers = self._writers()
            for writer in writers:
                self._end(writer, error)
            if not writers:
                self._fail(f"the recorder failed: {type(error).__name__}: {first_line(error)}")

    def start(self, folder: Path) -> None:
        self.trigger.begin()
        if self._writer is None and self._folder is None:
            self._open_folder(folder)
        self._rest()

    def _open_folder(self, folder: Path, *, above: bool = True) -> None:
        try:
            make_folder(folder, above=above)
        except SessionError as error:
            self._fail(str(error))
            self.trigger.recording = False
        else:
            self._folder, self.trigger.recording = folder, True

    def stop(self) -> None:
        self._stop_waiting()
        writer, self._writer = self._writer, None
        if writer is not None:
            self._closing.append(writer)
            self._close_when_settled(writer)
        self._rest()

    def _stop_waiting(self) -> None:
        """No image came for the recording that was to begin."""
        if self._folder is not None:
            numbers = f"; {len(self._early)} frames came without an image" if self._early else ""
            self._fail(f"nothing was recorded in {self._folder}: no image came{numbers}")
            self._folder = None
            self._early.clear()

    def on_frame(self, entry: Entry, image: Image, taken_ns: int) -> None:
        """``image``, which came at ``taken_ns``."""
        self._reached_ns = taken_ns
        kind = (image.shape, image.dtype)
        if self._belongs(entry, kind):
            entry.raw = self._code(entry, image)
        if entry.raw is not None:
            self._follow(kind)
            self._begin(entry)
        self.admit(entry)

    def on_missed(
        self, entry: Entry, shape: tuple[int, int], dtype: np.dtype[np.generic], reason: str
    ) -> None:
        """A frame for which there was no time, for a ``reason``."""
        if self._belongs(entry, (shape, dtype)):
            self._without_pixels(entry, reason)
        self.admit(entry)

    def on_prepared(self, number: int, time_ns: int, levels: tuple[float, float] | None) -> None:
        entry = self._open.get(number)
        if entry is not None:
            entry.set(prepared_ns=time_ns, levels=levels)

    def on_settled(
        self, number: int, values: dict[str, Any], engine: EngineInfo | None, reason: str = ""
    ) -> None:
        entry = self._open.get(number)
        if entry is None:
            return
        entry.set(**values)
        entry.explain(reason)
        entry.settled, entry.sr_due, entry.engine = True, "collected_ns" in values, engine
        self._settled(entry)

    def on_sr(self, number: int, coder: Coder | None, picture: Picture | str) -> None:
        """The SR ``picture`` of a frame, or why there is none."""
        entry = self._open.get(number)
        if entry is None:
            return
        entry.sr_due = False
        if isinstance(picture, str):
            entry.explain(picture)
        elif not entry.other:
            entry.sr, entry.sr_coder = picture, coder
            if entry.writer is not None:
                self._guarded(entry.writer, partial(entry.writer.add_sr, entry))
                self.key_wanted = entry.writer.needs_key
            elif entry.kept:
                self._retro.grew(len(picture.data))
                self.key_wanted = False
        self._settled(entry)

    def admit(self, entry: Entry) -> None:
        """``entry`` goes into the recording, else to those that one begun late would contain."""
        if not (self._folder or self._writer or self.settings.retro_s > 0):
            return
        if not entry.complete:
            self._open[entry.record.number] = entry
        if self._folder is not None:
            if len(self._early) == EARLY:
                self._open.pop(self._early[0].record.number, None)
            self._early.append(entry)
        elif self._writer is not None:
            self._guarded(self._writer, partial(self._writer.add, entry))
        else:
            self._retro.add(entry)

    def _belongs(self, entry: Entry, kind: Kind) -> bool:
        """Whether a frame of ``kind`` goes into the session, or begins one of its own (see Changes)."""
        self._changes.met(kind)
        if self._writer is None or kind == _kind(self._writer.raw):
            return True
        if self._changes.few() or self._changes.lasting:
            return True
        entry.other = True
        self._without_pixels(
            entry, f"other size: {_describe(kind)} in a recording of {_describe(_kind(self._writer.raw))}"
        )
        return False

    def _code(self, entry: Entry, image: Image) -> Picture | None:
        """The raw picture of ``image``; None where there can be none."""
        try:
            coder = coder_for(image, self._raw_coder, "ffv1", fps=self.fps, threads=raw_threads())
            picture = coder.code(image, 0)
        except Exception as error:  # noqa: BLE001 - whatever a coder raises, the others are recorded
            kind = _describe((image.shape, image.dtype))
            self._without_pixels(entry, f"could not be coded: {kind}: {cause(error)}")
            return None
        if coder is not self._raw_coder and self._writer is None:
            self._retro.take()  # pictures of one recording are of one kind
        self._raw_coder = coder
        return picture

    def _without_pixels(self, entry: Entry, reason: str) -> None:
        """``entry`` is recorded by its number, for a ``reason`` whose kind is told once."""
        entry.explain(reason)
        kind = reason.partition(":")[0]
        if self._writer is not None and kind not in self._without:
            self._without.add(kind)
            self.tell(
                f"frames are missing from the recording {self._writer.folder} ({reason}); their numbers are in it"
            )

    def _follow(self, kind: Kind) -> None:
        """A frame of ``kind`` has its picture: where that is another kind, the recording goes on in a folder of its
        own."""
        if self._writer is None or kind == _kind(self._writer.raw):
            return
        self._changes.followed()
        writer, self._writer = self._writer, None
        folder = next_folder(writer.folder)
        self._open_folder(folder, above=False)
        if self._folder is not None:
            self.tell(f"frames are {_describe(kind)} now: the recording goes on in {folder}")
        self._closing.append(writer)
        self._close_when_settled(writer)

    def _begin(self, entry: Entry) -> None:
        """The first image of a recording: make its session, with what was kept."""
        if self._folder is None:
            return
        folder, self._folder = self._folder, None
        entries = [*self._retro.take(), *self._early]
        self._early.clear()
        assert self._raw_coder is not None
        first = entries[0] if entries else entry
        try:
            writer = SessionWriter(folder, self._describe(first.record, self._raw_coder), self._raw_coder)
        except Exception as error:  # noqa: BLE001 - whatever breaks, the run goes on
            self._fail(f"no recording can be made in {folder}: {cause(error)}")
            self.trigger.recording = False
            self._forget(None)
            self._rest()
            return
        self._writer, self.key_wanted = writer, True
        self._without.clear()
        self.tell(f"recording to {folder}")
        for earlier in entries:
            self._guarded(writer, partial(writer.add, earlier))

    def _settled(self, entry: Entry) -> None:
        if not entry.complete:
            return
        self._open.pop(entry.record.number, None)
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
        if writer not in self._writers():
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
        """``writer`` takes nothing more: the checkpointer closes it."""
        if failure is None and self.watchdog.dead:
            failure = SessionError(DEAD)
        current = writer is self._writer
        if current:
            self._writer = None
        elif writer in self._closing:
            self._closing.remove(writer)
        self._forget(writer)
        if failure is not None:
            self._alarm = f"the recording {writer.folder} ended early: {cause(failure)}"
        self._checkpointer.end(writer, failure, announce=announce)
        if current:
            self.trigger.recording = False
            if isinstance(failure, MovedError | DamagedError) and self._changes.few():
                self._go_on(writer.folder)
        self._rest()

    def _forget(self, writer: SessionWriter | None) -> None:
        """Entries of ``writer``, or of none, change no more."""
        self._open = {n: entry for n, entry in self._open.items() if entry.writer is not writer}

    def _go_on(self, folder: Path) -> None:
        """Others took the recording's ``folder`` away: the next frames go into one beside it, where that can be."""
        self._changes.followed()
        self._open_folder(next_folder(folder), above=False)
        if self._folder is not None:
            self.tell(f"the recording goes on in {self._folder}")

    def _fail(self, message: str) -> None:
        """A recording that was asked for is not what it should be."""
        self._alarm = message
        if message not in self._errors and len(self._errors) < SAID:
            self._errors.append(message)
            self.tell(message)

    def _rest(self) -> None:
        """Take no more notice of frames where nothing is recorded or kept, and no recording was ordered."""
        if not (self._writers() or self._folder is not None or self.settings.retro_s > 0):
            self.trigger.rest()

    def _writers(self) -> list[SessionWriter]:
        return [*self._closing, *([self._writer] if self._writer is not None else [])]


def _kind(coder: Coder) -> Kind:
    return coder.shape, coder.dtype


def _describe(kind: Kind) -> str:
    (height, width), dtype = kind
    return f"{width}x{height} {dtype}"
