"""What hostile ZeroMQ peers can make clesr keep, and that honest peers go on. Hostile ones speak plain ZMTP 3.0."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import struct
from collections.abc import Iterator

import pytest
import zmq
from support import until
from zmq_peers import peer_context

from clesr.engines.common import limits
from clesr.engines.common.clock import SYSTEM
from clesr.pipeline.frame import Corrupt, Frame, Outage
from clesr.pipeline.sources.zeromq import peer as zmq_peer
from clesr.pipeline.sources.zeromq import peer_pool
from clesr.pipeline.sources.zeromq.message import Refused
from clesr.pipeline.sources.zeromq.peer import CHUNK
from clesr.pipeline.sources.zeromq.source import ZmqSource
from clesr.pipeline.sources.zeromq.zmtp import MOST_PARTS, PART_COST, Meter

WAIT = 20.0
SIDE = 512  # of the largest image: half a megabyte in 16 bit
ROOM = 4 * 2 * SIDE * SIDE  # what a test allows beside the budget
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 4) + b"PUSH"
HANDSHAKE = GREETING + b"\x04" + bytes([len(READY)]) + READY


def resident() -> int:
    """Bytes of memory that this process takes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def header(side: int, number: int) -> bytes:
    return json.dumps({"version": 1, "shape": [side, side], "dtype": "uint8", "number": number}).encode()


def frame(body: bytes, *, more: bool) -> bytes:
    return struct.pack(">BQ", 2 | more, len(body)) + body


class Pulling:
    """A source that waits for peers, with limits that a test can reach."""

    def __init__(self) -> None:
        self.port = free_port()
        self.source = ZmqSource(f"zmq+tcp://127.0.0.1:{self.port}?socket=pull&bind=1")
        self.open: list[socket.socket] = []
        self.peers: list[zmq.Socket[bytes]] = []
        self.context: zmq.Context[zmq.Socket[bytes]] = peer_context()

    def hostile(self) -> socket.socket:
        """A connection whose handshake is over."""
        connection = socket.create_connection(("127.0.0.1", self.port), WAIT)
        self.open.append(connection)
        connection.sendall(HANDSHAKE)
        answer = b""
        while len(answer) < 66 or len(answer) < 66 + answer[65]:  # greeting and READY
            answer += connection.recv(1000)
        connection.settimeout(0.2)
        return connection

    def honest(self) -> zmq.Socket[bytes]:
        peer = self.context.socket(zmq.PUSH)
        self.peers.append(peer)
        peer.connect(f"tcp://127.0.0.1:{self.port}")
        return peer

    def next(self, kind: type | tuple[type, ...]) -> Frame | Corrupt | Outage:
        """The next item of a ``kind``; others are passed over."""
        found: list[Frame | Corrupt | Outage] = []

        def came() -> bool:
            item = self.source.read(0.05)
            if item is not None and isinstance(item, kind):
                found.append(item)
            return bool(found)

        until(came, WAIT)
        return found[0]

    def close(self) -> None:
        self.source.close()
        for connection in self.open:
            connection.close()
        self.context.destroy(linger=0)


@pytest.fixture
def pulling(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulling]:
    monkeypatch.setattr(limits, "_side", SIDE)
    monkeypatch.setattr(peer_pool, "BUDGET", 0)  # two of the largest images
    monkeypatch.setattr(peer_pool, "SMALL", 10_000)
    monkeypatch.setattr(peer_pool, "STALLED_NS", 200_000_000)
    made = Pulling()
    yield made
    made.close()


def send_until_ended(connection: socket.socket, chunk: bytes, most: int) -> int:
    """Send ``chunk`` again and again; bytes that went out, ``most`` at most."""
    sent, rest = 0, memoryview(b"")
    deadline = SYSTEM.now_ns() + WAIT * 1e9
    with contextlib.suppress(ConnectionError):
        while sent < most:
            assert SYSTEM.now_ns() < deadline, "it is neither read nor ended"
            rest = rest or memoryview(chunk)
            with contextlib.suppress(TimeoutError):
                count = connection.send(rest)
                sent, rest = sent + count, rest[count:]
    return sent


