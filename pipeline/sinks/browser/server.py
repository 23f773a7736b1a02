"""uvicorn on a thread of its own, with limits on what a connection may cost."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from asyncio import Transport
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from clesr.engines.common.errors import WHY, SinkError, first_line, told_as
from clesr.pipeline.messages import SafeLogger, stream_thread
from clesr.pipeline.sinks.browser.connections import Connections
from clesr.pipeline.sinks.browser.door import Door

log = SafeLogger(logging.getLogger(__name__))
REQUEST_S = 10.0  # for the head of a request to come
TAKEN_S = 20.0  # for what was sent to be taken
MESSAGE_BYTES = 1 << 16  # that a page may send together
HEAD_BYTES = 1 << 14
WAITING = 1024  # connections that are not yet accepted: the system keeps them, and they take no handle
CLOSE_S = 3.0
PING_S = 20.0
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\nRetry-After: 5\r\n"
    b"Content-Length: 47\r\n\r\ntoo many connections to clesr; close some pages\n"
)


class Patience:
    """Of a protocol: who does not take what was sent is cut off after a time, and what waits for them is forgotten; so
    is who sends what the protocol cannot take."""

    transport: Any
    _stuck: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - asyncio would say it in a traceback
            log.debug(f"browser: a connection is cut off ({type(error).__name__}: {first_line(error)})")
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        self._stuck = asyncio.get_running_loop().call_later(TAKEN_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[misc]
        self._at_ease()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)  # type: ignore[misc]
        self._at_ease()

    def _at_ease(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None


class BoundedHttp(Patience, H11Protocol):
    """HTTP/1.1 of a connection that says soon what it wants."""

    refused = False
    _deadline: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is answered, or this has become a WebSocket."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        upgraded = transport.get_protocol() is not self
        return upgraded or (self.cycle is not None and not self.cycle.response_complete)

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.refused:
            transport.write(BUSY)
            transport.close()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    def _watch(self) -> None:
        """Give the time for a request's head while it is awaited."""
        if self.conn.their_state is not h11.IDLE:
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = None
        elif self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_S, self.transport.abort)


class BoundedSocket(Patience, WebSocketsSansIOProtocol):
    """WebSocket; uvicorn bounds its messages."""


class Forward(logging.Handler):
    """What uvicorn says, as our own debugging messages; its errors as warnings in one line. Strangers who send nonsense
    fill nobody's screen."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        words = record.getMessage().splitlines()[:1]
        why = f" ({type(error).__name__}: {first_line(error)})" if error is not None else ""
        cut = isinstance(error, asyncio.CancelledError)  # as is what is at work when the run ends
        bad = record.levelno >= logging.ERROR and error is not None and not cut
        level = logging.WARNING if bad else logging.DEBUG
        log.log(level, f"browser: {''.join(words)}{why}")


class Server:
    """Serves ``app`` at ``door`` from its making until ``close``. Raises SinkError where it cannot listen there.

    Signals stay whose they were; no thread and no port is left after ``close``.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._tls = door.tls()
        self._listener = listen(door)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = threading.Event()
        uvicorn_log = logging.getLogger("uvicorn")
        uvicorn_log.handlers, uvicorn_log.propagate = [Forward()], False
        config = uvicorn.Config(
            app,
            http=BoundedHttp,
            ws=BoundedSocket,
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=HEAD_BYTES,
            ws_max_size=MESSAGE_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = stream_thread("clesr browser server", self._serve)
        self._thread.start()
        self._running.wait()

    def soon(self, work: Callable[[], object]) -> None:
        """Call ``work`` on the server's thread; not at all once that has ended."""
        with suppress(RuntimeError):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """Cut everybody off, and end. May be called twice."""
        self._server.should_exit = True
        self._thread.join(CLOSE_S)
        self._listener.close()

    def _protocol(self) -> BoundedHttp:
        """What speaks through a new connection."""
        return BoundedHttp(self._server.config, self._server.server_state, app_state={})

    def _serve(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._server.config.load()
            connections = Connections(self._listener, self._protocol, self._tls)
            connections.begin()
            self._running.set()
            try:
                await self._server.serve([])
            finally:
                connections.end()

        try:
            asyncio.run(serve())
        except Exception as error:  # noqa: BLE001 - the view ends; the run goes on
            log.warning(f"the browser's server has ended: {first_line(error)}")
        finally:
            self._running.set()


def listen(door: Door) -> socket.socket:
    """A listening socket; where the user gave no address and the usual port is taken, at a free one."""
    host, port = door.address
    words = f"the browser's server cannot listen at {host}:{port} ({WHY}); give --listen another ADDRESS:PORT"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with told_as(SinkError, words):
        try:
            return socket.create_server((host, port), family=family, backlog=WAITING)
        except OSError:
            if door.listen is not None:
                raise
            return socket.create_server((host, 0), family=family, backlog=WAITING)
