"""One session folder while it is written."""

from __future__ import annotations

import os
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import av

from clesr.engines.engine import EngineInfo
from clesr.pipeline.session.coding import Coder, Picture
from clesr.pipeline.session.folder import RESERVE, RESERVE_BYTES
from clesr.pipeline.session.format import FRAMES, RAW, SR, Record, SessionError, SessionInfo, count_records
from clesr.pipeline.session.lines import Block, LineFile
from clesr.pipeline.session.matroska import MatroskaFile
from clesr.pipeline.session.place import Held, Place

UNWRITTEN = "writing failed before its pixels were on the disk"
NO_KEY = "the SR video begins later: at its first picture that needs none before it"
OTHER_SR = "the SR image has another size or depth than those of this recording"


@dataclass(slots=True, eq=False)
class Entry:
    """What is known so far of a captured frame. ``record`` grows; pictures go once they are in a file."""

    record: Record
    raw: Picture | None = None
    sr: Picture | None = None
    sr_coder: Coder | None = None
    settled: bool = False  # its outcome is known
    sr_due: bool = False  # an SR picture will come, or word that none will
    engine: EngineInfo | None = None
    writer: SessionWriter | None = None
    other: bool = False  # of another size or depth than its session
    kept: bool = True  # False once it has left the memory of the last seconds

    def set(self, **values: object) -> None:
        self.record = replace(self.record, **values)  # type: ignore[arg-type]

    def explain(self, reason: str) -> None:
        """Add ``reason`` to those that the record has."""
        reasons = [self.record.reason] if self.record.reason else []
        if reason and reason not in reasons:
            self.set(reason="; ".join([*reasons, reason]))

    @property
    def ticks(self) -> int:
        return self.record.ticks or 0

    @property
    def complete(self) -> bool:
        return self.settled and not self.sr_due

    @property
    def size(self) -> int:
        return sum(len(picture.data) for picture in (self.raw, self.sr) if picture is not None)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a session has complete at one moment. ``save`` may run on another thread, beside its writer."""

    place: Place
    manifest: SessionInfo | None  # where it changed
    videos: tuple[MatroskaFile, ...]
    held: tuple[Held, ...]  # the session's files as they are
    lines: LineFile
    block: Block

    def save(self) -> None:
        """Bring it to the disk, pixels before the lines that vouch for them, after a look whether all is in its place.
        Raises OSError, MovedError, DamagedError: then no line is there."""
        self.place.check(self.held)
        self.write()

    def write(self) -> None:
        """Bring it to the disk, wherever the folder is. Raises OSError: then no line is there."""
        if self.manifest is not None:
            self.place.write_manifest(self.manifest)
        for video in self.videos:
            video.sync()
        self.lines.append(self.block)


class SessionWriter:
    """Writes ``info`` and the entries given to ``add`` into ``folder``, which exists and is empty.

    Used by one thread at a time, which never waits for the disk but in ``close``, ``fail`` and ``leave``: saving a
    ``checkpoint`` does, of which one is saved at a time and then ``passed``. A line is written only when its pixels are
    on the disk. Every method but ``leave`` and ``abandon`` raises OSError or av.FFmpegError where writing fails.
    """

    def __init__(self, folder: Path, info: SessionInfo, raw: Coder) -> None:
        self.folder, self.info, self.raw = folder, info, raw
        self._videos: dict[str, MatroskaFile] = {}
        self._pending: dict[int, Entry] = {}
        self._complete: deque[Entry] = deque()
        self.totals: Counter[str] = Counter()
        self.bytes = 0  # of the closed session
        self._base_ticks: int | None = None
        self._place = Place(folder)
        try:
            self._place.write_manifest(info, wait=False)
            self._manifest_due = True
            with self._place.create(RESERVE) as reserve:
                os.posix_fallocate(reserve.fileno(), 0, RESERVE_BYTES)
            self._lines = LineFile(self._place.create(FRAMES), info.id)
        except BaseException:
            self._place.close()
            raise

    @property
    def waiting(self) -> bool:
        """Whether frames of this session are still without an outcome."""
        return bool(self._pending)

    @property
    def needs_key(self) -> bool:
        """Whether the next SR picture must be one that needs none before it."""
        return SR not in self._videos

    def add(self, entry: Entry) -> None:
        """Take ``entry``, in order of number, with the pictures that it has."""
        entry.writer = self
        self._pending[entry.record.number] = entry
        if entry.record.ticks is not None:
            if self._base_ticks is None:
                self._base_ticks = entry.record.ticks
            entry.set(ticks=entry.record.ticks - self._base_ticks)
        if entry.raw is not None:
            video = self._video(RAW, self.raw)
            entry.set(raw_index=video.count, raw_hash=entry.raw.pixels)
            video.mux(entry.raw._replace(ticks=entry.ticks))
            entry.raw = None
        if entry.sr is not None:
            self.add_sr(entry)
        if entry.complete:
            self.complete(entry)

    def add_sr(self, entry: Entry) -> None:
        """Take the SR picture of ``entry``."""
        picture, coder, entry.sr = entry.sr, entry.sr_coder, None
        assert picture is not None
        assert coder is not None
        if (coder.shape, coder.dtype) != (self.info.sr_shape, self.raw.dtype):
            entry.explain(OTHER_SR)
            return
        if self.needs_key and not picture.key:
            entry.explain(NO_KEY)
            return
        video = self._video(SR, coder)
        entry.set(sr_index=video.count, sr_hash=picture.pixels, sr_coded=picture.coded)
        video.mux(picture._replace(ticks=entry.ticks))

    def complete(self, entry: Entry) -> None:
        """``entry`` will not change any more."""
        if entry.engine is not None:
            self._worked(entry.engine, entry.record.number)
        del self._pending[entry.record.number]
        self._complete.append(entry)

    def checkpoint(self) -> Checkpoint:
        """What is complete, and with the system, now."""
        written = takewhile(self._is_written, self._complete)
        manifest, self._manifest_due = self.info if self._manifest_due else None, False
        block = self._lines.format(entry.record for entry in written)
        videos = tuple(self._videos.values())
        held = (*(video.held for video in videos), self._lines.held)
        return Checkpoint(self._place, manifest, videos, held, self._lines, block)

    def passed(self, checkpoint: Checkpoint) -> None:
        """``checkpoint`` was saved."""
        passed = [self._complete.popleft().record for _ in range(checkpoint.block.lines)]
        self.totals.update(count_records(passed))

    def close(self, ended: str) -> None:
        """Finish the session; entries that are still pending end without an outcome."""
        self._place.remove(RESERVE)
        for video in self._videos.values():
            video.close()
        self._finish(ended)

    def check(self) -> None:
        """Whether everything is where it was made; raises OSError, MovedError, DamagedError."""
        self._place.check((*(video.held for video in self._videos.values()), self._lines.held))

    def fail(self, reason: str) -> None:
        """Close with what is on the disk, after writing failed. Raises OSError where not even that works."""
        with suppress(OSError):
            self._place.remove(RESERVE)
        for name, video in list(self._videos.items()):
            video.cut()
            if not video.count:
                video.release()
                self._place.remove(name)
                del self._videos[name]
        self._finish(reason)

    def leave(self) -> None:
        """Leave the session unclosed, for a repair, with all pictures in those videos that are whole."""
        for video in self._videos.values():
            with suppress(*WRITING_ERRORS, SessionError):
                self._place.check((video.held,))
                video.close()

    def abandon(self) -> None:
        """Let go of everything as it is; what was not closed before stays so."""
        for video in self._videos.values():
            video.release()
        self._lines.close()
        self._place.close()
        self._pending.clear()
        self._complete.clear()

    @property
    def where(self) -> str | None:
        """Where the folder is now, None where no name leads to it."""
        return self._place.where()

    @property
    def deleted(self) -> bool:
        """Whether the folder is gone, with all that is in it."""
        return self._place.deleted

    def _video(self, name: str, coder: Coder) -> MatroskaFile:
        """The video ``name``, begun with its first picture."""
        if name not in self._videos:
            file = self._place.create(name)
            try:
                self._videos[name] = MatroskaFile(self.folder / name, coder, file)
            except BaseException:
                file.close()
                self._place.remove(name)  # a part of a header is no video
                raise
        return self._videos[name]

    def _worked(self, engine: EngineInfo, number: int) -> None:
        """``engine`` made the SR images from frame ``number`` on."""
        values = {
            "engine": engine.engine,
            "device": engine.device,
            "precision": engine.precision,
            "model": engine.model,
            "model_hash": engine.model_hash,
        }
        if self.info.engines and {**self.info.engines[-1], "from": 0} == {**values, "from": 0}:
            return
        if not self.info.engines:
            self.info = replace(self.info, **values)  # type: ignore[arg-type]
        self.info = replace(self.info, engines=(*self.info.engines, {"from": number, **values}))
        self._manifest_due = True

    def _finish(self, ended: str) -> None:
        for entry in list(self._pending.values()):
            entry.settled = True
            if entry.sr_due:
                entry.sr_due = False
                entry.explain("the SR image did not reach the recorder")
            elif entry.record.outcome is None:
                entry.explain("the recording ended before its outcome was known")
            self.complete(entry)
        for entry in self._complete:
            if not self._is_written(entry):
                self._forget_pixels(entry)
        rest = self.checkpoint()
        rest.write()
        self.passed(rest)
        self.info = replace(
            self.info,
            closed=True,
            ended=ended,
            totals=dict(self.totals),
            lines=self._lines.count,
            chain=self._lines.chain,
            files={name: video.facts() for name, video in self._videos.items()}
            | {FRAMES: self._lines.digest()},
        )
        self._place.write_manifest(self.info)
        self.bytes = self._place.size()

    def _is_written(self, entry: Entry) -> bool:
        return self._holds(RAW, entry.record.raw_index) and self._holds(SR, entry.record.sr_index)

    def _holds(self, name: str, index: int | None) -> bool:
        return index is None or (name in self._videos and index < self._videos[name].written)

    def _forget_pixels(self, entry: Entry) -> None:
        """Writing failed: ``entry`` has only the pixels that are on the disk."""
        if not self._holds(RAW, entry.record.raw_index):
            entry.set(raw_index=None, raw_hash=None)
        if not self._holds(SR, entry.record.sr_index):
            entry.set(sr_index=None, sr_hash=None, sr_coded=None)
        entry.explain(UNWRITTEN)


WRITING_ERRORS = (OSError, av.FFmpegError)
