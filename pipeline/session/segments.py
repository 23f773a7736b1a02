"""The segments of a recording: sessions that follow one another where frames change their size or depth, or where
somebody takes the folder away."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sized
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from clesr.engines.common.errors import first_line
from clesr.engines.engine import EngineInfo
from clesr.pipeline.alarms import RecordingAlarms
from clesr.pipeline.cores.calibration import CoreCalibration
from clesr.pipeline.frame import Image, Outcome
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.session.commit import DEAD, STOPPED, Committer, DiskWatchdog
from clesr.pipeline.session.folder import free_folder, make_folder, next_folder
from clesr.pipeline.session.format import DamagedError, MovedError, SessionError, SessionNote, cause
from clesr.pipeline.session.manifest import Provenance
from clesr.pipeline.session.preroll import EARLY, FormatChanges, PendingRecording, PreRollBuffer, Trigger
from clesr.pipeline.session.video import EncodedImage, ImageEncoder, ImageFormat, raw_threads
from clesr.pipeline.session.writer import Entry, SessionWriter

log = SafeLogger(logging.getLogger(__name__))
NoteFuture = Future[tuple[Path, float | None]]  # the folder of a note, and the seconds since its first frame
EARLY_NOTES = 1000  # that wait for the first image
SILENT_S = 3.0  # without an image after which a recording is said to get nothing
NEVER_CAME = {
    Outcome.LOST: "lost at the source, before they came here",
    Outcome.CORRUPT: "they could not be decoded",
}  # why there is no image of what had the outcome when it came


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
        self._provenance, self._first, self._fps = provenance, provenance, fps
        self._stated: dict[str, Any] = {}  # of the run's settings, what has changed since it began
        self._switched: Mapping[str, Any] = {}  # and with the engine
        aspect = provenance.source.pixel_aspect
        self._new_encoder = partial(ImageEncoder, "ffv1", fps=fps, threads=raw_threads(), pixel_aspect=aspect)
        self._pending = PendingRecording()
        self._writer: SessionWriter | None = None
        self._closing: list[SessionWriter] = []  # stopped, but some frames are still without an outcome
        self._preroll = PreRollBuffer(self.settings.retro_s, self.settings.retro_bytes)
        self._encoder: ImageEncoder | None = None  # of the last raw image
        self._changes = FormatChanges()
        self._reached_ns = self.clock.now_ns()  # frames that came until then were worked on
        self._came = False  # a frame, since it was looked which commits are due
        self.alarms = RecordingAlarms(self.clock)
        self.recorded_ns: tuple[int, int] | None = None  # of the first frame of the recording and the last
        self._image_ns = 0  # when the last image of it came
        self._read = False  # whether the source is
        self._committer = Committer(self.alarms)
        self.alarm: str | None = None  # what went wrong last, but in the committer; any thread may read
        self.reports, self.failures = self._committer.reports, self._committer.errors
        self.room = self._committer.room

    @property
    def errors(self) -> list[str]:
        """After ``close``: what went wrong, a line each."""
        return [*self.alarms.nothing_recorded, *self.failures]

    def declare_dead(self) -> None:
        """Source thread: the disk takes nothing."""
        self.trigger.disarm()
        self.alarm = f"{DEAD}: the recording ends"
        self.alarms.add(f"RECORDING ENDED: {self.alarm}")
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
                self._look_whether_images_come(now)
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
            self.trigger.wanted = False
            self.trigger.disarm()
            self._stop_opening()
            for writer in self._writers():
                self._end(writer)
            self._encoder = None  # its threads must not wait for the last who knows this recorder
            self._preroll.take()
            self.open.clear()
        finally:
            self._committer.close()

    def start(
        self, folder: Path, done: Future[Path], *, or_next: bool = False, after_dead: bool = False
    ) -> None:
        """``done`` gets the folder that is recorded into, SessionError where none can be made. ``after_dead``: it was
        ordered when a disk had been given up, which may be another or be back by now."""
        self.trigger.take_up()
        if self._writer is None and self._pending.folder is None:
            self.recorded_ns, self._image_ns = None, self.clock.now_ns()
            self.room.forget()
            if after_dead:
                self.watchdog.forget()
            self._open_folder(folder, free_folder if or_next else None)
        place = self._writer.path if self._writer is not None else self._pending.folder
        if place is not None:
            done.set_result(place)
        else:
            done.set_exception(SessionError(self.alarm or f"no recording can be made in {folder}"))
        self._rest()

    def begin(self) -> None:
        """The source is read from now on."""
        self._read, self._image_ns = True, self.clock.now_ns()

    def stop(self) -> None:
        self.trigger.take_up()
        self._stop_opening()
        writer, self._writer = self._writer, None
        if writer is not None:
            self._closing.append(writer)
            self._close_when_settled(writer)
        self._rest()

    def state(self, settings: Mapping[str, Any]) -> None:
        self._stated |= settings
        self._describe(self._provenance.scale)

    def switch(self, scale: int, name: str, settings: Mapping[str, Any]) -> None:
        """The frames that follow are for another engine, called ``name``: they go on in a session of their own. Where
        none can be made, they go on in the present one."""
        self._switched = settings
        self._describe(scale)
        if self._pending.folder is not None:
            return
        writer = self._writer
        if writer is None:
            self._preroll.drop_images()
            return
        self._open_folder(writer.path, next_folder, above=False)
        if self._pending.folder is None:
            self.trigger.found(True)
            return
        log.info(f"images are {name or f'x{scale}'} now: the recording goes on in {self._pending.folder}")
        self.room.forget()
        self._writer = None
        self._closing.append(writer)
        self._close_when_settled(writer)

    def _describe(self, scale: int) -> None:
        """What sessions say of the run from now on."""
        self._provenance = self._first.changed(scale, {**self._switched, **self._stated})

    def on_frame(self, entry: Entry, image: Image, taken_ns: int) -> None:
        """``image``, which came at ``taken_ns``."""
        self._reached_ns = self._image_ns = taken_ns
        images, before = ImageFormat(image.shape, image.dtype), self._encoder
        if self._belongs(entry, images):
            try:
                encoder = before
                if encoder is None or encoder.images != images:
                    encoder = self._new_encoder(images)
                entry.raw = encoder.encode(image)
            except Exception as error:  # noqa: BLE001 - whatever an encoder raises, those it takes are recorded
                self._without_pixels(entry, f"could not be coded: {images}: {cause(error)}")
            else:
                self._encoder = encoder
                if encoder is not before:
                    self._change(entry, images)
                if self._pending.folder is not None:
                    self._begin(self._pending.folder, entry, images)
        self.admit(entry)

    def on_missed(self, entry: Entry, images: ImageFormat, reason: str) -> None:
        """A frame for which there was no time, for a ``reason``."""
        self._image_ns = self.clock.now_ns()
        if self._belongs(entry, images):
            self._without_pixels(entry, reason)
        self.admit(entry)

    def on_settled(
        self,
        number: int,
        values: dict[str, Any],
        engine: EngineInfo | None = None,
        reason: str = "",
        cores: CoreCalibration | None = None,
    ) -> None:
        entry = self.open.get(number)
        if entry is None:
            return
        entry.record, entry.cores = structs.replace(entry.record, **values), cores
        if reason:
            entry.explain(reason)
        entry.settled, entry.sr_due = True, "collected_ns" in values
        entry.engine = None if entry.older else engine
        self._complete(entry)

    def on_sr(self, number: int, image: EncodedImage | str) -> None:
        """The SR ``image`` of a frame, or why there is none."""
        entry = self.open.get(number)
        if entry is None:
            return
        entry.sr_due = False
        if isinstance(image, str):
            entry.explain(image)
        elif not (entry.other or entry.older):
            entry.sr = image
            if entry.writer is not None:
                self._guarded(entry.writer, partial(entry.writer.add_sr, entry))
                self.key_wanted = entry.writer.needs_key
            elif entry.kept:
                self._preroll.grew(len(image.data))
                self.key_wanted = False
        self._complete(entry)

    def note(self, note: SessionNote, done: NoteFuture) -> None:
        """``note`` goes into the session that takes the frames, or did last, or, where a recording is to begin, into
        that one with its first image. SessionError where there is none."""
        folder = self._pending.folder
        begins = folder is not None and self.recorded_ns is None
        writer = self._writer or (self._closing[-1] if self._closing and not begins else None)
        if writer is not None:
            self._guarded(writer, partial(writer.add_note, note))
        if writer is not None and writer in self._writers():
            done.set_result((writer.path, (note.time_ns - writer.info.started_ns) / 1e9))
        elif writer is None and folder is not None and len(self._pending.notes) < EARLY_NOTES:
            self._pending.notes.append(note)
            done.set_result((folder, None))
        else:
            done.set_exception(
                SessionError("nothing is being recorded that the note could go into; begin a recording")
            )

    def save_last(self, folder: Path, seconds: float, done: Future[tuple[Path, int]]) -> None:
        """What was kept of the last ``seconds`` becomes a session of its own, beside what goes on; ``done`` gets its
        folder and its number of frames when it is closed. SessionError where that cannot be."""
        try:
            writer = self._copy_kept(folder, self._preroll.settled(seconds))
        except Exception as error:  # noqa: BLE001 - whatever breaks, the recorder goes on
            done.set_exception(error if isinstance(error, SessionError) else SessionError(cause(error)))
            return

        def tell(_ended: object) -> None:
            if writer.info.ended == STOPPED:
                done.set_result((writer.path, writer.totals["captured"]))
            else:
                done.set_exception(SessionError(f"{writer.path} could not be written; an alarm says why"))

        self._end(writer, announce=True).add_done_callback(tell)

    def _copy_kept(self, folder: Path, entries: list[Entry]) -> SessionWriter:
        """A session of ``entries``, in ``folder`` or the next that is free. Raises SessionError."""
        if self._writer is not None or self._pending.folder is not None:
            raise SessionError("a recording is going on, and what came before is in it")
        first = next((entry.raw for entry in entries if entry.raw is not None), None)
        if first is None:
            raise SessionError("no image is kept yet; try again in a moment")
        folder = free_folder(folder)
        make_folder(folder)
        shape, dtype = first.encoder.images
        writer = SessionWriter(folder, self._provenance.describe(entries[0].record, shape, dtype.name))
        self._closing.append(writer)
        for entry in entries:
            self._guarded(writer, partial(writer.add, entry))
        if writer not in self._closing:
            raise SessionError(f"{folder} could not be written; an alarm says why")
        return writer

    def admit(self, entry: Entry) -> None:
        """``entry`` goes into the recording, else to those that one begun late would contain."""
        wanted = self._pending.folder is not None or self._writer is not None or self.settings.retro_s > 0
        if wanted and (not entry.settled or entry.sr_due):
            self.open[entry.record.number] = entry
        if self._pending.folder is not None:
            if len(self._pending.entries) == EARLY:
                self.open.pop(self._pending.entries[0].record.number, None)
            self._pending.entries.append(entry)
        elif self._writer is not None:
            if self.recorded_ns is not None:
                self.recorded_ns = self.recorded_ns[0], entry.record.captured_ns
            self._add(self._writer, entry)
        elif wanted:
            self._preroll.add(entry)
        self._came = True

    def _add(self, writer: SessionWriter, entry: Entry) -> None:
        if entry.record.outcome in NEVER_CAME:
            self.alarms.missing(writer.path, NEVER_CAME[entry.record.outcome])
        self._guarded(writer, partial(writer.add, entry))

    def _belongs(self, entry: Entry, images: ImageFormat) -> bool:
        """Whether a frame goes into the session, or begins one of its own (see FormatChanges)."""
        if self._writer is None or images == self._writer.images:
            self._changes.row = 0
            return True
        self._changes.met(images)
        if self._changes.few(entry.record.captured_ns) or self._changes.lasting:
            return True
        entry.other = True
        self._without_pixels(entry, f"other size: {images} in a recording of {self._writer.images}")
        return False

    def _without_pixels(self, entry: Entry, reason: str) -> None:
        """``entry`` is recorded by its number, for a ``reason``."""
        entry.explain(reason)
        if self._writer is not None:
            self.alarms.missing(self._writer.path, reason)

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
            self._pending.folder = folder
        self.trigger.found(self._pending.folder is not None)

    def _stop_opening(self) -> None:
        """No image came for the recording that was to begin."""
        pending, self._pending = self._pending, PendingRecording()
        if pending.folder is not None:
            count = len(pending.entries)
            numbers = f"; {count} frames came without an image" if count else ""
            lost = f"no image came{numbers}{pending.lost_notes}"
            self._raise_alarm(f"nothing was recorded in {pending.folder}: {lost}")

    def _begin(self, folder: Path, entry: Entry, images: ImageFormat) -> None:
        """``entry`` has the first image of a recording: make its session, with what was kept."""
        pending, self._pending = self._pending, PendingRecording()
        entries = [*self._preroll.take(), *pending.entries]
        first = entries[0] if entries else entry
        try:
            info = self._provenance.describe(first.record, images.shape, images.dtype.name)
            writer = SessionWriter(folder, info)
        except Exception as error:  # noqa: BLE001 - whatever breaks, the run goes on
            self._raise_alarm(f"no recording can be made in {folder}: {cause(error)}{pending.lost_notes}")
            self.trigger.found(False)
            self._forget(None)
            self._rest()
            return
        self._writer, self.key_wanted = writer, True
        begin_ns = self.recorded_ns[0] if self.recorded_ns is not None else first.record.captured_ns
        self.recorded_ns = begin_ns, entry.record.captured_ns
        self.alarms.forget_missing()
        log.info(f"recording to {folder}")
        for earlier in entries:
            self._add(writer, earlier)
        for note in pending.notes:
            self._guarded(writer, partial(writer.add_note, note))

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
    ) -> Future[None]:
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
        ending = self._committer.end(writer, failure, announce=announce)
        if current:
            self.trigger.found(False)
            now = self.clock.now_ns()
            if isinstance(failure, MovedError | DamagedError) and self._changes.few(now):
                self._changes.followed(now)
                self._go_on(writer.path, "the frames that follow are safe")
        self._rest()
        return ending

    def _look_whether_images_come(self, now_ns: int) -> None:
        """An alarm where a live source is recorded that gives nothing."""
        silence_s = max(SILENT_S, 3 / self._fps)
        recording = self._read and (self._writer is not None or self._pending.folder is not None)
        if recording and self._provenance.source.live and now_ns - self._image_ns > silence_s * 1e9:
            self._image_ns = now_ns  # said again where it goes on after it was acknowledged
            self.alarms.silent(silence_s)

    def _go_on(self, last: Path, why: str) -> None:
        """The recording goes on in a folder after the ``last``, where one can be made beside it."""
        self._open_folder(last, next_folder, above=False)
        if self._pending.folder is not None:
            log.warning(f"{why}: the recording goes on in {self._pending.folder}")

    def _raise_alarm(self, message: str) -> None:
        """A recording could not begin, or something broke: ``message`` says it in one line."""
        self.alarm = message
        self.alarms.nothing(message)

    def _forget(self, writer: SessionWriter | None) -> None:
        """Entries of ``writer``, or of none, change no more."""
        self.open = {n: entry for n, entry in self.open.items() if entry.writer is not writer}

    def _rest(self) -> None:
        """Take no more notice of frames where nothing is recorded or kept, and no recording was ordered."""
        if not (self._writers() or self._pending.folder is not None or self.settings.retro_s > 0):
            self.trigger.rest()

    def _writers(self) -> list[SessionWriter]:
        return [*self._closing, *([self._writer] if self._writer is not None else [])]
