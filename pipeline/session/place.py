"""A session's folder while it is recorded: reached by what it is, not by its name, which others may change."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from clesr.pipeline.inside import Folder
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
        if found == _identity(os.fstat(self.descriptor)):
            return
        now = self.where()
        if now is None:
            raise DamagedError(f"the folder {self.path} was deleted while it was recorded")
        raise MovedError(f"the folder {self.path} was moved to {now} while it was recorded")

    def where(self) -> str | None:
        """Where the folder is now, None where it was deleted."""
        now = os.readlink(f"/proc/self/fd/{self.descriptor}")
        try:
            return now if _identity(os.stat(now)) == _identity(os.fstat(self.descriptor)) else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _check_file(self, file: Held) -> None:
        held = os.fstat(file.descriptor)
        try:
            found = _identity(os.stat(file.name, dir_fd=self.descriptor, follow_symlinks=False))
        except FileNotFoundError:
            found = None
        if found != _identity(held):
            if self.where() is None:
                raise DamagedError(f"the folder {self.path} was deleted while it was recorded")
            happened = "deleted" if found is None else "replaced"
            raise DamagedError(f"{self.path / file.name} was {happened} while it was recorded")
        if held.st_size < file.size:
            raise DamagedError(
                f"{self.path / file.name} was cut from {file.size} to {held.st_size} bytes while it was recorded"
            )


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
