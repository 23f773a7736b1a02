"""ZeroMQ sockets of the peers that tests play."""

from __future__ import annotations

from collections.abc import Callable

import zmq

WAIT = 10.0  # s


def peer_context() -> zmq.Context[zmq.Socket[bytes]]:
    """A context whose sockets wait for `WAIT` seconds at most and then raise `zmq.Again`.

    A socket that was ready may still block: its peer can go away between the question and the message."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    for option in (zmq.SNDTIMEO, zmq.RCVTIMEO):
        context.setsockopt(option, int(WAIT * 1000))
    context.setsockopt(zmq.LINGER, 0)
    return context


class Sender:
    """A peer's socket in a context of its own; ``prepare`` sets its options."""

    linger_ms = 0  # for what is still to be sent at the end

    def __init__(self, kind: int, prepare: Callable[[zmq.Socket[bytes]], None] = lambda _: None) -> None:
        self.context = peer_context()
        self.socket = self.context.socket(kind)
        prepare(self.socket)

    def bound(self) -> str:
        """The address at which it is bound now, as clesr writes it."""
        return f"zmq+tcp://127.0.0.1:{self.socket.bind_to_random_port('tcp://127.0.0.1')}"

    def close(self) -> None:
        self.context.destroy(linger=self.linger_ms)
