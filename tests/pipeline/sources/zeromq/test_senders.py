"""Several senders at one address: one stream is taken whole, the others are named and counted."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq
import zmq_peers
from heard import hear

from clesr.pipeline.frame import Frame, Outage
from clesr.pipeline.sources.zeromq import senders as module
from clesr.pipeline.sources.zeromq.senders import MOST_NAMED, SILENT_NS, TakenStream
from clesr.pipeline.sources.zeromq.source import ZmqSource

WAIT = 10.0
PLACE = "zmq+tcp://127.0.0.1:5555"


@dataclass(eq=False)
class Peer:
    name: str
    closed: bool = False


class Sender(zmq_peers.Sender):
    """A program that sends numbered images of 2x2 pixels, whose gray says whose they are."""

    linger_ms = 1000

    def __init__(self, endpoint: str, kind: int, gray: int, **fields: str) -> None:
        super().__init__(kind)
        self.socket.connect(endpoint)
        self.gray, self.fields = gray, fields
        if kind == zmq.XPUB:
            assert self.socket.recv() == b"\x01"  # subscribed

    def send(self, number: int) -> None:
        header = {"version": 1, "shape": [2, 2], "dtype": "uint8", "number": number, "time_ns": 1}
        self.socket.send_multipart([json.dumps(header | self.fields).encode(), bytes([self.gray] * 4)])


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def read(source: ZmqSource) -> Frame:
    item = source.read(WAIT)
    assert isinstance(item, Frame)
    return item


@pytest.mark.parametrize("kind", ["push", "pub"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"stream": "left"}, {"stream": "right"}),
        ({"stream": "probe"}, {"stream": "probe"}),
        ({}, {}),
        ({"stream": "left"}, {}),
    ],
    ids=["two names", "one name", "no names", "one without"],
)
def test_two_senders_on_one_port_are_never_mixed(
    kind: str, first: dict[str, str], second: dict[str, str], port: int, senders: list[Sender]
) -> None:
    said = hear()
    source = ZmqSource(f"zmq+tcp://127.0.0.1:{port}?bind=1&socket={'pull' if kind == 'push' else 'sub'}")
    socket_kind = zmq.PUSH if kind == "push" else zmq.XPUB
    ours = Sender(f"tcp://127.0.0.1:{port}", socket_kind, 1, **first)
    senders.append(ours)
    ours.send(1000)
    assert read(source).number == 1000
    other = Sender(f"tcp://127.0.0.1:{port}", socket_kind, 2, **second)
    senders.append(other)
    for number in range(1, 13):
        other.send(500_000 + number)
        while source._taken.refused < number:
            assert source.read(0.01) is None
        ours.send(1000 + number)
        frame = read(source)
        assert (frame.number, frame.image[0, 0]) == (1000 + number, 1)
    source.close()
    assert source._taken.refused == 12
    assert len(said) == 2
    assert said[0].startswith(f"zmq+tcp://127.0.0.1:{port}: ")
    assert " is refused, because " in said[0]
    assert said[1].startswith(f"zmq+tcp://127.0.0.1:{port}: 12 frames of other senders were refused: 12 of ")


def test_a_sender_that_restarts_goes_on_and_the_new_count_is_told(port: int, senders: list[Sender]) -> None:
    said = hear()
    source = ZmqSource(f"zmq+tcp://127.0.0.1:{port}?bind=1&socket=pull")
    numbers = []
    for begin in (700, 0):
        sender = Sender(f"tcp://127.0.0.1:{port}", zmq.PUSH, 1, stream="probe")
        for number in (begin, begin + 1, begin + 3):
            sender.send(number)
            if number == 0:
                assert source.read(10) == Outage("its sender began anew"), (
                    "how many are missing, nobody knows"
                )
            numbers.append(read(source).number)
        sender.close()
        while source._peers._peers:
            assert source.read(0.01) is None
    source.close()
    assert numbers == [700, 701, 703, 704, 705, 707]
    assert [line.partition(": ")[2].partition(" from ")[0] for line in said[:1]] == [
        "stream 'probe' now comes"
    ]
    assert "the sender's numbers went from 703 to 0: it began anew" in said[1]
    assert len(said) == 2


def test_two_streams_of_one_sender_are_two(tmp_path: Path, senders: list[Sender]) -> None:
    source = ZmqSource(f"zmq+ipc://{tmp_path}/s?bind=1&socket=pull")
    sender = Sender(f"ipc://{tmp_path}/s", zmq.PUSH, 1, stream="left")
    senders.append(sender)
    for stream, number in (("left", 4), ("right", 900), ("left", 5), ("", 3), ("left", 7)):
        sender.fields = {"stream": stream} if stream else {}
        sender.send(number)
    assert [read(source).number for _ in range(3)] == [4, 5, 7]
    source.close()
    assert source._taken.refused == 2


def test_what_the_user_chose_is_taken_and_the_rest_passed_over(tmp_path: Path, senders: list[Sender]) -> None:
    said = hear()
    source = ZmqSource(f"zmq+ipc://{tmp_path}/s?bind=1&socket=pull&stream=right")
    sender = Sender(f"ipc://{tmp_path}/s", zmq.PUSH, 1)
    senders.append(sender)
    for stream, number in (("left", 4), ("right", 900), ("left", 5), ("right", 901)):
        sender.fields = {"stream": stream}
        sender.send(number)
    assert [read(source).number for _ in range(2)] == [900, 901]
    source.close()
    assert (source._taken.refused, said) == (0, [])


def test_a_silent_sender_is_replaced_by_one_of_its_stream_alone() -> None:
    taken, old, new = TakenStream(PLACE), Peer("10.0.0.1:7"), Peer("10.0.0.2:7")
    assert taken.admits("a", old, 0)
    assert not taken.admits("a", new, SILENT_NS)
    assert not taken.admits("b", new, SILENT_NS + 1)
    assert taken.admits("a", new, SILENT_NS + 1)
    assert not taken.admits("a", old, SILENT_NS + 2)
    new.closed = True
    assert not taken.admits("b", old, SILENT_NS + 3), "another name may be another patient"
    assert taken.admits("a", old, SILENT_NS + 3)


def test_names_are_bounded_and_fit_to_be_shown() -> None:
    said = hear()
    taken, peer = TakenStream(PLACE), Peer("10.0.0.1:7")
    assert taken.admits("a", peer, 0)
    for number in range(MOST_NAMED + 30):
        assert not taken.admits(f"\n{number}" + "x" * 3000, peer, 1)
    taken.tell()
    assert len(said) == MOST_NAMED + 1
    assert all("\n" not in line and len(line) < 400 for line in said[:-1])
    assert said[-1].startswith(f"{PLACE}: {MOST_NAMED + 30} frames of other senders were refused")
    assert said[-1].endswith(", 30 of others")


def test_the_advice_fits_the_case() -> None:
    said = hear()
    taken = TakenStream(PLACE)
    assert taken.admits("a", Peer("one"), 0)
    assert not taken.admits("b", Peer("two"), 0)
    assert not taken.admits("a", Peer("three"), 0)
    assert said[0] == (
        f"{PLACE}: stream 'b' from two is refused, because stream 'a' from one came first; say which with "
        "?stream=NAME, or give each an address of its own"
    )
    assert "; stop one of them, or give" in said[1]
    assert module.SILENT_NS == 10**10
