"""The newest bytes to any number of TCP peers, none of which can hold up another."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from dataclasses import dataclass

from clesr.engines.common.clock import SYSTEM, Clock

MOST = 16  # peers at a time
LINGER_S = 0.5  # how long ``close`` waits for the last message to leave
RETRY_S = 1.0  # between attempts to connect
CONNECT_S = 2.0  # that one attempt may take
UNSENT = 1 << 20  # bytes that the system may keep for one peer: what lies there is old when it is read
RECEIVED = 65536  # bytes that are read, and thrown away, at once


@dataclass(slots=True, eq=False)
class Connection:
    """A connection, the rest of the message that is leaving, and the one that leaves next."""

    socket: socket.socket
    leaving: memoryview = memoryview(b"")
    next: bytes | None = None

    @property
    def idle(self) -> bool:
        return not self.leaving and self.next is None


class Broadcast:
    """Sends whole messages to all peers on a thread of its own.

    A peer that reads more slowly than they come misses some: beside the message that is leaving only the newest waits
    for it. What peers send is read and thrown away.

    Listens at ``host`` (``*``: all addresses of this machine) and ``port`` (0: a free one), or connects there with
    ``connect``, again and again until someone answers. Raises OSError where it cannot listen.
    """

    def __init__(self, host: str, port: int, *, connect: bool = False, clock: Clock = SYSTEM) -> None:
        self.port, self.served = port, 0
        self._clock = clock
        self._sent = self._missed = 0
        self._target = (host, port) if connect else None
        self._peers: list[Connection] = []
        self._lock = threading.Lock()  # over the list of peers and what waits for each
        self._closing_at: int | None = None
        self._selector = selectors.DefaultSelector()
        self._listener = None if connect else self._listen("" if host == "*" else host)
        self._waker, self._woken = socket.socketpair()
        for end in (self._waker, self._woken):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="clesr broadcast", daemon=True)
        self._thread.start()

    @property
    def clients(self) -> int:
        """How many peers are connected."""
        return len(self._peers)

    def send(self, message: bytes) -> None:
        """Hand ``message`` to every peer; returns at once."""
        with self._lock:
            for peer in self._peers:
                self._missed += peer.next is not None
                peer.next = message
        self._wake()

    def close(self) -> tuple[int, int]:
        """End after at most LINGER_S; messages sent and messages missed, over all peers. May be called twice."""
        if self._closing_at is None:
            self._closing_at = self._clock.now_ns() + int(LINGER_S * 1e9)
            self._wake()
            self._thread.join()
            self._waker.close()
        return self._sent, self._missed

    def _listen(self, host: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, self.port), family=family, backlog=MOST)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._selector.register(listener, selectors.EVENT_READ)
        return listener

    def _run(self) -> None:
        while not self._finished():
            if self._target is not None and not self._peers and self._closing_at is None:
                self._connect(self._target)
            for key, events in self._selector.select(RETRY_S if self._closing_at is None else LINGER_S / 10):
                if key.fileobj is self._woken:
                    self._woken.recv(RECEIVED)
                elif key.fileobj is self._listener:
                    self._accept()
                else:
                    self._exchange(key.data, events)
            for peer in self._peers:
                sends = 0 if peer.idle else selectors.EVENT_WRITE
                self._selector.modify(peer.socket, selectors.EVENT_READ | sends, peer)
        for peer in list(self._peers):
            self._drop(peer)
        self._selector.close()
        self._woken.close()
        if self._listener is not None:
            self._listener.close()

    def _finished(self) -> bool:
        if self._closing_at is None:
            return False
        return all(peer.idle for peer in self._peers) or self._clock.now_ns() >= self._closing_at

    def _connect(self, target: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):
            self._add(socket.create_connection(target, CONNECT_S))

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):  # gone again before we came
            accepted, _ = self._listener.accept()
            if len(self._peers) < MOST:
                self._add(accepted)
            else:
                accepted.close()

    def _add(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT)
        peer = Connection(connected)
        self._selector.register(connected, selectors.EVENT_READ, peer)
        with self._lock:
            self._peers.append(peer)
        self.served += 1

    def _exchange(self, peer: Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_READ and not peer.socket.recv(RECEIVED):
                self._drop(peer)
            elif events & selectors.EVENT_WRITE:
                self._push(peer)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(peer)

    def _push(self, peer: Connection) -> None:
        """Send until the peer's buffer is full or nothing is left. Raises OSError where it has gone."""
        while True:
            if not peer.leaving:
                with self._lock:
                    peer.leaving, peer.next = memoryview(peer.next or b""), None
                if not peer.leaving:
                    return
            peer.leaving = peer.leaving[peer.socket.send(peer.leaving) :]
            self._sent += not peer.leaving

    def _drop(self, peer: Connection) -> None:
        with self._lock:
            self._peers.remove(peer)
        self._selector.unregister(peer.socket)
        peer.socket.close()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it is awake
            self._waker.send(b"w")
