"""One ZeroMQ peer: its connection, a ZeroMQ socket of its own, and between them what counts the bytes that go in."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Mapping
from functools import partial
from typing import Any

import zmq

from clesr.engines.common.errors import on_error
from clesr.pipeline.sources.zeromq.message import Refused
from clesr.pipeline.sources.zeromq.zmtp import MOST_PARTS, PART_COST, Meter

CHUNK = 1 << 18  # bytes that are passed on at once
PATIENCE = 100  # messages in a row without a frame, after which a peer is heard REST_NS apart
REST_NS = 10_000_000
_FORGIVEN = 1 << 16  # bytes of cost that heartbeats under encryption may leave behind
_SEALED = 33  # bytes by which encryption makes a part longer


class Peer:
    """The connection ``outer``, whose bytes go to a ZeroMQ socket of ``context`` with these ``settings``.

    ``name`` is its address; ``cost`` is about what ZeroMQ keeps of it. Nothing here waits. One thread uses it.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        kind: int,
        settings: Mapping[int, int | bytes],
        outer: socket.socket,
        *,
        most: int,
        now: int,
    ) -> None:
        self.outer, self.name, self.closed = outer, _name(outer), False
        self.most = most  # bytes of the largest part
        self.cost, self.began_ns, self.heard_ns = 0, now, now
        self.refused = 0  # messages in a row that held no frame
        self.rests_until_ns = 0  # when the next may be taken
        self.sent_content = self.ended = self.closed_by_zmq = self.refused_by_zmq = False
        self.meter = Meter(most + _SEALED)
        self._inward = memoryview(b"")  # bytes on their way to ZeroMQ, and to the peer
        self._outward = memoryview(b"")
        outer.setblocking(False)
        self.messages = context.socket(kind)
        with on_error(partial(self.messages.close, 0)):
            for option, value in settings.items():
                self.messages.set(option, value)
            self.inner = _joined(self.messages)

    def interests(self, poller: zmq.Poller, *, forward: bool, now: int) -> None:
        """Register what is waited for; ``forward`` says whether more may go to ZeroMQ."""
        if not self.rests(now):
            poller.register(self.messages, zmq.POLLIN)
        takes = forward and not self._inward and not self.ended
        gives = bool(self._outward) and not self.ended
        outer = (zmq.POLLIN if takes else 0) | (zmq.POLLOUT if gives else 0)
        if outer:
            poller.register(self.outer, outer)
        inner = (0 if self._outward else zmq.POLLIN) | (zmq.POLLOUT if self._inward else 0)
        poller.register(self.inner, inner)

    def rests(self, now: int) -> bool:
        """Whether it has to wait, after many messages without a frame."""
        return now < self.rests_until_ns

    def judge(self, fits: bool, now: int) -> None:
        """``fits`` says whether its last message held a frame."""
        self.refused = 0 if fits else self.refused + 1
        if self.refused > PATIENCE:
            self.rests_until_ns = now + REST_NS

    def take(self) -> list[zmq.Frame] | None:
        """The parts of the next message; None without one. Raises Refused where it has too many."""
        parts: list[zmq.Frame] = []
        size = 0
        while True:
            try:
                part = self.messages.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return None
            size += len(part) + PART_COST
            parts.append(part)
            if not part.more:
                break
            if len(parts) == MOST_PARTS:
                raise Refused(f"a message of more than {MOST_PARTS} parts")
        sealed = _SEALED * len(parts) if self.messages.get(zmq.MECHANISM) == zmq.CURVE else 0
        self.cost = max(0, self.cost - size - sealed)
        self.cost = 0 if self.cost <= _FORGIVEN else self.cost
        return parts

    def pump(self, *, forward: bool, now: int) -> bool:
        """Pass on what can be passed on; whether something came from the peer. Raises Refused."""
        came = self._pump_inward(now) if forward and not self._inward and not self.ended else False
        self._inward = self._sent(self.inner, self._inward)
        if not self._outward:
            answer = _received(self.inner)
            if answer == b"":
                self.refused_by_zmq = not self.ended
                self.ended = True
                self.closed_by_zmq = True
            self._outward = memoryview(answer or b"")
        self._outward = self._sent(self.outer, self._outward)
        if self.ended and not self._inward:
            with contextlib.suppress(OSError):
                self.inner.shutdown(socket.SHUT_WR)  # ZeroMQ gives out what is whole, and ends
        return came

    def _pump_inward(self, now: int) -> bool:
        data = _received(self.outer)
        if data is None:
            return False
        if not data:
            self.ended = True
            return False
        cost = self.meter.feed(memoryview(data))
        if cost:
            self.began_ns = self.began_ns if self.cost else now
            self.cost += cost
            self.sent_content = True
        self.heard_ns = now
        self._inward = memoryview(data)
        return True

    def _sent(self, to: socket.socket, data: memoryview) -> memoryview:
        """What is left of ``data``."""
        if not data:
            return data
        try:
            return data[to.send(data) :]
        except BlockingIOError:
            return data
        except OSError:
            self.ended = True
            return memoryview(b"")

    def close(self) -> None:
        self.closed = True
        for connection in (self.outer, self.inner):
            connection.close()
        self.messages.close(0)


def _name(connection: socket.socket) -> str:
    if connection.family == socket.AF_UNIX:
        return f"local connection {connection.fileno()}"
    try:
        host, port = connection.getpeername()[:2]
    except OSError:
        return "a sender that has gone"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _received(connection: socket.socket) -> bytes | None:
    """What has come; None for nothing, empty for the end."""
    try:
        return connection.recv(CHUNK)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _joined(messages: zmq.Socket[bytes]) -> socket.socket:
    """Our end of a connection whose other end is ``messages``. Its name is gone before anybody else can use it."""
    folder = tempfile.TemporaryDirectory(prefix="clesr-", ignore_cleanup_errors=True)
    with folder as place, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{place}/zmq")
        listener.listen(1)
        inner = socket.socket(socket.AF_UNIX)
        with on_error(inner.close):
            inner.connect(f"{place}/zmq")
            messages.set(zmq.USE_FD, listener.fileno())
            messages.bind(f"ipc://{place}/zmq")
        listener.detach()  # ZeroMQ's from now on
    inner.setblocking(False)
    return inner
