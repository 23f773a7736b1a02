"""What sources that receive on a thread of their own share: the box between that thread and the reader."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from clesr.engines.common.errors import EndOfSource
from clesr.pipeline.frame_queue import Closed, FrameQueue, Policy
from clesr.pipeline.messages import stream_thread

_JOIN_S = 1.0  # longest wait for the thread at the end: one that connects ends later, after its time-out


Item = TypeVar("Item")


class Receiver(Generic[Item]):
    """At most ``size`` frames wait in ``_box`` for the reader. What ends the thread is raised by ``_next``."""

    def __init__(self, size: int, policy: Policy) -> None:
        self._box: FrameQueue[Item] = FrameQueue(size, policy)
        self._closing = threading.Event()
        self._fault: Exception | None = None

    def _next(self, timeout: float) -> Item | None:
        try:
            return self._box.get(timeout)
        except Closed:
            raise self._fault or EndOfSource from None

    def close(self) -> None:
        self._closing.set()
        self._box.close()
        self._box.drain()
        self._thread.join(_JOIN_S)

    def _start(self, name: str, receive: Callable[[], None]) -> None:
        """Run ``receive`` on the thread, until it returns or putting into the closed box raises Closed."""
        self._thread = stream_thread(name, self._run, receive)
        self._thread.start()

    def _run(self, receive: Callable[[], None]) -> None:
        try:
            receive()
        except Closed:
            pass
        except Exception as error:  # noqa: BLE001 - raised again by read, in the reader's thread
            self._fault = error
        finally:
            self._box.close()
