"""A session's folder while it is recorded: reached by what it is, not by its name, which others may change."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import NamedTuple

from clesr.engines.common.errors import WHY, told_as
from clesr.engines.common.files import LONGEST_NAME, WholeFile, cut_name
from clesr.engines.common.folders import Folder
from clesr.pipeline.session.format import (
    MANIFEST,
    DamagedError,
    MovedError,
    SessionError,
    SessionInfo,
    format_manifest,
)

RESERVE = ".reserve"  # space that is given up when the disk is full, so that the session can still be closed
RESERVE_BYTES = 1 << 18
DELETED = " (deleted)"  # what Linux puts behind the name of what is gone


def make_folder(folder: Path, *, above: bool = True) -> None:
    """Make ``folder`` and those ``above`` it; raises SessionError where it cannot be, or has something in it."""
    with told_as(SessionError, f"no recording can be made in {folder} ({WHY}); choose another folder"):
        folder.mkdir(parents=above, exist_ok=True)
        if any(folder.iterdir()):
            raise SessionError(f"{folder} is not empty; give a new folder for the recording")
        probe = folder / RESERVE
        probe.write_bytes(b"")
        probe.unlink()
    if shutil.disk_usage(folder).free < 4 * RESERVE_BYTES:
        raise SessionError(f"no recording can be made in {folder}: the disk is full; free some space")


def next_folder(folder: Path) -> Path:
    """``NAME-2`` after ``NAME``, ``NAME-3`` after ``NAME-2``: the first that does not exist. Raises OSError."""
    stem, _, number = folder.name.rpartition("-")
    if not (stem and number.isdigit()):
        stem, number = folder.name, "1"
    ends = (f"-{following}" for following in count(int(number) + 1))
    names = (cut_name(stem, LONGEST_NAME - len(end)) + end for end in ends)
    return next(path for path in map(folder.with_name, names) if not path.exists())


def free_folder(folder: Path) -> Path:
    """``folder``, or the next one where that has something in it. Raises OSError."""
    return next_folder(folder) if folder.exists() and any(folder.iterdir()) else folder


class Held(NamedTuple):
    """A file of the session: its name, its descriptor, and how many bytes it has at least."""

    name: str
    descriptor: int
    size: int


class SessionFolder(Folder):
    """An existing folder at ``path``, held open. Every method but ``close`` raises OSError."""

    def write_manifest(self, info: SessionInfo, *, wait: bool = True) -> None:
        """Replace ``session.json``, so that a crash leaves the old one or the new one; without ``wait`` for the disk
        that holds for a killed process only."""
        self.put(MANIFEST, format_manifest(info), wait=wait)

    def size(self) -> int:
        """Bytes of all its files."""
        with os.scandir(self.descriptor) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)

    def check(self, files: Iterable[Held]) -> None:
        """Whether the folder has its name and ``files`` are in it, whole. Raises MovedError or DamagedError."""
        for file in files:
            self._check_file(file)
        try:
            if os.path.samestat(os.stat(self.path), os.fstat(self.descriptor)):
                return
        except PermissionError:
            self._check_exists()
            return  # a folder above was closed to us: nothing says that this one moved, and writing needs no name
        except (FileNotFoundError, NotADirectoryError):
            pass
        self._check_exists()
        now = self.where()
        happened = f"was moved to {now}" if now is not None else "was mounted over, or its disk detached,"
        raise MovedError(f"the folder {self.path} {happened} while it was recorded")

    @property
    def deleted(self) -> bool:
        """Whether the folder is gone, with all that is in it."""
        unlinked = os.fstat(self.descriptor).st_nlink == 0
        return unlinked or (self._name.endswith(DELETED) and self.where() is None)

    def where(self) -> str | None:
        """Where the folder is now, None where no name leads to it: it was deleted, or something was mounted over it."""
        now = self._name
        try:
            return now if os.path.samestat(os.stat(now), os.fstat(self.descriptor)) else None
        except OSError:
            return None

    @property
    def _name(self) -> str:
        """What the system calls the folder now."""
        return os.readlink(f"/proc/self/fd/{self.descriptor}")

    def _check_file(self, file: Held) -> None:
        held = os.fstat(file.descriptor)
        try:
            found = os.stat(file.name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            found = None
        if found is None or not os.path.samestat(found, held):
            self._check_exists()
            happened = "deleted" if found is None else "replaced"
            raise DamagedError(f"{self.path / file.name} was {happened} while it was recorded")
        if held.st_size < file.size:
            raise DamagedError(
                f"{self.path / file.name} was cut from {file.size} to {held.st_size} bytes while it was recorded"
            )

    def _check_exists(self) -> None:
        if self.deleted:
            raise DamagedError(f"the folder {self.path} was deleted while it was recorded")


class FrameJournal:
    """``frames.jsonl`` while it is written: the new ``file``, locked, whose lines are chained from ``session`` (its id)
    on. Raises OSError."""

    def __init__(self, file: WholeFile, session: str) -> None:
        self.file = file
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.chain, self.count, self.size = session, 0, 0

    def append(self, lines: bytes, chain: str, count: int) -> None:
        """Bring ``count`` ``lines`` to the disk, the last with this ``chain`` value; where that fails, none of them is
        in the file. Any thread, one at a time."""
        self.file.seek(self.size)
        try:
            self.file.write(lines)
            os.fdatasync(self.file.fileno())
        except OSError:
            self.file.truncate(self.size)
            raise
        self.size += len(lines)
        self.chain, self.count = chain, self.count + count

    def close(self) -> None:
        self.file.close()
