"""One session folder while it is written. Used by one thread."""

from __future__ import annotations

import fcntl
import os
from collections import Counter, deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import av

from clesr.engines import EngineInfo
from clesr.pipeline.frame import Outcome
from clesr.pipeline.session.coding import Coder
from clesr.pipeline.session.entry import Entry
from clesr.pipeline.session.folder import RESERVE, RESERVE_BYTES
from clesr.pipeline.session.format import (
    FRAMES,
    RAW,
    SR,
    Record,
    SessionInfo,
    digest_file,
    format_line,
)
from clesr.pipeline.session.manifest import write_manifest
from clesr.pipeline.session.matroska import MatroskaFile

UNWRITTEN = "writing failed before its pixels were on the disk"
NO_KEY = "the SR video begins later: at its first picture that needs none before it"


class SessionWriter:
    """Writes ``info`` and the entries given to ``add`` into ``folder``, which exists and is empty.

    A line is written only when its pixels are with the system, and ``sync`` brings pixels to the disk before
    the lines that vouch for them. Every method but ``fail`` raises OSError or av.FFmpegError where writing fails.
    """

    def __init__(self, folder: Path, info: SessionInfo, raw: Coder) -> None:
        self.folder, self.info = folder, info
        self._raw = raw
        self._raw_file: MatroskaFile | None = None
        self._sr_file: MatroskaFile | None = None
        self._chain, self._lines = info.id, 0
        self._pending: dict[int, Entry] = {}
        self._complete: deque[Entry] = deque()
        self.totals: Counter[str] = Counter()
        self._base_ticks: int | None = None
        write_manifest(folder, info)
        with (folder / RESERVE).open("xb") as reserve:
            os.posix_fallocate(reserve.fileno(), 0, RESERVE_BYTES)
        self._frames = (folder / FRAMES).open("xb", buffering=0)
        fcntl.flock(self._frames, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @property
    def waiting(self) -> bool:
        """Whether frames of this session are still without an outcome."""
        return bool(self._pending)

    @property
    def needs_key(self) -> bool:
        """Whether the next SR picture must be one that needs none before it."""
        return self._sr_file is None

    def add(self, entry: Entry) -> None:
        """Take ``entry``, in order of number, with the pictures that it has."""
        entry.writer = self
        self._pending[entry.record.number] = entry
        if entry.record.ticks is not None:
            if self._base_ticks is None:
                self._base_ticks = entry.record.ticks
            entry.set(ticks=entry.record.ticks - self._base_ticks)
        if entry.raw is not None:
            if self._raw_file is None:
                self._raw_file = MatroskaFile(self.folder / RAW, self._raw)
            entry.set(raw_index=self._raw_file.count, raw_hash=entry.raw.pixels)
            self._raw_file.mux(entry.raw._replace(ticks=entry.ticks))
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
        if self._sr_file is None:
            if not picture.key:
                entry.set(reason=NO_KEY)
                return
            self._sr_file = MatroskaFile(self.folder / SR, coder)
        entry.set(sr_index=self._sr_file.count, sr_hash=picture.pixels, sr_coded=picture.coded)
        self._sr_file.mux(picture._replace(ticks=entry.ticks))

    def complete(self, entry: Entry) -> None:
        """``entry`` will not change any more."""
        if entry.engine is not None:
            self._worked(entry.engine, entry.record.number)
        del self._pending[entry.record.number]
        self._complete.append(entry)

    def sync(self) -> None:
        """Bring everything that is complete to the disk."""
        for file in (self._raw_file, self._sr_file):
            if file is not None:
                file.sync()
        self._write_lines()
        os.fdatasync(self._frames.fileno())

    def close(self, ended: str) -> None:
        """Finish the session; entries that are still pending end without an outcome."""
        (self.folder / RESERVE).unlink(missing_ok=True)
        for file in (self._raw_file, self._sr_file):
            if file is not None:
                file.close()
        self._finish(ended)

    def fail(self, reason: str) -> None:
        """Close with what is on the disk, after writing failed. Raises OSError where not even that works."""
        with suppress(OSError):
            (self.folder / RESERVE).unlink(missing_ok=True)
        self._raw_file, self._sr_file = self._cut(self._raw_file, RAW), self._cut(self._sr_file, SR)
        self._finish(reason)

    def _cut(self, file: MatroskaFile | None, name: str) -> MatroskaFile | None:
        """``file`` with the pictures that are whole; None, and no file, where none is."""
        if file is None:
            return None
        file.cut()
        if file.count:
            return file
        file.facts()
        (self.folder / name).unlink()
        return None

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
        write_manifest(self.folder, self.info)

    def _finish(self, ended: str) -> None:
        for entry in list(self._pending.values()):
            entry.settled = True
            if entry.sr_due:
                entry.sr_due = False
                entry.set(reason="the SR image did not reach the recorder")
            elif entry.record.outcome is None and entry.record.reason is None:
                entry.set(reason="the recording ended before its outcome was known")
            self.complete(entry)
        self._write_lines(rest=True)
        os.fdatasync(self._frames.fileno())
        files: dict[str, dict[str, object]] = {}
        for name, file in ((RAW, self._raw_file), (SR, self._sr_file)):
            if file is not None:
                files[name] = file.facts()
        files[FRAMES] = digest_file(self.folder / FRAMES)
        self.info = replace(
            self.info,
            closed=True,
            ended=ended,
            totals=dict(self.totals),
            lines=self._lines,
            chain=self._chain,
            files=files,
        )
        write_manifest(self.folder, self.info)
        self._frames.close()

    def _write_lines(self, *, rest: bool = False) -> None:
        """The lines of complete entries whose pixels are written; ``rest``: all, those without pixels as such."""
        text, chain, records = bytearray(), self._chain, []
        for entry in self._complete:
            if not self._is_written(entry):
                if not rest:
                    break
                self._forget_pixels(entry)
            line, chain = format_line(entry.record, chain)
            text += line
            records.append(entry.record)
        size = self._frames.seek(0, os.SEEK_END)
        try:
            view = memoryview(text)
            while len(view):
                view = view[self._frames.write(view) :]
        except OSError:
            view.release()
            self._frames.truncate(size)
            raise
        self._chain = chain
        self._lines += len(records)
        for record in records:
            self._complete.popleft()
            count_record(self.totals, record)

    def _is_written(self, entry: Entry) -> bool:
        return self._holds(self._raw_file, entry.record.raw_index) and self._holds(
            self._sr_file, entry.record.sr_index
        )

    def _holds(self, file: MatroskaFile | None, index: int | None) -> bool:
        return index is None or (file is not None and index < file.written)

    def _forget_pixels(self, entry: Entry) -> None:
        """Writing failed: ``entry`` has only the pixels that are on the disk."""
        if not self._holds(self._raw_file, entry.record.raw_index):
            entry.set(raw_index=None, raw_hash=None)
        if not self._holds(self._sr_file, entry.record.sr_index):
            entry.set(sr_index=None, sr_hash=None, sr_coded=None)
        entry.set(reason=entry.record.reason or UNWRITTEN)


def count_record(totals: Counter[str], record: Record) -> None:
    """Add ``record`` to ``totals``."""
    totals["captured"] += record.count
    totals[str(record.outcome or "unfinished")] += record.count
    totals["raw"] += record.raw_index is not None
    totals["sr"] += record.sr_index is not None
    if record.raw_index is None and record.outcome not in (Outcome.LOST, Outcome.CORRUPT):
        totals["unrecorded"] += record.count


WRITING_ERRORS = (OSError, av.FFmpegError)
