"""The sessions of a recorder: they begin, take frames and results, go on, end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from clesr.engines.common.clock import Clock
from clesr.engines.common.errors import first_line
from clesr.engines.engine import EngineInfo
from clesr.pipeline.frame import Image
from clesr.pipeline.session.alarm import Alarm
from clesr.pipeline.session.changes import Changes
from clesr.pipeline.session.checkpointer import Checkpointer, cause
from clesr.pipeline.session.coding import Coder, Picture
from clesr.pipeline.session.folder import free_folder, make_folder, next_folder
from clesr.pipeline.session.format import Record, SessionError, SessionInfo
from clesr.pipeline.session.opening import Opening
from clesr.pipeline.session.place import DamagedError, MovedError
from clesr.pipeline.session.raw import Kind, RawImages, describe_kind, kind_of
from clesr.pipeline.session.retro import Retro
from clesr.pipeline.session.settings import RecorderSettings
from clesr.pipeline.session.trigger import Trigger
from clesr.pipeline.session.watchdog import DEAD, Watchdog
from clesr.pipeline.session.writer import Entry, SessionWriter


class Sessions:
    """What a recorder records into: the session that takes the frames, and those that wait for outcomes.

    Of one thread, but for what is said to be of any. ``describe`` gives what is known of a session at its first frame.
    When writing fails the session is closed with what is there, and ``errors`` says so.
    """

    def __init__(
        self,
        settings: RecorderSettings,
        describe: Callable[[Record, Coder], SessionInfo],
        *,
        trigger: Trigger,
        watchdog: Watchdog,
        fps: float,
        clock: Clock,
        tell: Callable[[str], None],
    ) -> None:
        self.settings, self.trigger, self.watchdog = settings, trigger, watchdog
        self.clock, self.tell = clock, tell
        self.key_wanted = True  # of the next SR picture: that it needs none before it
        self._describe = describe
        self._opening = Opening()
        self._writer: SessionWriter | None = None
        self._closing: list[SessionWriter] = []  # stopped, but some frames are still without an outcome
        self._retro = Retro(settings.retro_s, settings.retro_bytes)
        self._open: dict[int, Entry] = {}  # entries that will still change
        self._raw = RawImages(fps)
        self._changes = Changes()
        self._without: set[str] = set()  # why frames of this session have no pixels, as far as that was told
        self._reached_ns = clock.now_ns()  # frames that came until then were worked on
        self._checkpointer = Checkpointer(clock, tell)
        self._alarm = Alarm(tell)

    @property
    def alarm(self) -> str | None:
        """Any thread: what went wrong last with a recording that was asked for, None where nothing did."""
        return self._alarm.last or next(reversed(self._checkpointer.errors), None)

    @property
    def errors(self) -> list[str]:
        """After ``close``: what went wrong, a line each."""
        return [*self._alarm.messages, *self._checkpointer.errors]

    @property
    def reports(self) -> list[str]:
        """After ``close``: what was recorded, a line for each session."""
        return self._checkpointer.reports

    def declare_dead(self) -> None:
        """Source thread: the disk takes nothing."""
        self.trigger.disarm()
        self._alarm.last = f"{DEAD}: the recording ends"
        self.tell(self._alarm.last)

    def is_other(self, number: int) -> bool:
        """Any thread: whether frame ``number`` is known to be of another kind than its session."""
        entry = self._open.get(number)
        return entry is not None and entry.other

    def tend(self, *, idle: bool) -> None:
        """Something was done, and nothing waits where ``idle``: begin the checkpoints that are due."""
        now = self.watchdog.progress()
        if idle:
            self._reached_ns = now
        for writer in self._writers():
            self._guarded(writer, partial(self._checkpointer.tend, writer, self._reached_ns))

    def give_up(self, error: Exception) -> None:
        """``error`` came where nobody expected one: close what is open with what is there."""
        writers = self._writers()
        for writer in writers:
            self._end(writer, error)
        if not writers:
            self._alarm.sound(f"the recorder failed: {type(error).__name__}: {first_line(error)}")

    def close(self) -> None:
        """Nothing comes any more: return when every session is closed."""
        try:
            self.trigger.disarm()
            self._stop_waiting()
            for writer in self._writers():
                self._end(writer)
            self._raw.coder = None  # its threads must not wait for the last who knows this recorder
            self._retro.take()
            self._open.clear()
        finally:
            self._checkpointer.close()

    def start(self, folder: Path, *, or_next: bool = False) -> None:
        self.trigger.begin()
        if self._writer is None and self._opening.folder is None:
            self._open_folder(folder, free_folder if or_next else None)
        self._rest()

    def _open_folder(
        self, folder: Path, another: Callable[[Path], Path] | None = None, *, above: bool = True
    ) -> None:
        """The next image goes into ``folder``, or ``another`` made of its name."""
        try:
            folder = another(folder) if another is not None else folder
            make_folder(folder, above=above)
        except Exception as error:  # noqa: BLE001 - whatever the disk says, no recording begins
            said = (
                error
                if isinstance(error, SessionError)
                else f"no recording can be made beside {folder}: {cause(error)}"
            )
            self._alarm.sound(str(said))
            self.trigger.recording = False
        else:
            self._opening.folder, self.trigger.recording = folder, True

    def stop(self) -> None:
        self._stop_waiting()
        writer, self._writer = self._writer, None
        if writer is not None:
            self._closing.append(writer)
            self._close_when_settled(writer)
        self._rest()

    def _stop_waiting(self) -> None:
        """No image came for the recording that was to begin."""
        folder, entries = self._opening.take()
        if folder is not None:
            numbers = f"; {len(entries)} frames came without an image" if entries else ""
            self._alarm.sound(f"nothing was recorded in {folder}: no image came{numbers}")

    def on_frame(self, entry: Entry, image: Image, taken_ns: int) -> None:
        """``image``, which came at ``taken_ns``."""
        self._reached_ns = taken_ns
        if self._belongs(entry, (image.shape, image.dtype)):
            before, picture = self._raw.coder, self._raw.code(image)
            if isinstance(picture, str):
                self._without_pixels(entry, picture)
            else:
                entry.raw = picture
                if self._raw.coder is not before:
                    self._take_kind(entry)
                self._begin(entry)
        self.admit(entry)

    def on_missed(self, entry: Entry, kind: Kind, reason: str) -> None:
        """A frame for which there was no time, for a ``reason``."""
        if self._belongs(entry, kind):
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
        if not (self._opening.folder or self._writer or self.settings.retro_s > 0):
            return
        if not entry.complete:
            self._open[entry.record.number] = entry
        if self._opening.folder is not None:
            dropped = self._opening.add(entry)
            if dropped is not None:
                self._open.pop(dropped.record.number, None)
        elif self._writer is not None:
            self._guarded(self._writer, partial(self._writer.add, entry))
        else:
            self._retro.add(entry)

    def _belongs(self, entry: Entry, kind: Kind) -> bool:
        """Whether a frame of ``kind`` goes into the session, or begins one of its own (see Changes)."""
        self._changes.met(kind)
        if self._writer is None or kind == kind_of(self._writer.raw):
            return True
        if self._changes.few(entry.record.captured_ns) or self._changes.lasting:
            return True
        entry.other = True
        here = describe_kind(kind_of(self._writer.raw))
        self._without_pixels(entry, f"other size: {describe_kind(kind)} in a recording of {here}")
        return False

    def _without_pixels(self, entry: Entry, reason: str) -> None:
        """``entry`` is recorded by its number, for a ``reason`` whose kind is told once."""
        entry.explain(reason)
        kind = reason.partition(":")[0]
        if self._writer is not None and kind not in self._without:
            self._without.add(kind)
            self.tell(
                f"frames are missing from the recording {self._writer.folder} ({reason}); their numbers are in it"
            )

    def _take_kind(self, entry: Entry) -> None:
        """The picture of ``entry`` is of another kind than the one before it, which its session is of, too."""
        writer, self._writer = self._writer, None
        if writer is None:
            self._retro.take()
            return
        self._changes.followed(entry.record.captured_ns)
        assert self._raw.coder is not None
        self._closing.append(writer)  # first of all: from now on it is closed whatever breaks
        self._go_on(writer.folder, f"frames are {describe_kind(kind_of(self._raw.coder))} now")
        self._close_when_settled(writer)

    def _begin(self, entry: Entry) -> None:
        """The first image of a recording: make its session, with what was kept."""
        folder, early = self._opening.take()
        if folder is None:
            return
        entries = [*self._retro.take(), *early]
        coder = self._raw.coder
        assert coder is not None
        first = entries[0] if entries else entry
        try:
            writer = SessionWriter(folder, self._describe(first.record, coder), coder)
        except Exception as error:  # noqa: BLE001 - whatever breaks, the run goes on
            self._alarm.sound(f"no recording can be made in {folder}: {cause(error)}")
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
            self._alarm.last = f"the recording {writer.folder} ended early: {cause(failure)}"
        self._checkpointer.end(writer, failure, announce=announce)
        if current:
            self.trigger.recording = False
            now = self.clock.now_ns()
            if isinstance(failure, MovedError | DamagedError) and self._changes.few(now):
                self._changes.followed(now)
                self._go_on(writer.folder, "the frames that follow are safe")
        self._rest()

    def _forget(self, writer: SessionWriter | None) -> None:
        """Entries of ``writer``, or of none, change no more."""
        self._open = {n: entry for n, entry in self._open.items() if entry.writer is not writer}

    def _go_on(self, last: Path, why: str) -> None:
        """The recording goes on in a folder after the ``last``, where one can be made beside it."""
        self._open_folder(last, next_folder, above=False)
        if self._opening.folder is not None:
            self.tell(f"{why}: the recording goes on in {self._opening.folder}")

    def _rest(self) -> None:
        """Take no more notice of frames where nothing is recorded or kept, and no recording was ordered."""
        if not (self._writers() or self._opening.folder is not None or self.settings.retro_s > 0):
            self.trigger.rest()

    def _writers(self) -> list[SessionWriter]:
        return [*self._closing, *([self._writer] if self._writer is not None else [])]
