"""Signals that end a run, in one place: handled on a thread, so also while the main thread is in a call that hangs."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from clesr.tools.stderr import stderr

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S = 5.0  # for the main thread to end after an interrupt

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


def nothing(_number: int, _frame: FrameType | None = None) -> None:
    pass


@contextmanager
def on_signals(
    handle: Callable[[int], None], numbers: Sequence[int] = STOPPING, *, on_main: OnMain = nothing
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

    def insist(number: int) -> None:
        if not ended.wait(GRACE_S):
            end_process(number)

    def handle(number: int) -> None:
        received.append(number)
        if len(received) > 1:
            end_process(number)
        threading.Thread(target=insist, args=(number,), daemon=True).start()

    with on_signals(handle, on_main=_interrupt):
        try:
            yield received
        finally:
            ended.set()


def end_process(number: int, message: str = "interrupted") -> None:
    """End at once, whatever other threads do, after one line."""
    stderr.write(f"clesr: error: {message}\n")
    stderr.settle()
    os._exit(128 + number)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
