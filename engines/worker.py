"""The thread that computes an engine's frames, one after the other."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from clesr.engines.common.image import Image
from clesr.engines.engine import EngineInfo
from clesr.engines.guidance import Guidance


class WorkerEngine:
    """An :class:`~clesr.engines.engine.Engine` around ``compute``, a function of one LR image, and of its
    guidance where it comes with one.

    While one frame is computed the next one waits, so the device is never idle between two. ``compute``
    runs on the engine's own thread; what it raises, SystemExit too, comes out of ``collect`` as EngineError.
    ``release`` runs once, after the last frame.
    """

    def __init__(
        self,
        info: EngineInfo,
        compute: Callable[..., Image],
        *,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self.info, self.depth = info, 2
        self._compute, self._release = compute, release
        self._waiting: deque[tuple[Image] | tuple[Image, Guidance]] = deque()
        self._done: deque[Image | BaseException] = deque()
        self._in_flight = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"engine {info.engine}", daemon=True)
        self._thread.start()

    def submit(self, lr: Image, guidance: Guidance | None = None) -> None:
        if lr.shape != self.info.lr_shape:
            self.info.check_shape(lr)  # which raises
        with self._changed:
            self._changed.wait_for(lambda: self._in_flight < self.depth or self._closed)
            if self._closed:
                raise RuntimeError("the engine is closed")
            self._in_flight += 1
            self._waiting.append((lr,) if guidance is None else (lr, guidance))
            self._changed.notify_all()

    def collect(self) -> Image:
        with self._changed:
            if not self._in_flight:
                raise RuntimeError("nothing is in flight")
            self._changed.wait_for(lambda: self._done or self._closed)
            if self._closed:
                raise RuntimeError("the engine is closed")
            result = self._done.popleft()
            self._in_flight -= 1
            self._changed.notify_all()
        if isinstance(result, BaseException):
            raise self.info.failed(result) from result
        return result

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._done.clear()
            self._in_flight = 0
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._compute_next():
                pass
        finally:
            self._release()

    def _compute_next(self) -> bool:
        """Wait for a frame and compute it; False when the engine is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return False
            frame = self._waiting.popleft()
        result = self._computed(*frame)
        with self._changed:
            if not self._closed:
                self._done.append(result)
                self._changed.notify_all()
        del result  # which, where it is an error, holds this function's locals
        return True

    def _computed(self, lr: Image, *guidance: Guidance) -> Image | BaseException:
        try:
            return self._compute(lr, *guidance)
        except BaseException as error:  # noqa: BLE001 - handed to the caller of collect
            return error
