"""The recorder's letter box: work in order, bounded in bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from clesr.pipeline.frame_queue import Closed

LETTER = 512  # bytes that work counts for besides its image


class Inbox:
    """Work from several threads to one, in order; images of at most ``budget`` bytes wait with it."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._letters: deque[tuple[Callable[[], None], int]] = deque()
        self._cost = 0
        self._changed = threading.Condition()
        self._closed = False

    def put(
        self, work: Callable[[], None], image: int = 0, *, wait: bool = False, share: float = 1.0
    ) -> bool:
        """Hand ``work`` over with an ``image`` of so many bytes, where ``share`` of the budget has room for it or
        nothing waits; False where not.

        ``wait`` waits for room. Work without an image always has room. False too once the box is closed.
        """
        with self._changed:
            while not self._closed and not self._has_room(image, share):
                if not wait:
                    return False
                self._changed.wait()
            if self._closed:
                return False
            self._letters.append((work, image + LETTER))
            self._cost += image + LETTER
            self._changed.notify_all()
            return True

    def get(self, timeout: float) -> Callable[[], None] | None:
        """The oldest work, None after ``timeout`` seconds without; raises Closed on a closed and empty box."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._letters) or self._closed, timeout)
            if self._letters:
                work, cost = self._letters.popleft()
                self._cost -= cost
                self._changed.notify_all()
                return work
            if self._closed:
                raise Closed
            return None

    @property
    def empty(self) -> bool:
        return not self._letters

    @property
    def over_budget(self) -> bool:
        """Whether more waits than images alone could make wait."""
        return self._cost > self.budget

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self, image: int, share: float) -> bool:
        return not image or not self._letters or self._cost + image <= share * self.budget
