"""One session folder while it is written."""

from __future__ import annotations

import os
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from msgspec import structs

from clesr.engines.common.errors import on_error
from clesr.engines.engine import EngineInfo
from clesr.engines.memory import trim_memory
from clesr.pipeline.cores.calibration import CoreCalibration
from clesr.pipeline.session.folder import RESERVE, RESERVE_BYTES, FrameJournal, Held, SessionFolder
from clesr.pipeline.session.format import (
    FRAMES,
    NOTES,
    RAW,
    SR,
    FileFacts,
    Record,
    SessionError,
    SessionInfo,
    SessionNote,
    calibration_name,
    count_left_out,
    count_records,
    digest_open,
    format_lines,
    format_notes,
)
from clesr.pipeline.session.video import EncodedImage, ImageEncoder, ImageFormat, MatroskaFile

ENGINE = ("engine", "device", "precision", "model", "model_hash")  # what is recorded of one
UNWRITTEN = "writing failed before its pixels were on the disk"
NO_KEY = "the SR video begins later: at its first picture that needs none before it"
OTHER_SR = "the SR image has another size or depth than those of this recording"


@dataclass(slots=True, eq=False)
class Entry:
    """What is known so far of a captured frame. ``record`` grows; images go once they are in a file."""

    record: Record
    raw: EncodedImage | None = None
    sr: EncodedImage | None = None
    settled: bool = False  # its outcome is known
    sr_due: bool = False  # an SR image will come, or word that none will
    engine: EngineInfo | None = None
    cores: CoreCalibration | None = None  # by which fibre cores were removed
    writer: SessionWriter | None = None
    other: bool = False  # of another size or depth than its session
    older: bool = False  # its SR image is of an engine before that of its session
    kept: bool = True  # False once it has left the pre-roll

    def explain(self, reason: str) -> None:
        """Add ``reason`` to those that the record has."""
        reasons = [self.record.reason] if self.record.reason else []
        if reason and reason not in reasons:
            self.record = structs.replace(self.record, reason="; ".join([*reasons, reason]))

    @property
    def size(self) -> int:
        """Bytes of the images that it has."""
        return sum(len(image.data) for image in (self.raw, self.sr) if image is not None)


@dataclass(frozen=True, slots=True)
class Commit:
    """What a session has complete at one moment. ``save`` may run on another thread, beside its writer."""

    folder: SessionFolder
    manifest: SessionInfo | None  # where it changed
    videos: tuple[MatroskaFile, ...]
    held: tuple[Held, ...]  # the session's files as they are
    journal: FrameJournal
    entries: list[Entry]
    notes: list[SessionNote]
    note_journal: FrameJournal | None  # None where there are no notes yet

    calibrations: dict[str, bytes]  # files by name

    @property
    def size(self) -> int:
        """Bytes of the files as they are."""
        return sum(held.size for held in self.held)

    @property
    def records(self) -> list[Record]:
        return [entry.record for entry in self.entries]

    def save(self, *, check: bool = True) -> None:
        """Bring it to the disk, pixels before the lines that vouch for them, after a ``check`` whether all is in its
        place. Raises OSError, MovedError, DamagedError: then no line is there."""
        if check:
            self.folder.check(self.held)
        if self.manifest is not None:
            self.folder.write_manifest(self.manifest)
        for video in self.videos:
            video.disk.sync()
        for name, data in self.calibrations.items():
            self.folder.put(name, data)
        lines, chain = format_lines(self.records, self.journal.chain)
        self.journal.append(lines, chain, len(self.entries))
        if self.note_journal is not None and self.notes:
            lines, chain = format_notes(self.notes, self.note_journal.chain)
            self.note_journal.append(lines, chain, len(self.notes))


