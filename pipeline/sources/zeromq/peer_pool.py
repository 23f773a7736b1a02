"""All peers of a ZeroMQ source or of the control socket, so that what ZeroMQ keeps of them together is bounded."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import zmq

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import SourceError, on_error
from clesr.pipeline.sources.zeromq.message import MAX_HEADER, Refused
from clesr.pipeline.sources.zeromq.peer import CHUNK, Peer
from clesr.pipeline.sources.zeromq.zmtp import PART_COST
from clesr.pipeline.unix_sockets import UnixListener

MOST_PEERS = 32
BUDGET = 320 << 20  # bytes that ZeroMQ keeps of all peers together, or two of the largest images
NAP_MS = 50  # longest wait before a look whether the source was closed
SMALL = 1 << 20  # bytes of an unfinished message that is always let go on
STALLED_NS = 2_000_000_000  # after which a message that cannot be completed ends its connection
TURN_NS = 20_000_000_000  # longest time for one large message while others wait
IDLE_NS = 10_000_000_000  # silence after which a peer makes room for another
_DIAL_S, _REDIAL_NS = 2.0, 100_000_000

Parts = list[zmq.Frame]


class PeerPool:
    """Messages of the peers at ``endpoint`` (tcp:// or ipc://), which we listen at where ``listen``, else connect to.

    ``most`` is how many bytes the largest allowed part has. Raises SourceError where it cannot listen.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        kind: int,
        settings: Mapping[int, int | bytes],
        endpoint: str,
        *,
        listen: bool,
        most: int,
    ) -> None:
        self._make = partial(Peer, context, kind, settings, most=most)
        self._most = most + MAX_HEADER * 2 + 4 * PART_COST  # of a whole message
        self._budget = max(BUDGET, 2 * (self._most + CHUNK))
        self._endpoint, self._next_dial = endpoint, 0
        self._peers: list[Peer] = []
        self._senior: Peer | None = None
        self._turn_ns = self._moved_ns = 0
        self._listener: socket.socket | None = None
        self._named: UnixListener | None = None
        if listen:
            self._listener, self._named = _listening(endpoint)

    def wait(
        self, give: Callable[[Parts, Peer], bool], refuse: Callable[[str], None], nap_ms: int = NAP_MS
    ) -> None:
        """Pass on what comes, for ``nap_ms`` at most: ``give`` gets each message and its peer, and says whether it was
        one that was waited for; ``refuse`` gets why a connection was ended."""
        now = SYSTEM.now_ns()
        if self._listener is None and not self._peers and now >= self._next_dial:
            self._dial()
        allowed = {peer for peer in self._allowed() if not peer.rests(now)}
        poller = zmq.Poller()
        for peer in self._peers:
            peer.interests(poller, forward=peer in allowed, now=now)
        if self._listener is not None:
            poller.register(self._listener, zmq.POLLIN)
        poller.poll(nap_ms)
        if self._listener is not None:
            self._accept()
        now = SYSTEM.now_ns()
        for peer in list(self._peers):
            try:
                self._serve(peer, give, forward=peer in allowed, now=now)
            except Refused as reason:
                self._end(peer)
                if self._listener is not None and not peer.meter.greeted:
                    continue  # somebody who looked in, no sender
                refuse(f"{reason}; {'its connection was ended' if self._listener else 'connected again'}")

    def close(self) -> None:
        while self._peers:
            self._peers.pop().close()
        if self._listener is not None:
            self._listener.close()
        if self._named is not None:
            self._named.forget()

    def _serve(self, peer: Peer, give: Callable[[Parts, Peer], bool], *, forward: bool, now: int) -> None:
        """Messages before bytes: what is whole leaves ZeroMQ before more goes in. Raises Refused."""
        if self._given(peer, give, now):
            return
        if peer.pump(forward=forward, now=now) and peer is self._senior:
            self._moved_ns = now
        if peer.closed_by_zmq:
            if peer.rests(now) or self._given(peer, give, now):
                return
            self._end(peer)
            if peer.refused_by_zmq and (self._listener is None or peer.sent_content):
                raise Refused("no ZeroMQ peer, or one that breaks its protocol")
        elif peer.cost >= self._most and not peer.refused and now - peer.heard_ns > STALLED_NS:
            raise Refused(f"a message of more than {self._most} bytes")
        elif peer is self._senior and (now - self._moved_ns > STALLED_NS or now - self._turn_ns > TURN_NS):
            raise Refused("a message that does not end while others wait")

    def _given(self, peer: Peer, give: Callable[[Parts, Peer], bool], now: int) -> bool:
        """Whether ``peer`` had a message. The time that its reader took is nobody's fault here."""
        parts = None if peer.rests(now) else peer.take()
        if parts is None:
            return False
        begin = SYSTEM.now_ns()
        fits = give(parts, peer)
        end = SYSTEM.now_ns()
        peer.judge(fits, end)
        peer.heard_ns = end
        self._turn_ns += end - begin
        self._moved_ns += end - begin
        return True

    def _allowed(self) -> set[Peer]:
        """The peers whose bytes may go on to ZeroMQ. Where they come to too much, one large message after the other."""
        open_peers = [peer for peer in self._peers if peer.cost < self._most]
        if sum(peer.cost for peer in self._peers) < self._budget - self._most - CHUNK:
            self._senior = None
            return set(open_peers)
        if self._senior not in open_peers or self._senior.cost < SMALL:
            large = [peer for peer in open_peers if peer.cost >= SMALL]
            self._senior = min(large, key=lambda peer: peer.began_ns, default=None)
            self._turn_ns = self._moved_ns = SYSTEM.now_ns()
        return {peer for peer in open_peers if peer is self._senior or peer.cost < SMALL}

    def _accept(self) -> None:
        assert self._listener is not None
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # nobody more, gone again, or no file descriptor left
            now = SYSTEM.now_ns()
            if len(self._peers) >= MOST_PEERS:
                longest = min(self._peers, key=lambda peer: peer.heard_ns)
                if now - longest.heard_ns < IDLE_NS:
                    connection.close()
                    continue
                self._end(longest)
            self._add(connection, now)

    def _dial(self) -> None:
        try:
            connection = _connected(self._endpoint)
        except OSError:
            self._next_dial = SYSTEM.now_ns() + _REDIAL_NS
            return
        self._add(connection, SYSTEM.now_ns())

    def _add(self, connection: socket.socket, now: int) -> None:
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._peers.append(self._make(outer=connection, now=now))

    def _end(self, peer: Peer) -> None:
        if peer in self._peers:
            self._peers.remove(peer)
            peer.close()
        self._senior = None if self._senior is peer else self._senior
        self._next_dial = SYSTEM.now_ns() + _REDIAL_NS


def _tcp_place(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _unix_name(endpoint: str) -> str:
    name = endpoint.removeprefix("ipc://")
    return "\0" + name[1:] if name.startswith("@") else name


def _connected(endpoint: str) -> socket.socket:
    if endpoint.startswith("tcp://"):
        return socket.create_connection(_tcp_place(endpoint), _DIAL_S)
    connection = socket.socket(socket.AF_UNIX)
    with on_error(connection.close):
        connection.connect(_unix_name(endpoint))
    return connection


def _listening(endpoint: str) -> tuple[socket.socket, UnixListener | None]:
    named: UnixListener | None = None
    try:
        if endpoint.startswith("tcp://"):
            host, port = _tcp_place(endpoint)
            family = socket.AF_INET6 if "[" in endpoint else socket.AF_INET
            listener = socket.create_server(("" if host == "*" else host, port), family=family)
        else:
            named = UnixListener(_unix_name(endpoint), MOST_PEERS)
            listener = named.socket
    except OSError as error:
        hint = "choose a free port of this machine"
        raise SourceError(f"{endpoint} cannot be bound to ({error.strerror}); {hint}") from error
    listener.setblocking(False)
    return listener, named
