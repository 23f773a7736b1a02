"""What systemd is told of a service: that it is ready, that it is alive, and that it is about to end."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from clesr.pipeline.metrics.collector import UNATTENDED_S
from clesr.pipeline.pipeline import Pipeline
from clesr.tools.common.console import repeating

ADDRESS, WATCHDOG = "NOTIFY_SOCKET", "WATCHDOG_USEC"
LOOK_S = 0.5
EXTEND_S = 30  # from now that it may take to end


@contextmanager
def told_to_systemd(pipelines: Sequence[Pipeline]) -> Iterator[None]:
    """In the block, tell systemd once that all ``pipelines`` run, and again and again that the service is alive, as
    long as the main thread comes round to some of them: systemd starts a service again of which it has heard nothing
    for too long (WatchdogSec). Where all are ending that is told at once, and, as long as it is alive, that it needs
    ``EXTEND_S`` more (TimeoutStopSec): a recording that takes long to be closed is not cut off. Does nothing where
    systemd did not ask for it."""
    address = os.environ.get(ADDRESS, "")
    if not address:
        yield
        return
    usec = os.environ.get(WATCHDOG, "")
    every = int(usec) / 2e6 if usec.isdigit() and int(usec) else None
    said = set[str]()

    def once(words: str) -> None:
        if words not in said:
            said.add(words)
            _send(address, words)

    def look() -> None:
        if all(each.started for each in pipelines):
            once("READY=1")
        is_ending = all(each.ending for each in pipelines)
        is_alive = any(each.unattended_s < UNATTENDED_S for each in pipelines)
        if is_ending:
            once("STOPPING=1")
        if is_ending and is_alive:
            _send(address, f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1_000_000}")
        if every is not None and is_alive:
            _send(address, "WATCHDOG=1")

    try:
        with repeating(look, min(every or LOOK_S, LOOK_S), at_end=False):
            yield
    finally:
        once("STOPPING=1")


def _send(address: str, words: str) -> None:
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.connect("\0" + address[1:] if address.startswith("@") else address)
        out.send(words.encode())