@pytest.mark.parametrize("size", [0, 10, 60_000], ids=["empty", "small", "large"])
def test_a_message_that_never_ends_is_cut_off(pulling: Pulling, size: int) -> None:
    connection, before = pulling.hostile(), resident()
    chunk = frame(bytes(size), more=True) * max(1, 100_000 // (size + 9))
    sent = send_until_ended(connection, chunk, 80 << 20)
    assert sent < 40 << 20  # the system's own buffers are some megabytes
    assert resident() - before < 16 << 20
    refused = pulling.next(Corrupt)
    assert isinstance(refused, Corrupt)
    assert "a message of more than" in refused.reason


def test_large_parts_without_end_are_cut_off_by_their_sum(pulling: Pulling) -> None:
    connection, before = pulling.hostile(), resident()
    chunk = frame(bytes(2 * SIDE * SIDE), more=True)
    sent = send_until_ended(connection, chunk, 80 << 20)
    assert sent < 40 << 20
    assert resident() - before < 16 << 20
    assert isinstance(refused := pulling.next(Corrupt), Corrupt)
    assert "a message of more than" in refused.reason


def test_an_honest_peer_goes_on_beside_it(pulling: Pulling) -> None:
    honest, number = pulling.honest(), itertools.count()
    for _ in range(3):
        connection = pulling.hostile()
        connection.sendall(frame(bytes(2 * SIDE * SIDE), more=True))
        for _ in range(5):
            honest.send_multipart([header(64, sent := next(number)), bytes(64 * 64)])
            came = pulling.next(Frame)
            assert isinstance(came, Frame)
            assert came.image.shape == (64, 64)
    assert sent == 14


def test_all_peers_together_have_a_budget(pulling: Pulling) -> None:
    before = resident()
    peers = [pulling.hostile() for _ in range(20)]
    part = frame(header(SIDE, 0), more=True) + frame(bytes(SIDE * SIDE), more=False)[:-10]
    for connection in peers:  # all but the end of a large image, of each
        with contextlib.suppress(TimeoutError, ConnectionError):
            connection.sendall(part)
    refused = pulling.next(Corrupt)
    assert isinstance(refused, Corrupt)
    assert "while others wait" in refused.reason
    assert resident() - before < ROOM + 2 * CHUNK * len(peers)


def test_whole_images_of_many_peers_all_come_those_of_one_stream_as_frames(pulling: Pulling) -> None:
    peers = [pulling.honest() for _ in range(12)]
    for number, peer in enumerate(peers):
        for again in range(3):
            peer.send_multipart([header(SIDE, 3 * number + again), bytes(SIDE * SIDE)])
    items: list[Frame | Corrupt | Outage | None] = []

    def came() -> bool:
        items.append(pulling.source.read(0.05))
        return pulling.source._taken.refused == 33 and sum(item is not None for item in items) == 3

    until(came, WAIT)
    assert all(isinstance(item, Frame) for item in items if item is not None)


def test_a_flood_of_what_is_no_frame_is_heard_slowly_and_an_honest_peer_at_once(pulling: Pulling) -> None:
    hostile = pulling.hostile()
    flood = frame(b"{bad", more=True) + frame(b"x", more=False)
    hostile.sendall(flood * 2000)
    begin = SYSTEM.now_ns()
    refused = 0
    honest = pulling.honest()
    for number in range(20):
        honest.send_multipart([header(64, number), bytes(64 * 64)])
        while isinstance(pulling.next((Frame, Corrupt)), Corrupt):
            refused += 1
    rests = (SYSTEM.now_ns() - begin) / zmq_peer.REST_NS
    assert refused <= zmq_peer.PATIENCE + rests + 2


def test_a_peer_that_was_heard_slowly_is_heard_again_when_it_sends_frames(
    pulling: Pulling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zmq_peer, "REST_NS", 1_000_000)
    peer = pulling.honest()
    for _ in range(zmq_peer.PATIENCE + 20):
        peer.send_multipart([b"{bad", b"x"])
    for number in range(5):
        peer.send_multipart([header(8, number), bytes(64)])
    for _ in range(zmq_peer.PATIENCE + 20):
        assert isinstance(pulling.next((Frame, Corrupt)), Corrupt)
    for _ in range(5):
        assert isinstance(pulling.next((Frame, Corrupt)), Frame)


def test_peers_are_at_most_so_many(pulling: Pulling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_pool, "MOST_PEERS", 4)
    pulling.open += [socket.create_connection(("127.0.0.1", pulling.port), WAIT) for _ in range(12)]
    ended = 0
    for connection in pulling.open:
        connection.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while data := connection.recv(100):
                assert data[0] == 0xFF  # our greeting
            ended += 1
    assert ended == 8
    monkeypatch.setattr(peer_pool, "IDLE_NS", 0)  # who is silent makes room
    honest = pulling.honest()
    honest.send_multipart([header(8, 1), bytes(64)])
    assert isinstance(pulling.next(Frame), Frame)


def test_garbage_is_no_frame_and_hurts_nobody(pulling: Pulling) -> None:
    for data in (b"GET / HTTP/1.0\r\n\r\n", bytes(500), b"hello, what are you?" * 99):
        connection = socket.create_connection(("127.0.0.1", pulling.port), WAIT)
        pulling.open.append(connection)
        connection.sendall(data)
    honest = pulling.honest()
    honest.send_multipart([header(8, 1), bytes(64)])
    assert isinstance(pulling.next((Frame, Corrupt)), Frame)


def test_close_ends_whatever_peers_do(pulling: Pulling) -> None:
    connection = pulling.hostile()
    connection.sendall(frame(bytes(1000), more=True))
    pulling.source.close()
    assert not pulling.source._thread.is_alive()


def test_the_meter_sees_frames_whatever_the_pieces() -> None:
    stream = memoryview(
        HANDSHAKE + frame(b"abc", more=True) + frame(bytes(1000), more=False) + b"\x00\x05hello"
    )
    expected = 3 * PART_COST + 1008
    for size in (1, 2, 7, 64, len(stream)):
        meter = Meter(1000)
        assert sum(meter.feed(stream[at : at + size]) for at in range(0, len(stream), size)) == expected


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (HANDSHAKE + struct.pack(">BQ", 2, 1001), "a part of more than 1000 bytes"),
        (HANDSHAKE + struct.pack(">BQ", 3, 2**64 - 1), "a part of more than 1000 bytes"),
        (HANDSHAKE + struct.pack(">BQ", 6, 70_000), "a command of 70000 bytes"),
        (HANDSHAKE + b"\x01\x00" * MOST_PARTS, "more than 64 parts"),
        (b"hello, I am a web server", "no ZeroMQ peer"),
        (b"\xff" + bytes(8) + b"\x7f\x00\x01", "before version 3"),
    ],
)
def test_the_meter_refuses(data: bytes, says: str) -> None:
    with pytest.raises(Refused, match=says):
        Meter(1000).feed(memoryview(data))
