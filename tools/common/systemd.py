"""What systemd is told of a service: that it is ready, that it is alive, and that it is about to end."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

ADDRESS, WATCHDOG = "NOTIFY_SOCKET", "WATCHDOG_USEC"
LOOK_S = 0.5
EXTEND_S = 30  # from now that it may take to end


@contextmanager
def told_to_systemd(
    ready: Callable[[], bool], alive: Callable[[], bool], ending: Callable[[], bool]
) -> Iterator[None]:
    """In the block, tell systemd once that the service is ``ready``, and again and again that it is ``alive``, as long
    as it is: systemd starts a service again of which it has heard nothing for too long (WatchdogSec). Where it is
    ``ending`` that is told at once, and, as long as it is alive, that it needs ``EXTEND_S`` more (TimeoutStopSec): a
    recording that takes long to be closed is not cut off. Does nothing where systemd did not ask for it."""
    address = os.environ.get(ADDRESS, "")
    if not address:
        yield
        return
    usec = os.environ.get(WATCHDOG, "")
    every = int(usec) / 2e6 if usec.isdigit() and int(usec) else None
    stop = threading.Event()
    teller = _Teller(address, every, ready, alive, ending)
    thread = threading.Thread(target=teller.tell, args=(stop,), name="clesr systemd")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        teller.once("STOPPING=1")


@dataclass(slots=True)
class _Teller:
    """What is said to the socket ``address``; that it is alive ``every`` so many seconds, None: not at all."""

    address: str
    every: float | None
    ready: Callable[[], bool]
    alive: Callable[[], bool]
    ending: Callable[[], bool]
    _said: set[str] = field(default_factory=set)

    def tell(self, stop: threading.Event) -> None:
        """Until ``stop``."""
        while True:
            if self.ready():
                self.once("READY=1")
            ending, alive = self.ending(), self.alive()
            if ending:
                self.once("STOPPING=1")
            if ending and alive:
                _send(self.address, f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1_000_000}")
            if self.every is not None and alive:
                _send(self.address, "WATCHDOG=1")
            if stop.wait(min(self.every or LOOK_S, LOOK_S)):
                return

    def once(self, words: str) -> None:
        if words not in self._said:
            self._said.add(words)
            _send(self.address, words)


def _send(address: str, words: str) -> None:
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.connect("\0" + address[1:] if address.startswith("@") else address)
        out.send(words.encode())
