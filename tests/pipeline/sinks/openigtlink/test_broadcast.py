"""Bytes to many peers: what was sent last still leaves, and the end is quiet."""

from __future__ import annotations

import logging
import socket
import threading

import pytest
from support import until
from waits import PATIENCE_S

from clesr.pipeline.sinks.openigtlink.broadcast import Broadcast

MESSAGE = bytes(range(256)) * 4000


def received(peer: socket.socket) -> bytes:
    """Everything until the other side ends."""
    data = b""
    while part := peer.recv(1 << 16):
        data += part
    return data


@pytest.mark.parametrize("connect", [False, True])
def test_the_last_message_leaves_before_the_end(connect: bool, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, caplog.at_level(logging.WARNING):
        server.settimeout(PATIENCE_S)
        port = server.getsockname()[1]
        broadcast = Broadcast("127.0.0.1", port if connect else 0, connect=connect)
        peer = server.accept()[0] if connect else socket.create_connection(("127.0.0.1", broadcast.port))
        peer.settimeout(PATIENCE_S)
        until(lambda: broadcast.clients == 1)
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(received(peer)), daemon=True)
        reader.start()
        broadcast.send(MESSAGE)
        assert broadcast.close() == broadcast.close() == (1, 0)
        reader.join(timeout=20)
        peer.close()
    assert got == [MESSAGE]
    assert not caplog.records, "nothing is said of connections that the end cuts off"


def test_only_the_newest_waits_and_the_others_are_counted() -> None:
    broadcast = Broadcast("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", broadcast.port), PATIENCE_S) as peer:
        until(lambda: broadcast.clients == 1)
        for _ in range(20):
            broadcast.send(MESSAGE * 8)
        sent, missed = broadcast.close()
        assert sent + missed <= 20
        assert missed > 10
        assert peer.recv(4) == MESSAGE[:4]
