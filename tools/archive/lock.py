"""One run at a time on an output folder."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clesr.engines.common.errors import WHY, SinkError, told_as
from clesr.engines.common.folders import Folder

log = logging.getLogger(__name__)
_HELD = (errno.EWOULDBLOCK, errno.EACCES)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``. The system gives it up when the process ends, however it ends: a lock that a
    killed run left is free. Raises SinkError where another run holds it, on this machine or another."""
    with told_as(SinkError, f"the lock {path} cannot be opened: {WHY}"), Folder(path.parent) as folder:
        file = folder.open_own(path.name)
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                file.seek(0)
                holder = file.read(200).decode(errors="replace").strip() or "just started"
                raise SinkError(
                    f"another run ({holder}) writes to {path.parent.parent}; wait for its end, or choose another folder"
                ) from error
            log.warning(
                f"{path.parent.parent} has no file locks ({error.strerror}): start no second run on it meanwhile"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()
        yield
