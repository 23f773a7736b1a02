"""The newest bytes to any number of TCP peers, none of which can hold up another."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

MOST = 16  # peers at a time
LINGER_S = 0.5  # how long ``close`` waits for the last message to leave
RETRY_S = 1.0  # between attempts to connect
CONNECT_S = 2.0  # that one attempt may take
UNSENT = 1 << 20  # bytes that the system may keep for one peer: what lies there is old when it is read
RECEIVED = 65536  # bytes that are read, and thrown away, at once


@dataclass(slots=True, eq=False)
class Connection:
    """A peer: the message that leaves next, and whether one is leaving."""

    next: bytes | None = None
    leaving: bool = False
    given: asyncio.Event = field(default_factory=asyncio.Event)


class Broadcast:
    """Sends whole messages to all peers on a thread of its own.

    A peer that reads more slowly than they come misses some: beside the message that is leaving only the newest waits
    for it. What peers send is read and thrown away.

    Listens at ``host`` (``*``: all addresses of this machine) and ``port`` (0: a free one), or connects there with
    ``connect``, again and again until someone answers. Raises OSError where it cannot listen.
    """

    def __init__(self, host: str, port: int, *, connect: bool = False) -> None:
        self.port, self.served = port, 0
        self._sent = self._missed = 0
        self._connections: set[Connection] = set()
        self._ending = asyncio.Event()
        if connect:
            work = self._dial(host, port)
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            address = ("" if host == "*" else host, port)
            listener = socket.create_server(address, family=family, backlog=MOST)
            self.port = listener.getsockname()[1]
            work = self._listen(listener)
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._run, args=(work,), name="clesr broadcast", daemon=True)
        self._thread.start()

    @property
    def clients(self) -> int:
        """How many peers are connected."""
        return len(self._connections)

    def send(self, message: bytes) -> None:
        """Hand ``message`` to every peer; returns at once."""
        self._loop.call_soon_threadsafe(self._offer, message)

    def close(self) -> tuple[int, int]:
        """End after at most LINGER_S; messages sent and messages missed, over all peers. May be called twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join()
        return self._sent, self._missed

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        with self._runner:
            self._runner.run(self._until_closed(work))

    async def _until_closed(self, work: Coroutine[Any, Any, None]) -> None:
        self._connecting = asyncio.create_task(work)  # ends with the loop: until then messages leave
        await self._ending.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while any(peer.leaving or peer.next is not None for peer in self._connections):
                    await asyncio.sleep(LINGER_S / 50)

    async def _listen(self, listener: socket.socket) -> None:
        async with await asyncio.start_server(self._accept, sock=listener) as server:
            await server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # at the end; Python 3.11 would write a trace of it
            await self._serve(reader, writer)

    async def _dial(self, host: str, port: int) -> None:
        while True:
            with contextlib.suppress(OSError):
                async with asyncio.timeout(CONNECT_S):
                    connected = await asyncio.open_connection(host, port)
                await self._serve(*connected)
            await asyncio.sleep(RETRY_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One peer, until it goes."""
        if len(self._connections) >= MOST:
            writer.close()
            return
        plug = writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT)
        writer.transport.set_write_buffer_limits(0)
        peer = Connection()
        sending = asyncio.create_task(self._push(peer, writer))
        self._connections.add(peer)
        self.served += 1
        try:
            with contextlib.suppress(OSError):  # gone
                while await reader.read(RECEIVED):
                    pass
        finally:
            self._connections.discard(peer)
            sending.cancel()
            writer.transport.abort()

    async def _push(self, peer: Connection, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # the peer has gone, which ``_serve`` sees as well
            while True:
                await peer.given.wait()
                peer.given.clear()
                message, peer.next = peer.next, None
                peer.leaving = True
                writer.write(message or b"")
                await writer.drain()
                peer.leaving = False
                self._sent += 1

    def _offer(self, message: bytes) -> None:
        for peer in self._connections:
            self._missed += peer.next is not None
            peer.next = message
            peer.given.set()
