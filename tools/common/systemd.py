"""What systemd is told of a service: that it is ready, and that it is alive."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

ADDRESS, WATCHDOG = "NOTIFY_SOCKET", "WATCHDOG_USEC"
LOOK_S = 0.5


@contextmanager
def told_to_systemd(ready: Callable[[], bool], alive: Callable[[], bool]) -> Iterator[None]:
    """In the block, tell systemd once that the service is ``ready``, and again and again that it is ``alive``, as long
    as it is: systemd starts a service again of which it has heard nothing for too long (WatchdogSec). Does nothing
    where systemd did not ask for it."""
    address = os.environ.get(ADDRESS, "")
    if not address:
        yield
        return
    usec = os.environ.get(WATCHDOG, "")
    every = int(usec) / 2e6 if usec.isdigit() and int(usec) else None
    stop = threading.Event()
    thread = threading.Thread(target=_tell, args=(address, every, ready, alive, stop), name="clesr systemd")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        _send(address, "STOPPING=1")


def _tell(
    address: str,
    every: float | None,
    ready: Callable[[], bool],
    alive: Callable[[], bool],
    stop: threading.Event,
) -> None:
    said = False
    while True:
        if not said and ready():
            said = True
            _send(address, "READY=1")
        if every is not None and alive():
            _send(address, "WATCHDOG=1")
        if stop.wait(min(every or LOOK_S, LOOK_S)):
            return


def _send(address: str, words: str) -> None:
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.connect("\0" + address[1:] if address.startswith("@") else address)
        out.send(words.encode())
