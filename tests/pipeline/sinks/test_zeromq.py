"""The receivers here are written from the documented wire format alone: pyzmq, json and NumPy."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
import zmq.auth
from heard import hear
from numpy.typing import NDArray
from zmq_peers import peer_context

from clesr.engines.common.errors import SinkError, UsageError
from clesr.pipeline.curve import make_keys
from clesr.pipeline.frame import Image, Outcome, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.sinks.registry import open_sink
from clesr.pipeline.sinks.zeromq import HIGH_WATER, Publisher

MakeResult = Callable[..., Result]
Receiver = zmq.Socket[bytes]
WAIT_MS = 10_000


class Network:
    """Opens receivers, and closes them after the test."""

    def __init__(self) -> None:
        self._context: zmq.Context[Receiver] = peer_context()
        self._opened: list[Receiver] = []

    def subscribe(self, endpoint: str, *, bind: bool = False, **options: Any) -> Receiver:
        receiver = self._context.socket(zmq.SUB)
        self._opened.append(receiver)
        for name, value in options.items():
            setattr(receiver, name, value)
        receiver.subscribe(b"")
        receiver.bind(endpoint) if bind else receiver.connect(endpoint)
        return receiver

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def send_until_received(publisher: Publisher, receiver: Receiver, result: Result) -> list[bytes]:
    """A PUB socket drops what is sent before a subscription has arrived."""
    for _ in range(WAIT_MS // 10):
        publisher.write(result)
        if receiver.poll(10):
            return receiver.recv_multipart()
    pytest.fail("no message came within ten seconds")


def parse(parts: list[bytes]) -> tuple[dict[str, Any], NDArray[Any]]:
    """As the format says, and no more."""
    assert len(parts) == 2
    header = json.loads(parts[0])
    dtype = np.dtype(header["dtype"]).newbyteorder("<")
    return header, np.frombuffer(parts[1], dtype).reshape(header["shape"])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_receiver_written_from_the_format_alone_gets_the_frames(
    dtype: type, transport: str, tmp_path: Path, make_result: MakeResult, network: Network
) -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}" if transport == "tcp" else f"ipc://{tmp_path / 'sr'}"
    sink = open_sink(f"zmq+{endpoint}?stream=theatre%202")
    assert isinstance(sink, Publisher)
    assert sink.policy is Policy.DROP_OLDEST
    receiver = network.subscribe(endpoint)
    image: Image = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (300, 501)).astype(dtype)
    send_until_received(sink, receiver, make_result(image, 0))
    while receiver.poll(100):
        receiver.recv_multipart()
    sink.write(make_result(image, 41, time_ns=123_456_789_012, scale=4))
    assert receiver.poll(WAIT_MS)
    header, pixels = parse(receiver.recv_multipart())
    assert header == {
        "version": 1,
        "shape": [300, 501],
        "dtype": np.dtype(dtype).name,
        "number": 41,
        "time_ns": 123_456_789_012,
        "stream": "theatre 2",
        "scale": 4,
        "model": "fast",
        "damaged": False,
    }
    assert np.array_equal(pixels, image)
    line = sink.close()
    assert line == sink.close() == f"zmq+{endpoint}: {sink.sent} messages sent"


def test_images_of_another_scale_come_with_their_own_header(
    tmp_path: Path, make_result: MakeResult, network: Network
) -> None:
    endpoint = f"ipc://{tmp_path / 'sr'}"
    sink = Publisher(f"zmq+{endpoint}")
    receiver = network.subscribe(endpoint)
    for scale in (2, 8, 4):
        image: Image = (
            np.random.default_rng(scale).integers(0, 256, (10 * scale, 15 * scale)).astype(np.uint8)
        )
        header, pixels = parse(send_until_received(sink, receiver, make_result(image, scale=scale)))
        while header["scale"] != scale:  # the one before was sent more than once
            header, pixels = parse(receiver.recv_multipart())
        assert header["shape"] == [10 * scale, 15 * scale]
        assert np.array_equal(pixels, image)
    sink.close()


def test_a_frame_that_builds_on_a_damaged_picture_says_so(
    tmp_path: Path, make_result: MakeResult, network: Network
) -> None:
    endpoint = f"ipc://{tmp_path / 'sr'}"
    sink = Publisher(f"zmq+{endpoint}")
    result = make_result(np.zeros((2, 2), np.uint8))
    damaged = replace(result, frame=replace(result.frame, damaged=True))
    header, _ = parse(send_until_received(sink, network.subscribe(endpoint), damaged))
    assert header["damaged"] is True
    sink.close()


def test_pixels_are_little_endian_whatever_the_array_is(
    tmp_path: Path, make_result: MakeResult, network: Network
) -> None:
    endpoint = f"ipc://{tmp_path / 'sr'}"
    sink = Publisher(f"zmq+{endpoint}")
    receiver = network.subscribe(endpoint)
    result = make_result(np.zeros((1, 2), np.uint16))
    foreign = replace(result, image=np.array([[1, 256]], ">u2"))
    parts = send_until_received(sink, receiver, foreign)
    sink.close()
    assert parts[1] == b"\x01\x00\x00\x01"


def test_a_bicubic_image_does_not_bear_the_model_s_name(
    tmp_path: Path, make_result: MakeResult, network: Network
) -> None:
    endpoint = f"ipc://{tmp_path / 'sr'}"
    sink = Publisher(f"zmq+{endpoint}")
    receiver = network.subscribe(endpoint)
    result = make_result(np.zeros((8, 8), np.uint8), outcome=Outcome.FAILED)
    header, _ = parse(send_until_received(sink, receiver, result))
    sink.close()
    assert header["model"] == "bicubic"


def test_it_connects_where_asked(tmp_path: Path, make_result: MakeResult, network: Network) -> None:
    receiver = network.subscribe(f"ipc://{tmp_path / 'in'}", bind=True)
    sink = Publisher(f"zmq+ipc://{tmp_path / 'in'}?connect=1")
    header, _ = parse(send_until_received(sink, receiver, make_result(np.zeros((8, 8), np.uint8), 5)))
    sink.close()
    assert header["number"] == 5


def test_a_subscriber_that_does_not_read_is_counted_and_holds_nobody_up(
    tmp_path: Path, make_result: MakeResult, network: Network
) -> None:
    endpoint = f"ipc://{tmp_path / 'sr'}"
    sink = Publisher(f"zmq+{endpoint}")
    asleep = network.subscribe(endpoint, rcvhwm=1)
    image = np.zeros((1024, 1024), np.uint8)
    send_until_received(sink, asleep, make_result(image))
    for number in range(200):
        sink.write(make_result(image, number))
        if sink.behind:
            break
    assert sink.behind == 1
    awake = network.subscribe(endpoint)
    send_until_received(sink, awake, make_result(image, 1000))
    while awake.poll(100):
        awake.recv_multipart()
    for number in range(2000, 2020):
        sink.write(make_result(image, number))
        assert awake.poll(WAIT_MS), "the one that reads gets every frame"
        assert parse(awake.recv_multipart())[0]["number"] == number
    received = 0
    while asleep.poll(100):
        asleep.recv_multipart()
        received += 1
    assert received < 200
    assert "too slow and missed some" in str(sink.close())


def test_what_waits_for_a_subscriber_is_bounded() -> None:
    sink = Publisher("zmq+tcp://127.0.0.1:*")
    assert sink._socket.get(zmq.SNDHWM) == HIGH_WATER
    sink.close()


def test_encrypted_with_the_key_and_closed_without(
    tmp_path: Path, make_result: MakeResult, network: Network
) -> None:
    public, secret = zmq.auth.create_certificates(tmp_path, "server")
    endpoint = f"ipc://{tmp_path / 'sr'}"
    sink = Publisher(f"zmq+{endpoint}?curve_secret={secret}")
    server_key = zmq.auth.load_certificate(public)[0]
    mine, mine_secret = zmq.curve_keypair()
    reader = network.subscribe(
        endpoint, curve_serverkey=server_key, curve_publickey=mine, curve_secretkey=mine_secret
    )
    plain = network.subscribe(endpoint)
    image = np.full((8, 8), 9, np.uint8)
    _, pixels = parse(send_until_received(sink, reader, make_result(image)))
    assert np.array_equal(pixels, image)
    assert not plain.poll(200)
    sink.close()


def test_only_readers_on_the_list_may_read(tmp_path: Path, make_result: MakeResult, network: Network) -> None:
    public, secret = make_keys(tmp_path / "server")
    (tmp_path / "readers").mkdir()
    friend = make_keys(tmp_path / "readers" / "friend")
    stranger = make_keys(tmp_path / "stranger")
    endpoint = f"ipc://{tmp_path / 'sr'}"
    sink = Publisher(f"zmq+{endpoint}?curve_secret={secret}&curve_clients={tmp_path / 'readers'}")
    server_key, _ = zmq.auth.load_certificate(public)

    def reader(pair: tuple[Path, Path]) -> Receiver:
        mine, mine_secret = zmq.auth.load_certificate(pair[1])
        return network.subscribe(
            endpoint, curve_serverkey=server_key, curve_publickey=mine, curve_secretkey=mine_secret
        )

    refused, taken = reader(stranger), reader(friend)
    send_until_received(sink, taken, make_result(np.full((8, 8), 9, np.uint8)))
    assert not refused.poll(200)
    sink.close()


def test_a_list_of_nobody_and_lists_without_keys_are_refused(tmp_path: Path) -> None:
    _, secret = make_keys(tmp_path / "server")
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "absent"):
        with pytest.raises(
            SinkError, match=rf"{folder} is no folder of CURVE certificates.*`clesr keys NAME`"
        ):
            open_sink(f"zmq+tcp://127.0.0.1:*?curve_secret={secret}&curve_clients={tmp_path / folder}")
    (tmp_path / "empty" / "bad.key").write_text("nonsense")
    with pytest.raises(SinkError, match=r"bad\.key is no readable CURVE certificate"):
        open_sink(f"zmq+tcp://127.0.0.1:*?curve_secret={secret}&curve_clients={tmp_path / 'empty'}")
    with pytest.raises(UsageError, match="curve_clients is for who binds; give curve_secret"):
        open_sink(f"zmq+tcp://127.0.0.1:*?curve_clients={tmp_path}")


def test_what_others_on_the_network_can_read_is_told(tmp_path: Path) -> None:
    said = hear()
    _, secret = make_keys(tmp_path / "server")
    (tmp_path / "readers").mkdir()
    make_keys(tmp_path / "readers" / "friend")
    quiet = (
        "zmq+tcp://127.0.0.1:*",
        "zmq+tcp://localhost:5555?connect=1",
        f"zmq+ipc://{tmp_path / 's'}",
        f"zmq+tcp://*:*?curve_secret={secret}&curve_clients={tmp_path / 'readers'}",
        "igtl://127.0.0.1:0",
    )
    for address in quiet:
        open_sink(address).close()
    assert said == []
    for address in ("zmq+tcp://*:*", "zmq+tcp://192.0.2.1:5555?connect=1", "igtl://*:0"):
        open_sink(address).close()
    assert len(said) == 3
    assert all(
        " is not encrypted" in line and "whoever is on the network may read it" in line for line in said
    )
    open_sink(f"zmq+tcp://*:*?curve_secret={secret}").close()
    assert said[3] == "zmq+tcp://*:*: whoever has its public key may read it; curve_clients=FOLDER says who"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("zmq+tcp://", r"write it as zmq\+tcp://\*:5555"),
        ("zmq+tcp://*", r"write it as zmq\+tcp://\*:5555"),
        ("zmq+udp://*:5555", r"write it as zmq\+tcp://\*:5555"),
        ("zmq+ipc://", r"write it as"),
        (
            "zmq+tcp://*:5555?hwm=4",
            "there is no option 'hwm'; there are connect, stream, curve_secret, curve_server, curve_clients",
        ),
        ("zmq+tcp://*:99999", "there is no port '99999'; give one from 1 to 65535"),
        ("zmq+tcp://*:65536", "there is no port '65536'"),
        ("zmq+tcp://*:5555?connect=yes", "connect is 'yes'; allowed is 0 or 1"),
        ("zmq+tcp://*:5555?connect=1&connect=0", "option 'connect' is given more than once"),
        ("zmq+tcp://*:5555?stream=a%0Ab", "write it in characters that print"),
        ("zmq+tcp://*:5555?stream", "is not of the form name=value"),
        ("zmq+tcp://*:http", r"write it as zmq\+tcp://\*:5555"),
        ("zmq+tcp://*:5555?curve_server=a.key", "give connect=1 and curve_secret too"),
        ("zmq+tcp://localhost:5555?connect=1&curve_secret=a.key_secret", "also needs curve_server"),
    ],
)
def test_an_address_of_another_form_is_refused(address: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_sink(address)


def test_a_port_in_use_and_a_foreign_address_are_said_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            SinkError, match=f"zmq\\+tcp://127.0.0.1:{port} cannot be opened: Address"
        ) as caught:
            open_sink(f"zmq+tcp://127.0.0.1:{port}")
    assert "\n" not in str(caught.value)
    with pytest.raises(SinkError, match="cannot be opened"):
        open_sink("zmq+tcp://203.0.113.1:5555")


def test_a_key_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="no readable CURVE certificate"):
        open_sink(f"zmq+tcp://127.0.0.1:*?curve_secret={tmp_path / 'absent'}")
    public, _ = zmq.auth.create_certificates(tmp_path, "server")
    with pytest.raises(UsageError, match="has no secret key"):
        open_sink(f"zmq+tcp://127.0.0.1:*?curve_secret={public}")
