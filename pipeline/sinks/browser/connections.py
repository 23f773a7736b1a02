"""Which connections the server takes: few, and those alone that ask for something."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import first_line
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.rate_limiter import RateLimiter

log = SafeLogger(logging.getLogger(__name__))
CONNECTIONS = 32  # at once; one more is told to come later
PAUSE_S = 0.01  # between two that are taken, so that a flood of them leaves the processor to others
HANDSHAKE_S = 5.0  # for TLS to begin
GOODBYE_S = 1.0  # for TLS to end
SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
SCARCE_S = 1.0  # until it is tried again where the system has nothing left


class Guest(Protocol):
    """What speaks through a connection. It is ``busy`` while it is answered; one that is ``refused`` says so."""

    transport: Any
    refused: bool

    @property
    def busy(self) -> bool: ...


class Connections:
    """Takes connections at ``listener``, a socket that does not block, from ``begin`` to ``end``. Each is given to what
    ``welcome`` makes, behind ``tls`` where that is given. Used on the thread of the running event loop.

    A connection counts from the moment that it is accepted to that in which its handle is closed. Where there are as
    many as may be, the oldest that is not busy goes: one that does not speak, or has had its answer.
    """

    def __init__(
        self, listener: socket.socket, welcome: Callable[[], Any], tls: ssl.SSLContext | None
    ) -> None:
        self._listener, self._welcome = listener, welcome
        self._tls: dict[str, Any] = {}
        if tls is not None:
            self._tls = {"ssl": tls, "ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": GOODBYE_S}
        self._loop = asyncio.get_running_loop()
        self._open: list[tuple[socket.socket, Guest]] = []  # the oldest first
        self._greetings: set[asyncio.Task[None]] = set()
        self._next: asyncio.TimerHandle | None = None
        self._warn = RateLimiter(log.warning, SYSTEM)
        self._note = RateLimiter(log.debug, SYSTEM)

    def begin(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def end(self) -> None:
        """Take no more, and cut off those that are there."""
        self._loop.remove_reader(self._listener)
        if self._next is not None:
            self._next.cancel()
        for connection, guest in self._open:
            _cut(connection, guest)

    def _accept(self) -> None:
        self._loop.remove_reader(self._listener)
        self._next = self._loop.call_later(self._take(), self.begin)

    def _take(self) -> float:
        """Take a connection; the seconds until the next may be taken."""
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno not in SCARCE:
                return PAUSE_S  # it has gone again
            self._warn(f"the browser's server takes no connection ({error.strerror}); it tries again")
            return SCARCE_S
        connection.setblocking(False)
        guest: Guest = self._welcome()
        guest.refused = not self._make_room()
        self._open.append((connection, guest))
        greeting = self._loop.create_task(self._greet(connection, guest))
        self._greetings.add(greeting)
        greeting.add_done_callback(self._greetings.discard)
        return PAUSE_S

    def _make_room(self) -> bool:
        """Whether one more may ask for something; for that the oldest that asks for nothing goes."""
        self._open = [each for each in self._open if each[0].fileno() >= 0]
        if len(self._open) < CONNECTIONS:
            return True
        self._warn(
            f"more than {CONNECTIONS} connections to the browser's view: the oldest that ask for nothing are cut off; "
            "close pages, or see who connects"
        )
        idle = [each for each in self._open if not each[1].busy]
        if idle:
            _cut(*idle[0])
        return len(self._open) - len(idle) < CONNECTIONS

    async def _greet(self, connection: socket.socket, guest: Guest) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: guest, connection, **self._tls)  # type: ignore[type-var]
        except OSError as error:
            self._note(f"browser: a connection has ended before it began ({first_line(error)})")


def _cut(connection: socket.socket, guest: Guest) -> None:
    if guest.transport is not None:
        guest.transport.abort()
    else:  # in TLS' handshake, which ends by it
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
