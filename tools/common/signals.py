"""Signals that end a run, in one place: handled on a thread, so also while the main thread is in a call that hangs."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from clesr.tools.common.stderr import stderr

if TYPE_CHECKING:
    from clesr.pipeline.pipeline import Pipeline

log = logging.getLogger(__name__)
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 128 + signal.SIGINT  # exit status of what goes on where the same command is given again
GRACE_S = 5.0  # for the main thread to end after an interrupt
DRAIN_S = 8.0  # for what was captured to be finished, where nobody may be there to wait
STOP_S = 12.0  # for a run to end once it was told to stop at once
RESCUE_S = 3.0  # for each recording and output to be closed after that

OnMain = Callable[[int, FrameType | None], Any]


class _Listener:
    """Gives each signal to the newest handler that wants it, on a thread of its own."""

    def __init__(self) -> None:
        self.handlers: list[tuple[frozenset[int], Callable[[int], None]]] = []
        self._reader, self.writer = socket.socketpair()
        self.writer.setblocking(False)
        threading.Thread(target=self._listen, name="clesr signals", daemon=True).start()

    def _listen(self) -> None:
        while True:
            for number in self._reader.recv(64):
                for numbers, handle in reversed(self.handlers):
                    if number in numbers:
                        try:
                            handle(number)
                        except Exception as error:  # noqa: BLE001 - later signals must still be heard
                            stderr.write(f"signal {number}: {error}\n")
                        break


_listener: _Listener | None = None


def _nothing(_number: int, _frame: FrameType | None = None) -> None:
    pass


@contextmanager
def on_signals(
    handle: Callable[[int], None], numbers: Sequence[int] = STOPPING, *, on_main: OnMain = _nothing
) -> Iterator[None]:
    """While the block runs ``handle`` gets each of ``numbers`` that comes, on a thread that nothing else uses, and
    ``on_main`` when the main thread, on which this must be called, comes to it. SIGHUP stays ignored under nohup."""
    global _listener
    _listener = _listener or _Listener()
    numbers = [n for n in numbers if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
    entry = (frozenset(numbers), handle)
    _listener.handlers.append(entry)
    awake = signal.set_wakeup_fd(_listener.writer.fileno(), warn_on_full_buffer=False)
    previous = {number: signal.signal(number, on_main) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(awake, warn_on_full_buffer=False)
        _listener.handlers.remove(entry)


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the block; where that does not end it soon, or on a
    second signal, the process ends. Yields the signals that came."""
    received: list[int] = []
    ended = threading.Event()

    def handle(number: int) -> None:
        received.append(number)
        if len(received) > 1:
            end_process(number)
        _unless(ended, GRACE_S, end_process, number)

    with on_signals(handle, on_main=_interrupt):
        try:
            yield received
        finally:
            ended.set()


def _unless(ended: threading.Event, seconds: float, act: Callable[[int], object], number: int) -> None:
    """Act on the signal ``number`` in so many seconds, unless the block that it is to end has ``ended``."""

    def wait() -> None:
        if not ended.wait(seconds):
            act(number)

    threading.Thread(target=wait, daemon=True).start()


def end_process(number: int, message: str = "interrupted") -> None:
    """End at once, whatever other threads do, after one line."""
    stderr.write(f"clesr: error: {message}\n")
    stderr.settle()
    os._exit(128 + number)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def stopping_on_signals(stop: Callable[[], object]) -> Iterator[None]:
    """The first of SIGINT, SIGTERM and SIGHUP calls ``stop`` on the main thread; a second one raises
    KeyboardInterrupt."""
    came = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True
        stop()

    with on_signals(_nothing, on_main=handle):
        yield


@contextmanager
def draining_on_signals(*pipelines: Pipeline) -> Iterator[list[int]]:
    """Ctrl-C, SIGTERM and SIGHUP drain ``pipelines``, a second one stops them at once; before they have started the
    first one raises KeyboardInterrupt. Yields the signals that came.

    SIGTERM and SIGHUP, after which nobody may be there to insist, stop at once what is not drained after DRAIN_S.
    Where even that does not end the block within STOP_S, its recordings are closed and the process ends.
    """

    received: list[int] = []
    ended = threading.Event()

    def rescue(number: int) -> None:
        for pipeline in pipelines:
            pipeline.rescue(RESCUE_S)
        end_process(number, "interrupted: what did not answer was given up")

    def abort(number: int) -> None:
        for pipeline in pipelines:
            pipeline.abort()
        _unless(ended, STOP_S, rescue, number)

    def handle(number: int) -> None:
        received.append(number)
        if len(received) == 2:
            log.info("stopping at once")
            abort(number)
        elif len(received) == 1 and not all(pipeline.started for pipeline in pipelines):
            _unless(ended, GRACE_S, rescue, number)
        elif len(received) == 1:
            for pipeline in pipelines:
                pipeline.stop()
            log.info("stopping: what was captured is finished and written; once more stops at once")
            if number != signal.SIGINT:
                _unless(ended, DRAIN_S, abort, number)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not all(pipeline.started for pipeline in pipelines):
            raise KeyboardInterrupt

    with on_signals(handle, on_main=interrupt):
        try:
            yield received
        finally:
            ended.set()