class SessionWriter:
    """Writes ``info`` and the entries given to ``add`` into the folder at ``path``, which exists and is empty.

    Used by one thread at a time, which never waits for the disk but in ``close``, ``fail`` and ``leave``: saving a
    ``prepare_commit`` does, of which one is saved at a time and then ``committed``. A line is written only when its
    pixels are on the disk. Every method but ``leave`` and ``abandon`` raises OSError or av.FFmpegError where writing
    fails.
    """

    def __init__(self, path: Path, info: SessionInfo) -> None:
        self.path, self.info = path, info
        self.images = ImageFormat(info.raw_shape, np.dtype(info.dtype))  # of raw frames
        self.needs_key = True  # the next SR image must be one that needs none before it
        self.waiting: dict[int, Entry] = {}  # frames without an outcome
        self.totals: Counter[str] = Counter()
        self.left_out = 0  # SR images, because the disk was nearly full
        self.bytes = 0  # of the closed session
        self._complete: deque[Entry] = deque()
        self._notes: deque[SessionNote] = deque()
        self._note_journal: FrameJournal | None = None
        self._videos: dict[str, MatroskaFile] = {}
        self._calibrations: dict[str, FileFacts] = {}  # by name
        self._unsaved: dict[str, bytes] = {}  # those that are not on the disk yet
        self._base_ticks: int | None = None
        self.folder = SessionFolder(path)
        with on_error(self.folder.close):
            with self.folder.create(RESERVE) as reserve:
                os.posix_fallocate(reserve.fileno(), 0, RESERVE_BYTES)
            self._journal = FrameJournal(self.folder.create(FRAMES), info.id)  # locks it: nobody repairs it
            with on_error(self._journal.close):
                self.folder.write_manifest(info, wait=False)
            self._manifest_due = True

    def add(self, entry: Entry) -> None:
        """Take ``entry``, in order of number, with the images that it has."""
        entry.writer = self
        record, raw, entry.raw = entry.record, entry.raw, None
        self.waiting[record.number] = entry
        ticks = 0
        if record.ticks is not None:
            if self._base_ticks is None:
                self._base_ticks = record.ticks
            ticks = record.ticks - self._base_ticks
            entry.record = structs.replace(record, ticks=ticks)
        if raw is not None:
            video = self._videos.get(RAW) or self._begin_video(RAW, raw.encoder)
            entry.record = structs.replace(entry.record, raw_index=video.count, raw_hash=raw.pixels)
            video.mux(raw.data, ticks, key=raw.key)
        if entry.sr is not None:
            self.add_sr(entry)
        if entry.settled and not entry.sr_due:
            self.complete(entry)

    def add_sr(self, entry: Entry) -> None:
        """Take the SR image of ``entry``."""
        sr, entry.sr = entry.sr, None
        assert sr is not None
        if sr.encoder.images != (self.info.sr_shape, self.images.dtype):
            entry.explain(OTHER_SR)
        elif self.needs_key and not sr.key:
            entry.explain(NO_KEY)
        else:
            video = self._videos.get(SR) or self._begin_video(SR, sr.encoder)
            self.needs_key = False
            entry.record = structs.replace(
                entry.record, sr_index=video.count, sr_hash=sr.pixels, sr_coded=sr.coded
            )
            video.mux(sr.data, entry.record.ticks or 0, key=sr.key)

    def complete(self, entry: Entry) -> None:
        """``entry`` will not change any more."""
        number = entry.record.number
        if entry.engine is not None:
            self._worked(entry.engine, number)
        if entry.cores is not None:
            self._keep_cores(entry, entry.cores)
        del self.waiting[number]
        self._complete.append(entry)

    def add_note(self, note: SessionNote) -> None:
        """Take ``note``."""
        if self._note_journal is None:
            self._note_journal = FrameJournal(self.folder.create(NOTES), self.info.id)
        self._notes.append(note)

    def prepare_commit(self) -> Commit:
        """What is complete, and with the system, now. A frame may come before earlier ones whose pictures wait for the
        next of their video, which may be long in coming."""
        entries = [entry for entry in self._complete if self._is_written(entry)]
        manifest, self._manifest_due = self.info if self._manifest_due else None, False
        videos = tuple(self._videos.values())
        return Commit(
            self.folder,
            manifest,
            videos,
            self._held(),
            self._journal,
            entries,
            list(self._notes),
            self._note_journal,
            dict(self._unsaved),
        )

    def committed(self, commit: Commit) -> None:
        """``commit`` was saved."""
        saved = set(commit.entries)
        self._complete = deque(entry for entry in self._complete if entry not in saved)
        for _ in commit.notes:
            self._notes.popleft()
        for name in commit.calibrations:
            del self._unsaved[name]
        self.totals.update(count_records(commit.records))
        self.left_out += count_left_out(commit.records)

    def check(self) -> None:
        """Whether everything is where it was made; raises OSError, MovedError, DamagedError."""
        self.folder.check(self._held())

    def close(self, ended: str) -> None:
        """Finish the session; entries that are still waiting end without an outcome."""
        self.folder.remove(RESERVE)
        for video in self._videos.values():
            video.close()
        self._finish(ended)

    def fail(self, reason: str) -> None:
        """Close with what is on the disk, after writing failed. Raises OSError where not even that works."""
        with suppress(OSError):
            self.folder.remove(RESERVE)
        for name, video in list(self._videos.items()):
            video.cut()
            if not video.count:
                video.release()
                self.folder.remove(name)
                del self._videos[name]
        self._finish(reason)

    def leave(self) -> None:
        """Leave the session unclosed, for a repair, with all images in those videos that are whole."""
        for held, video in zip(self._held(), self._videos.values(), strict=False):
            with suppress(OSError, av.FFmpegError, SessionError):
                self.folder.check((held,))
                video.close()

    def abandon(self) -> None:
        """Let go of everything as it is; what was not closed before stays so."""
        for video in self._videos.values():
            video.release()
        self._journal.close()
        if self._note_journal is not None:
            self._note_journal.close()
        self.folder.close()
        self.waiting.clear()
        self._complete.clear()

    def _held(self) -> tuple[Held, ...]:
        """The files as they are, the videos first."""
        files = {name: video.disk for name, video in self._videos.items()} | {FRAMES: self._journal}
        if self._note_journal is not None:
            files[NOTES] = self._note_journal
        return tuple(Held(name, file.file.fileno(), file.size) for name, file in files.items())

    def _begin_video(self, name: str, encoder: ImageEncoder) -> MatroskaFile:
        file = self.folder.create(name)
        # A part of a header is no video.
        with on_error(partial(self.folder.remove, name)), on_error(file.close):
            self._videos[name] = MatroskaFile(self.path / name, encoder, file)
        return self._videos[name]

    def _worked(self, engine: EngineInfo, number: int) -> None:
        """``engine`` made the SR images from frame ``number`` on."""
        values = {name: getattr(engine, name) for name in ENGINE}
        engines = self.info.engines
        if engines and {**engines[-1], "from": 0} == {**values, "from": 0}:
            return
        first = {} if engines else values
        self.info = replace(self.info, engines=(*engines, {"from": number, **values}), **first)
        self._manifest_due = True

    def _keep_cores(self, entry: Entry, cores: CoreCalibration) -> None:
        """The calibration of ``entry`` comes to the disk before its line: its image is made again by it."""
        name = calibration_name(cores.sha256)
        if name not in self._calibrations:
            self._unsaved[name] = cores.data
            self._calibrations[name] = digest_open(BytesIO(cores.data))
        entry.record, entry.cores = structs.replace(entry.record, cores=cores.sha256), None

    def _finish(self, ended: str) -> None:
        for entry in list(self.waiting.values()):
            if entry.sr_due:
                entry.explain("the SR image did not reach the recorder")
            elif entry.record.outcome is None:
                entry.explain("the recording ended before its outcome was known")
            self.complete(entry)
        for entry in self._complete:
            if not self._is_written(entry):
                self._forget_pixels(entry)
        rest = self.prepare_commit()
        rest.save(check=False)
        self.committed(rest)
        facts = {name: video.facts() for name, video in self._videos.items()}
        self.info = replace(
            self.info,
            closed=True,
            ended=ended,
            totals=dict(self.totals),
            sr_left_out=self.left_out,
            lines=self._journal.count,
            chain=self._journal.chain,
            files=facts | self._calibrations | {FRAMES: digest_open(self._journal.file)},
            notes=None if self._note_journal is None else digest_open(self._note_journal.file),
        )
        self.folder.write_manifest(self.info)
        self.bytes = self.folder.size()
        trim_memory()

    def _is_written(self, entry: Entry) -> bool:
        return self._holds(RAW, entry.record.raw_index) and self._holds(SR, entry.record.sr_index)

    def _holds(self, name: str, index: int | None) -> bool:
        return index is None or (name in self._videos and index < self._videos[name].written)

    def _forget_pixels(self, entry: Entry) -> None:
        """Writing failed: ``entry`` has only the pixels that are on the disk."""
        if not self._holds(RAW, entry.record.raw_index):
            entry.record = structs.replace(entry.record, raw_index=None, raw_hash=None)
        if not self._holds(SR, entry.record.sr_index):
            entry.record = structs.replace(entry.record, sr_index=None, sr_hash=None, sr_coded=None)
        entry.explain(UNWRITTEN)
