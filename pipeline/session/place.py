"""A session's folder while it is recorded: reached by what it is, not by its name, which others may change."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from clesr.engines.common.folders import Folder
from clesr.pipeline.session.format import MANIFEST, SessionError, SessionInfo, format_manifest

DELETED = " (deleted)"  # what Linux puts behind the name of what is gone


class MovedError(SessionError):
    """The folder is another place now, or hidden; the session in it is whole."""


class DamagedError(SessionError):
    """Somebody removed, replaced or cut what was recorded."""


class Held(NamedTuple):
    """A file of the session: its name, its descriptor, and how many bytes it has at least."""

    name: str
    descriptor: int
    size: int


class Place(Folder):
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
            found = _identity(os.stat(self.path))
        except (FileNotFoundError, NotADirectoryError):
            found = None
        except PermissionError:
            if self.deleted:
                raise DamagedError(f"the folder {self.path} was deleted while it was recorded") from None
            return  # a folder above was closed to us: nothing says that this one moved, and writing needs no name
        if found == _identity(os.fstat(self.descriptor)):
            return
        if self.deleted:
            raise DamagedError(f"the folder {self.path} was deleted while it was recorded")
        now = self.where()
        happened = f"was moved to {now}" if now is not None else "was mounted over, or its disk detached,"
        raise MovedError(f"the folder {self.path} {happened} while it was recorded")

    @property
    def deleted(self) -> bool:
        return os.fstat(self.descriptor).st_nlink == 0 or (
            self._name.endswith(DELETED) and self.where() is None
        )

    def where(self) -> str | None:
        """Where the folder is now, None where no name leads to it: it was deleted, or something was mounted over it."""
        now = self._name
        try:
            return now if _identity(os.stat(now)) == _identity(os.fstat(self.descriptor)) else None
        except OSError:
            return None

    @property
    def _name(self) -> str:
        """What the system calls the folder now."""
        return os.readlink(f"/proc/self/fd/{self.descriptor}")

    def _check_file(self, file: Held) -> None:
        held = os.fstat(file.descriptor)
        try:
            found = _identity(os.stat(file.name, dir_fd=self.descriptor, follow_symlinks=False))
        except FileNotFoundError:
            found = None
        if found != _identity(held):
            if self.deleted:
                raise DamagedError(f"the folder {self.path} was deleted while it was recorded")
            happened = "deleted" if found is None else "replaced"
            raise DamagedError(f"{self.path / file.name} was {happened} while it was recorded")
        if held.st_size < file.size:
            raise DamagedError(
                f"{self.path / file.name} was cut from {file.size} to {held.st_size} bytes while it was recorded"
            )


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
