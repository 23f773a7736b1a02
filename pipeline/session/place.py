"""A session's folder while it is recorded: reached by what it is, not by its name, which others may change."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from clesr.pipeline.session.format import MANIFEST, SessionError, SessionInfo, format_manifest


class MovedError(SessionError):
    """The folder is another place now; the session in it is whole."""


class DamagedError(SessionError):
    """Somebody removed, replaced or cut what was recorded."""


class Held(NamedTuple):
    """A file of the session: its name, its descriptor, and how many bytes it has at least."""

    name: str
    descriptor: int
    size: int


class Place:
    """An existing ``folder``, held open. Every method but ``close`` raises OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def create(self, name: str) -> FileIO:
        """The new file ``name``, unbuffered, to write and read."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return FileIO(os.open(name, flags, 0o666, dir_fd=self._descriptor), "r+")

    def remove(self, name: str) -> None:
        """Remove the file ``name`` where it is there."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def write_manifest(self, info: SessionInfo, *, wait: bool = True) -> None:
        """Replace ``session.json``, so that a crash leaves the old one or the new one; without ``wait`` for the disk
        that holds for a killed process only."""
        temporary = MANIFEST + ".part"
        self.remove(temporary)
        with self.create(temporary) as file:
            view = memoryview(format_manifest(info))
            while len(view):
                view = view[file.write(view) :]
            if wait:
                os.fsync(file.fileno())
        os.replace(temporary, MANIFEST, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        if wait:
            os.fsync(self._descriptor)

    def size(self) -> int:
        """Bytes of all its files."""
        with os.scandir(self._descriptor) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)

    def check(self, files: Iterable[Held]) -> None:
        """Whether the folder has its name and ``files`` are in it, whole. Raises MovedError or DamagedError."""
        for file in files:
            self._check_file(file)
        try:
            found = _identity(os.stat(self.folder))
        except (FileNotFoundError, NotADirectoryError):
            found = None
        if found == _identity(os.fstat(self._descriptor)):
            return
        now = self.where()
        if now is None:
            raise DamagedError(f"the folder {self.folder} was deleted while it was recorded")
        raise MovedError(f"the folder {self.folder} was moved to {now} while it was recorded")

    def where(self) -> str | None:
        """Where the folder is now, None where it was deleted."""
        now = os.readlink(f"/proc/self/fd/{self._descriptor}")
        try:
            return now if _identity(os.stat(now)) == _identity(os.fstat(self._descriptor)) else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def close(self) -> None:
        """Let go of the folder. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _check_file(self, file: Held) -> None:
        held = os.fstat(file.descriptor)
        try:
            found = _identity(os.stat(file.name, dir_fd=self._descriptor, follow_symlinks=False))
        except FileNotFoundError:
            found = None
        if found != _identity(held):
            if self.where() is None:
                raise DamagedError(f"the folder {self.folder} was deleted while it was recorded")
            happened = "deleted" if found is None else "replaced"
            raise DamagedError(f"{self.folder / file.name} was {happened} while it was recorded")
        if held.st_size < file.size:
            raise DamagedError(
                f"{self.folder / file.name} was cut from {file.size} to {held.st_size} bytes while it was recorded"
            )


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
