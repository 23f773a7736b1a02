"""Folders from outside: names in them stay in them, and no link in them is followed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from io import BufferedRandom, BufferedReader
from pathlib import Path

from clesr.engines.common.errors import on_error
from clesr.engines.common.files import (
    LONGEST_READ,
    WholeFile,
    create_new,
    hidden_name,
    kind_of,
    name_new,
    open_in_folder,
)

LONGEST = 4096  # characters of a name with folders


def relative_parts(name: str) -> tuple[str, ...]:
    """The parts of ``name``, a path below some folder. Raises ValueError where it might lead out of that."""
    parts = tuple(name.split("/"))
    if len(name) > LONGEST or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name[:80]!r} is no relative name of a file")
    return parts


class Folder:
    """The folder at ``path``, held open; a link there is followed, because the user named it, those inside never.

    Names are single ones, without folders. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder. May be called twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def folder(self, *names: str, make: bool = False) -> Folder:
        """The folder of ``names``, one in the other; with ``make`` those that are missing are made."""
        here, path = os.dup(self.descriptor), self.path
        with on_error(lambda: os.close(here)):
            for name in names:
                path = path / _single(name)
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=here)
                inner = _open_folder(name, here, path)
                os.close(here)
                here = inner
        found = Folder.__new__(Folder)
        found.path, found.descriptor = path, here
        return found

    def names(self) -> list[str]:
        return sorted(os.listdir(self.descriptor))

    def state(self, name: str) -> os.stat_result | None:
        """What ``name`` is, None where there is nothing."""
        try:
            return os.lstat(_single(name), dir_fd=self.descriptor)
        except FileNotFoundError:
            return None

    def is_file(self, name: str) -> bool:
        state = self.state(name)
        return state is not None and stat.S_ISREG(state.st_mode)

    def open(self, name: str) -> BufferedReader:
        """The regular file ``name``, for reading."""
        return os.fdopen(open_in_folder(_single(name), self.descriptor), "rb")

    def open_own(self, name: str) -> BufferedRandom:
        """The regular file ``name`` for reading and appending; made where it is missing."""
        return os.fdopen(open_in_folder(_single(name), self.descriptor, append=True), "a+b")

    def create(self, name: str) -> WholeFile:
        """The new file ``name``, unbuffered, to write and read."""
        return WholeFile(create_new(_single(name), self.descriptor), "r+")

    def put(self, name: str, data: bytes, *, wait: bool = True) -> None:
        """``data`` as the file ``name``, in place of the one before, so that a crash leaves the one or the other;
        without ``wait`` for the disk that holds for a killed process only. A link there is replaced, not followed."""
        temporary = hidden_name(_single(name))
        with on_error(lambda: self.remove(temporary)):
            with self.create(temporary) as file:
                file.write(data)
                if wait:
                    os.fsync(file.fileno())
            self.move(temporary, self, name, replace=True)
        if wait:
            os.fsync(self.descriptor)

    def sha256(self, name: str) -> str:
        """SHA-256 of the regular file ``name``."""
        with self.open(name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def move(self, name: str, into: Folder, new: str | None = None, *, replace: bool = False) -> None:
        """``name`` becomes ``new`` of another folder; what is there stays, unless it is to be replaced."""
        here, there, new = self.descriptor, into.descriptor, _single(new or name)
        if replace:
            os.replace(_single(name), new, src_dir_fd=here, dst_dir_fd=there)
            self.remove(name)  # still there where both were names of one file
        else:
            name_new(_single(name), new, here, there)

    def remove(self, name: str) -> None:
        """Delete the file or link ``name``, where there is one."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_single(name), dir_fd=self.descriptor)

    def remove_tree(self, name: str) -> None:
        """Delete ``name`` and all in it, as far as that goes; of a link, the link."""
        state = self.state(name)
        if state is None:
            return
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(state.st_mode):
                shutil.rmtree(_single(name), ignore_errors=True, dir_fd=self.descriptor)
            else:
                self.remove(name)


def open_part(path: Path) -> BufferedReader:
    """The file ``path`` of a session or archive, for reading. Raises OSError, also for a link and what is no file."""
    with Folder(path.parent) as folder:
        return folder.open(path.name)


def read_part(path: Path, limit: int = LONGEST_READ) -> bytes:
    """The bytes of ``path``, as ``open_part``; OSError where there are more than ``limit``."""
    with open_part(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1) if size <= limit else b""  # takes memory for as much as is asked
    if max(size, len(data)) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", str(path))
    return data


def put_part(path: Path, data: bytes, *, wait: bool = True) -> None:
    """``data`` as the file ``path`` that is clesr's own, as ``Folder.put``."""
    with Folder(path.parent) as folder:
        folder.put(path.name, data, wait=wait)


def check_part(path: Path) -> None:
    """Raises OSError where ``path``, a part of a session or archive, is there and no regular file."""
    try:
        state = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, f"it is {kind_of(state)} and no file", str(path))


def _single(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise OSError(errno.EINVAL, "it is no name of a file in a folder", name)
    return name


def _open_folder(name: str, inside: int, path: Path) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise OSError(errno.ENOTDIR, "it is a link or no folder", str(path)) from None
        raise
