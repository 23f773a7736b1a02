"""Waiting for something to read."""

from __future__ import annotations

import select
from collections.abc import Iterable
from typing import Protocol


class HasHandle(Protocol):
    """A socket, a file."""

    def fileno(self) -> int: ...


def readable(handle: HasHandle | int, seconds: float) -> bool:
    """Whether there is something to read from ``handle``, its end too, within ``seconds``."""
    return bool(ready([handle if isinstance(handle, int) else handle.fileno()], seconds))


def ready(descriptors: Iterable[int], seconds: float) -> set[int]:
    """Of ``descriptors`` those from which there is something to read, their end too, within ``seconds``. Unlike
    ``select.select`` it takes any, also in a process that has thousands."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(1000 * seconds)}
