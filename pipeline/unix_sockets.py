"""Listening at a name in the file system, in place of nothing but a socket that nobody listens at."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat


class UnixListener:
    """A socket that listens at ``name``; of an abstract one the first character is NUL.

    Raises OSError, also where something is there: a file, or a socket at which another program listens.
    """

    def __init__(self, name: str, waiting: int) -> None:
        self._name = name
        self._place: tuple[int, int] | None = None
        _remove_abandoned(name)
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.bind(name)
            self._place = _place(name)
            self.socket.listen(waiting)
        except OSError:
            self.socket.close()
            self.forget()
            raise

    def forget(self) -> None:
        """Remove the name, unless it has become that of something else."""
        if self._place is not None and self._place == _place(self._name):
            with contextlib.suppress(OSError):
                os.unlink(self._name)
        self._place = None


def _remove_abandoned(name: str) -> None:
    """Remove a socket that an earlier run left at ``name``."""
    if name.startswith("\0"):
        return
    try:
        if not stat.S_ISSOCK(os.lstat(name).st_mode):
            raise OSError(errno.EEXIST, "something is there that is no socket", name)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            os.unlink(name)
            return
        except BlockingIOError:
            pass  # somebody listens, and is busy
    raise OSError(errno.EADDRINUSE, "another program listens there", name)


def _place(name: str) -> tuple[int, int] | None:
    if name.startswith("\0"):
        return None
    try:
        state = os.lstat(name)
    except OSError:
        return None
    return state.st_dev, state.st_ino
