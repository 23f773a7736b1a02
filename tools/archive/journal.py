"""The journal of finished files: one JSON line each, appended; what a resumed run knows of the runs before."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from clesr import __version__
from clesr.engines.common.errors import WHY, SinkError, on_error, told_as
from clesr.engines.common.folders import LONGEST, Folder, relative_parts
from clesr.engines.common.parsing import Count, Int64, convert, parse_json

FORMAT = 1
NAME = "archive.jsonl"
LONGEST_LINE = 1 << 18  # bytes; what is longer no run wrote


class FileStatus(StrEnum):
    """What came of a file: ``done`` whole; ``partial`` without frames that the input lost; ``failed`` not at all,
    tried again by the next run."""

    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"


Word = Annotated[str, Meta(max_length=LONGEST)]


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One file of the archive. Hashes are SHA-256 of content; ``size`` (bytes) and ``mtime_ns`` are the cheap first
    look at the input, ``output_size`` at the result. ``settings`` is the identity of its run's settings, which the line
    that begins the run spells out; ``stated`` what was a session's own beside them. ``missing`` counts frames that the
    input lost, ``pixels`` those of all LR frames; ``engines`` names what computed."""

    input: Word
    status: FileStatus
    reason: str = ""
    size: Count = 0
    mtime_ns: Int64 = 0
    input_sha256: Word = ""
    settings: Word = ""
    stated: Word = ""
    model_sha256: Word = ""
    engines: tuple[Word, ...] = ()
    frames: Count = 0
    missing: Count = 0
    pixels: Count = 0
    output: Word = ""
    output_size: Count = 0
    output_sha256: Word = ""

    def __post_init__(self) -> None:
        if self.output:
            relative_parts(self.output)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that begins a run, where it has one; else the line is a JournalEntry."""

    run: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Used:
    """What is read of the settings of a run."""

    scale: int
    model: Word


@dataclass(frozen=True, slots=True)
class _Run:
    chosen: bool
    settings: _Used


class Journal:
    """``archive.jsonl`` in the output folder. Memory holds a name, a position and the settings' identity for each file.

    A line that a killed run cut is passed over, and the next one begins on a line of its own. Raises SinkError where
    the file cannot be read or written, or is of a newer format.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._at: dict[str, tuple[int, str]] = {}  # where the entry stands, and the settings of its result
        self.chosen: dict[int, str] = {}  # the model that "auto" was, by scale
        self.damaged = 0
        with told_as(SinkError, f"{self.path} cannot be read and written: {WHY}"):
            with Folder(folder) as opened:
                self._file = opened.open_own(NAME)
            with on_error(self._file.close):
                self._read()

    def begin(self, settings: Mapping[str, Any], identity: str, *, chosen: bool) -> None:
        """Note that a run with ``settings`` begins; ``chosen``: the model is what "auto" came to."""
        run = {"format": FORMAT, "clesr": __version__, "chosen": chosen, "id": identity, "settings": settings}
        self._append({"run": run})

    def find(self, name: str) -> JournalEntry | None:
        """The latest entry of the input ``name``; names in it are ``spelled``."""
        if spelled(name) not in self._at:
            return None
        self._file.seek(self._at[spelled(name)][0])
        return parse_json(self._file.readline(LONGEST_LINE), JournalEntry)

    def add(self, entry: JournalEntry) -> None:
        """Append ``entry``; it is on the disk when this returns."""
        self._keep(entry, spelled(entry.input), self._append(recorded(entry)))

    def made_otherwise(self, identity: str) -> list[str]:
        """The inputs that have a result of settings other than those known by ``identity``."""
        return [name for name, (_, settings) in self._at.items() if settings not in ("", identity)]

    def close(self) -> None:
        self._file.close()

    def _read(self) -> None:
        last = b"\n"
        for at, line in self._lines():
            self._note(line, at)
            last = line
        if not last.endswith(b"\n"):
            self._file.write(b"\n")

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Lines with their positions; of one that is too long only the end, which is damaged."""
        self._file.seek(0)
        at = 0
        while line := self._file.readline(LONGEST_LINE):
            begin, at = at, at + len(line)
            while not line.endswith(b"\n") and (rest := self._file.readline(LONGEST_LINE)):
                at += len(rest)
                line = b"-" + rest[-1:]
            yield begin, line

    def _note(self, line: bytes, at: int) -> None:
        try:
            begun = parse_json(line, _Line).run
            if begun is None:
                entry = parse_json(line, JournalEntry)
                self._keep(entry, entry.input, at)
                return
            found = convert(begun.get("format"), int)
            if found > FORMAT:
                raise SinkError(f"{self.path} has format {found}; this clesr knows {FORMAT}; update clesr")
            run = convert(begun, _Run)
            if run.chosen:
                self.chosen[run.settings.scale] = run.settings.model
        except ValueError:
            self.damaged += bool(line.strip())

    def _keep(self, entry: JournalEntry, name: str, at: int) -> None:
        settings = "" if entry.status is FileStatus.FAILED else entry.settings
        self._at[name] = at, sys.intern(settings)

    def _append(self, entry: Mapping[str, Any]) -> int:
        with told_as(SinkError, f"{self.path} cannot be written: {WHY}; free some space"):
            self._file.seek(0, os.SEEK_END)
            at = self._file.tell()
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        return at


def recorded(entry: JournalEntry) -> dict[str, Any]:
    """``entry`` as JSON has it."""
    return asdict(entry) | {"input": spelled(entry.input), "output": spelled(entry.output)}


def spelled(name: str) -> str:
    """``name`` as the journal has it: bytes that are no text are spelled out, since JSON has only text."""
    return name.encode("utf-8", "backslashreplace").decode()
