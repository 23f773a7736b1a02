"""The record of finished files: one JSON line each, appended; what a resumed run knows of the runs before."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from clesr import __version__
from clesr.pipeline.errors import SinkError
from clesr.tools.archive.settings import Settings

FORMAT = 1
NAME = "archive.jsonl"


class Status(StrEnum):
    """What came of a file: ``done`` whole; ``partial`` without frames that the input lost; ``failed`` not at all,
    tried again by the next run."""

    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One file of the archive. Hashes are SHA-256 of content; ``size`` (bytes) and ``mtime_ns`` are the cheap first
    look at the input, ``output_size`` at the result. ``settings`` is the identity of its run's settings, which the line
    that begins the run spells out. ``missing`` counts frames that the input lost, ``pixels`` those of all LR frames;
    ``engines`` names what computed."""

    input: str
    status: Status
    reason: str = ""
    size: int = 0
    mtime_ns: int = 0
    input_sha256: str = ""
    settings: str = ""
    model_sha256: str = ""
    engines: tuple[str, ...] = ()
    frames: int = 0
    missing: int = 0
    pixels: int = 0
    output: str = ""
    output_size: int = 0
    output_sha256: str = ""


class Ledger:
    """``archive.jsonl`` in the output folder. Memory holds a name and a position for each file.

    A line that a killed run cut is passed over, and the next one begins on a line of its own. Raises SinkError where
    the file cannot be read or written, or is of a newer format.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._at: dict[str, int] = {}
        self.chosen: dict[int, str] = {}  # the model that "auto" was, by scale
        self.damaged = 0
        try:
            with ExitStack() as stack:
                self._file = stack.enter_context(self.path.open("a+b"))
                self._read()
                stack.pop_all()
        except OSError as error:
            raise SinkError(f"{self.path} cannot be read and written: {error.strerror}") from error

    def begin(self, settings: Settings, *, chosen: bool) -> None:
        """Note that a run with ``settings`` begins; ``chosen``: the model is what "auto" came to."""
        run = {"format": FORMAT, "clesr": __version__, "chosen": chosen, "id": settings.identity}
        self._append({"run": run | {"settings": settings.recorded()}})

    def find(self, name: str) -> Record | None:
        """The latest record of the input ``name``."""
        at = self._at.get(name)
        if at is None:
            return None
        self._file.seek(at)
        return from_json(json.loads(self._file.readline()))

    def add(self, record: Record) -> None:
        """Append ``record``; it is on the disk when this returns."""
        self._at[record.input] = self._append(asdict(record))

    def close(self) -> None:
        self._file.close()

    def _read(self) -> None:
        self._file.seek(0)
        at, line = 0, b"\n"
        for line in self._file:
            self._note(line, at)
            at += len(line)
        if not line.endswith(b"\n"):
            self._file.write(b"\n")

    def _note(self, line: bytes, at: int) -> None:
        try:
            entry = json.loads(line)
            if "run" in entry:
                run, newest = entry["run"], entry["run"]["format"]
                if run["chosen"]:
                    self.chosen[run["settings"]["scale"]] = run["settings"]["model"]
            else:
                self._at[from_json(entry).input] = at
                return
        except (ValueError, TypeError, KeyError):
            self.damaged += bool(line.strip())
            return
        if newest > FORMAT:
            raise SinkError(f"{self.path} has format {newest}; this clesr knows {FORMAT}; update clesr")

    def _append(self, entry: Mapping[str, Any]) -> int:
        try:
            self._file.seek(0, os.SEEK_END)
            at = self._file.tell()
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise SinkError(f"{self.path} cannot be written: {error.strerror}; free some space") from error
        return at


def from_json(entry: Mapping[str, Any]) -> Record:
    """A record from its line; raises KeyError, TypeError or ValueError where it is none."""
    known = {f.name for f in fields(Record)}
    values = {key: value for key, value in entry.items() if key in known}
    values["status"] = Status(values["status"])
    values["engines"] = tuple(values.get("engines", ()))
    return Record(**values)
