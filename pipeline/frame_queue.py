"""The bounded hand-over between two threads."""

from __future__ import annotations

import math
import threading
from collections import deque
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Policy(StrEnum):
    """What happens when a queue is full."""

    DROP_OLDEST = "drop-oldest"  # the oldest item is dropped: live view
    BLOCK = "block"  # the writer waits: files, recorders


class Closed(Exception):
    """Raised by ``put`` on a closed queue, and by ``get`` on a closed and empty one."""


class FrameQueue(Generic[T]):
    """At most ``size`` items from one writer to one reader, in order; of one that drops, the reader may change it.
    ``wake`` is set at every change, for a thread that waits for several queues at once."""

    def __init__(self, size: int, policy: Policy, wake: threading.Event | None = None) -> None:
        if size < 1:
            raise ValueError(f"a queue holds at least one item, not {size}")
        self.size, self.policy = size, policy
        self.room = math.inf if policy is Policy.DROP_OLDEST else size  # for items, without waiting
        self.ready = False  # whether ``get`` would return or raise at once
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._wake = wake
        self._closed = False

    def put(self, item: T) -> T | None:
        """Hand ``item`` over. Returns the item that it replaced (DROP_OLDEST, full queue), else None.

        With BLOCK waits while the queue is full. Raises Closed on a closed queue.
        """
        with self._changed:
            while self.policy is Policy.BLOCK and len(self._items) >= self.size and not self._closed:
                self._changed.wait()
            if self._closed:
                raise Closed
            dropped = self._items.popleft() if len(self._items) >= self.size else None
            self._items.append(item)
            self._notify()
            return dropped

    def get(self, timeout: float | None = None) -> T | None:
        """The oldest item; None after ``timeout`` seconds without one (0: at once; None: wait).

        Raises Closed when the queue is closed and empty: what was put before is still handed over.
        """
        with self._changed:
            self._changed.wait_for(lambda: bool(self._items) or self._closed, timeout)
            if self._items:
                item = self._items.popleft()
                self._notify()
                return item
            if self._closed:
                raise Closed
            return None

    def close(self) -> None:
        """No more items; both sides wake up."""
        with self._changed:
            self._closed = True
            self._notify()

    def drain(self) -> list[T]:
        """Take everything out at once."""
        with self._changed:
            items = list(self._items)
            self._items.clear()
            self._notify()
            return items

    def __len__(self) -> int:
        return len(self._items)

    def _notify(self) -> None:
        unbounded = self.policy is Policy.DROP_OLDEST or self._closed
        self.room = math.inf if unbounded else self.size - len(self._items)
        self.ready = bool(self._items) or self._closed
        self._changed.notify_all()
        if self._wake is not None:
            self._wake.set()
