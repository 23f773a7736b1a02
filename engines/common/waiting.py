"""Waiting for something to read."""

from __future__ import annotations

import select
from typing import Protocol


class HasHandle(Protocol):
    """A socket, a file."""

    def fileno(self) -> int: ...


def readable(handle: HasHandle | int, seconds: float) -> bool:
    """Whether there is something to read from ``handle``, its end too, within ``seconds``. Unlike ``select.select`` it
    takes any handle, also in a process that has thousands."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(1000 * seconds))
