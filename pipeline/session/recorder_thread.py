"""The thread that owns the files of a recorder: sessions begin, take frames and results, go on, end.

Its work comes as letters through the inbox, so an outcome always comes after its frame, and no lock is needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clesr.engines import EngineInfo
from clesr.pipeline.clock import Clock
from clesr.pipeline.errors import ClesrError
from clesr.pipeline.frame import Image
from clesr.pipeline.mailbox import Closed
from clesr.pipeline.session.checkpointer import Checkpointer, cause
from clesr.pipeline.session.coding import Coder, Picture, coder_for, raw_threads
from clesr.pipeline.session.folder import make_folder, next_folder
from clesr.pipeline.session.format import Record, SessionError, SessionInfo
from clesr.pipeline.session.inbox import Inbox
from clesr.pipeline.session.retro import Retro
from clesr.pipeline.session.settings import RecorderSettings
from clesr.pipeline.session.trigger import Trigger
from clesr.pipeline.session.watchdog import DEAD, Watchdog
from clesr.pipeline.session.writer import WRITING_ERRORS, Entry, SessionWriter

LOOK_S = 0.1  # longest wait for work before it is looked whether a checkpoint has ended, or is due


class RecorderThread:
    """Does the work in ``inbox`` until that is closed and empty. ``start``, ``stop``, ``admit`` and ``on_...`` are such
    work. ``describe`` gives what is known of a session at its first frame. When writing fails the recording is closed
    with what is there, and ``finish`` raises the SessionError."""

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
        self._early: list[Entry] = []  # lost and corrupt frames before the first image of a recording
        self._retro = Retro(settings.retro_s, settings.retro_bytes)
        self._open: dict[int, Entry] = {}  # entries that will still change
        self._raw_coder: Coder | None = None
        self._missed = 0
        self._reached_ns = clock.now_ns()  # frames that came until then were worked on
        self._checkpointer = Checkpointer(clock, tell)
        self._error: SessionError | None = None
        self._thread = threading.Thread(target=self._work, name="clesr recorder", daemon=True)
        self._thread.start()

    def finish(self) -> str | None:
        """Any thread, once the inbox is closed: wait for the end; what was recorded, in a line. Raises the SessionError
        that ended a recording."""
        self._thread.join()
        error = self._error or self._checkpointer.error
        if error is not None:
            raise error
        return "; ".join(self._checkpointer.reports) or None

    def _work(self) -> None:
        try:
            try:
                self._serve()
            finally:
                self.inbox.close()
                self.trigger.disarm()
                for writer in self._writers():
                    self._end(writer)
                self._checkpointer.close()
        except Exception as error:  # noqa: BLE001 - raised by finish, on the main thread
            self._error = SessionError(f"the recorder failed: {type(error).__name__}: {error}")
            self.tell(str(self._error))

    def _serve(self) -> None:
        with suppress(Closed):
            while True:
                work = self.inbox.get(LOOK_S)
                if work is not None:
                    work()
                now = self.watchdog.progress()
                if self.inbox.empty:
                    self._reached_ns = now
                for writer in self._writers():
                    self._guarded(writer, partial(self._checkpointer.tend, writer, self._reached_ns))

    def start(self, folder: Path) -> None:
        self.trigger.begin()
        if self._writer is None and self._folder is None:
            self._open_folder(folder)
        self._rest()

    def _open_folder(self, folder: Path) -> None:
        try:
            make_folder(folder)
        except SessionError as error:
            self.tell(str(error))
            self.trigger.recording = False
        else:
            self._folder, self.trigger.recording = folder, True

    def stop(self) -> None:
        if self._folder is not None:
            self.tell(f"nothing was recorded in {self._folder}: no frame came")
            self._folder, self._early = None, []
        writer, self._writer = self._writer, None
        if writer is not None:
            self._closing.append(writer)
            self._close_when_settled(writer)
        self._rest()

    def on_frame(self, entry: Entry, image: Image, taken_ns: int) -> None:
        """``image``, which came at ``taken_ns``."""
        self._reached_ns = taken_ns
        self._meet(image.shape, image.dtype)
        coder = coder_for(image, self._raw_coder, "ffv1", fps=self.fps, threads=raw_threads())
        self._raw_coder = coder
        entry.raw = coder.code(image, 0)
        self._begin(entry)
        self.admit(entry)

    def on_missed(self, entry: Entry, shape: tuple[int, int], dtype: np.dtype[np.generic]) -> None:
        self._meet(shape, dtype)
        if self._writer is not None and not self._missed:
            self.tell(
                f"the disk is too slow for the recording {self._writer.folder}: frames are missing from it; "
                "their numbers are in it"
            )
        self._missed += 1
        self.admit(entry)

    def on_prepared(self, number: int, time_ns: int, levels: tuple[float, float] | None) -> None:
        entry = self._open.get(number)
        if entry is not None:
            entry.set(prepared_ns=time_ns, levels=levels)

    def on_settled(self, number: int, values: dict[str, Any], engine: EngineInfo | None) -> None:
        entry = self._open.get(number)
        if entry is None:
            return
        entry.set(**values)
        entry.settled, entry.sr_due, entry.engine = True, "collected_ns" in values, engine
        self._settled(entry)

    def on_sr(self, number: int, coder: Coder, picture: Picture | str) -> None:
        """The SR ``picture`` of a frame, or why there is none."""
        entry = self._open.get(number)
        if entry is None:
            return
        entry.sr_due = False
        if isinstance(picture, str):
            entry.set(reason=picture)
        else:
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
            self._early.append(entry)
        elif self._writer is not None:
            self._guarded(self._writer, partial(self._writer.add, entry))
        else:
            self._retro.add(entry)

    def _begin(self, entry: Entry) -> None:
        """The first image of a recording: make its session, with what was kept."""
        if self._folder is None:
            return
        folder, self._folder = self._folder, None
        entries = [*self._retro.take(), *self._early]
        self._early = []
        assert self._raw_coder is not None
        first = entries[0] if entries else entry
        try:
            writer = SessionWriter(folder, self._describe(first.record, self._raw_coder), self._raw_coder)
        except (*WRITING_ERRORS, ClesrError) as error:
            self._error = SessionError(f"no recording can be made in {folder}: {cause(error)}")
            self.tell(str(self._error))
            self.trigger.recording = False
            return
        self._writer, self._missed, self.key_wanted = writer, 0, True
        self.tell(f"recording to {folder}")
        for earlier in entries:
            self._guarded(writer, partial(writer.add, earlier))

    def _meet(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        """Frames of another size or depth: the recording goes on in a folder of its own."""
        coder = self._raw_coder
        if coder is None or (coder.shape, coder.dtype) == (shape, dtype):
            return
        self._retro.take()
        if self._writer is None:
            return
        folder = next_folder(self._writer.folder)
        self.tell(f"frames are {shape[1]}x{shape[0]} {dtype} now: the recording goes on in {folder}")
        writer, self._writer = self._writer, None
        self._closing.append(writer)
        self._close_when_settled(writer)
        self._open_folder(folder)

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
        except (*WRITING_ERRORS, SessionError) as error:
            self._end(writer, error)

    def _end(
        self, writer: SessionWriter, failure: Exception | None = None, *, announce: bool = False
    ) -> None:
        """``writer`` takes nothing more: the checkpointer closes it."""
        if failure is None and self.watchdog.dead:
            failure = SessionError(DEAD)
        if writer is self._writer:
            self._writer, self.trigger.recording = None, False
        elif writer in self._closing:
            self._closing.remove(writer)
        self._open = {n: entry for n, entry in self._open.items() if entry.writer is not writer}
        self._checkpointer.end(writer, failure, announce=announce)
        self._rest()

    def _rest(self) -> None:
        """Take no more notice of frames where nothing is recorded or kept, and no recording was ordered."""
        if not (self._writers() or self._folder is not None or self.settings.retro_s > 0):
            self.trigger.rest()

    def _writers(self) -> list[SessionWriter]:
        return [*self._closing, *([self._writer] if self._writer is not None else [])]
