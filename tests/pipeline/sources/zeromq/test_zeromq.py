"""ZeroMQ input from peers that know only docs/wire-format.md."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
import zmq.auth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import ManualClock
from zmq_peers import Sender

from clesr.engines.common import limits
from clesr.engines.common.errors import EndOfSource, SourceError, UsageError
from clesr.pipeline.frame import Corrupt, Frame, Outage
from clesr.pipeline.sources.registry import SourceOptions
from clesr.pipeline.sources.zeromq.message import MAX_HEADER, Refused, parse_header, parse_message
from clesr.pipeline.sources.zeromq.source import MAX_GAP, Renumbered, ZmqSource, parse_address

WAIT = 10.0  # seconds for what comes at once
GOOD: dict[str, Any] = {
    "version": 1,
    "shape": [2, 3],
    "dtype": "uint8",
    "number": 0,
    "time_ns": 5,
    "stream": "probe",
}
PIXELS = bytes(range(6))


def message(*, pixels: bytes = PIXELS, **fields: Any) -> list[bytes]:
    return [json.dumps(GOOD | fields).encode(), pixels]


@pytest.fixture
def pushed(senders: list[Sender]) -> Iterator[tuple[Sender, ZmqSource]]:
    """A PUSH peer and the source that pulls from it."""
    sender = Sender(zmq.PUSH)
    senders.append(sender)
    source = ZmqSource(sender.bound() + "?socket=pull")
    yield sender, source
    source.close()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    dtype=st.sampled_from(["uint8", "uint16"]),
    seed=st.integers(0, 999),
)
def test_pixels_come_as_they_were_sent(
    pushed: tuple[Sender, ZmqSource], height: int, width: int, dtype: str, seed: int
) -> None:
    sender, source = pushed
    image = np.random.default_rng(seed).integers(
        0, np.iinfo(dtype).max, (height, width), dtype, endpoint=True
    )
    little = image.astype(image.dtype.newbyteorder("<")).tobytes()
    sender.socket.send_multipart(message(shape=[height, width], dtype=dtype, pixels=little))
    frame = source.read(WAIT)
    if isinstance(frame, Outage):  # every example has the same number
        frame = source.read(WAIT)
    assert isinstance(frame, Frame)
    assert frame.image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(frame.image, image)
    memory = frame.image.base
    assert isinstance(memory, np.ndarray)
    assert memory.flags.owndata, "its own, not ZeroMQ's"


def test_the_example_of_the_page() -> None:
    header = (
        b'{"version":1,"shape":[2,3],"dtype":"uint16","number":41,"time_ns":81234567890,"stream":"probe"}'
    )
    pixels = bytes.fromhex("0000 0080 ffff 0100 0200 0300")
    parsed, image = parse_message([memoryview(header), memoryview(pixels)], topic=False)
    assert (parsed.number, parsed.stream) == (41, "probe")
    assert image.tolist() == [[0, 32768, 65535], [1, 2, 3]]


REFUSED = {
    "one part": [b"{}"],
    "three parts": [*message(), b""],
    "no JSON": [b"\xff\xfe{", PIXELS],
    "no object": [b"[1, 2]", PIXELS],
    "nested": [b"[" * 4000, PIXELS],
    "long header": [json.dumps(GOOD | {"note": "x" * MAX_HEADER}).encode(), PIXELS],
    "no version": [json.dumps({k: v for k, v in GOOD.items() if k != "version"}).encode(), PIXELS],
    "version 2": message(version=2),
    "version true": message(version=True),
    "version text": message(version="1"),
    "no shape": message(shape=None),
    "flat": message(shape=[6]),
    "deep": message(shape=[1, 2, 3]),
    "empty": message(shape=[0, 3], pixels=b""),
    "negative": message(shape=[-2, -3]),
    "too large": message(shape=[8193, 1], pixels=bytes(8193)),
    "huge": message(shape=[10**18, 10**18]),
    "fraction": message(shape=[2.0, 3]),
    "booleans": message(shape=[True, True], pixels=b"0"),
    "float": message(dtype="float32", pixels=bytes(24)),
    "signed": message(dtype="int8"),
    "dtype number": message(dtype=8),
    "negative number": message(number=-1),
    "number text": message(number="7"),
    "number too large": message(number=2**63),
    "endless number": [json.dumps(GOOD).replace('"number": 0', '"number": 1e999').encode(), PIXELS],
    "long number": [
        json.dumps(GOOD).replace('"number": 0', f'"number": {"9" * 4000}').encode()[:4096],
        PIXELS,
    ],
    "time text": message(time_ns="now"),
    "stream number": message(stream=3),
    "too short": message(pixels=PIXELS[:-1]),
    "too long": message(pixels=PIXELS + b"0"),
    "no pixels": message(pixels=b""),
    "half of 16 bit": message(dtype="uint16"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_message_is_counted_and_the_stream_goes_on(pushed: tuple[Sender, ZmqSource], name: str) -> None:
    sender, source = pushed
    sender.socket.send_multipart(message(number=7))
    sender.socket.send_multipart(REFUSED[name])
    sender.socket.send_multipart(message(number=9))
    first, bad, last = (source.read(WAIT) for _ in range(3))
    assert isinstance(first, Frame)
    assert isinstance(bad, Corrupt)
    assert isinstance(last, Frame)
    assert (first.number, bad.number, last.number) == (7, 8, 9)
    assert bad.reason.startswith("refused ")
    assert len(bad.reason) < 200
    assert "\n" not in bad.reason


def test_no_memory_is_taken_on_a_headers_word() -> None:
    header = memoryview(json.dumps(GOOD | {"shape": [8192, 8192], "dtype": "uint16"}).encode())
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match="6 bytes of pixels, not the 134217728"):
            parse_message([header, memoryview(PIXELS)], topic=False)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        parse_header(data, len(data))


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["", "uint8", "uint16", "\ud800"]),
    st.lists(st.integers(-1, 9000), max_size=3),
)


@given(st.dictionaries(st.sampled_from(list(GOOD)), VALUES))
def test_any_fields_are_read_or_refused(fields: dict[str, Any]) -> None:
    data = json.dumps(GOOD | fields).encode()
    try:
        header = parse_header(data, len(data))
    except Refused:
        return
    assert header.number >= 0
    assert all(1 <= side <= 8192 for side in header.shape)


def test_what_may_be_missing() -> None:
    fields = {name: value for name, value in GOOD.items() if name not in ("time_ns", "stream")}
    data = json.dumps(fields | {"scale": 4, "model": "fast-x4"}).encode()
    assert parse_header(data, len(data)).shape == (2, 3)


def test_a_part_that_is_too_large_is_counted_and_the_stream_goes_on(
    monkeypatch: pytest.MonkeyPatch, senders: list[Sender]
) -> None:
    monkeypatch.setattr(limits, "_side", 45)
    sender = Sender(zmq.PUSH)
    senders.append(sender)
    source = ZmqSource(sender.bound() + "?socket=pull")
    sender.socket.send_multipart(message(number=1))
    assert isinstance(source.read(WAIT), Frame)
    sender.socket.send_multipart(message(shape=[100, 100], number=2, pixels=bytes(10_000)))
    refused = source.read(WAIT)
    sender.socket.send_multipart(message(number=3))
    after = source.read(WAIT)
    source.close()
    assert isinstance(refused, Corrupt)
    assert "connected again" in refused.reason
    assert isinstance(after, Frame)
    assert after.number == 3


def test_a_sender_that_starts_again_is_found_again(senders: list[Sender], tmp_path: Path) -> None:
    source = ZmqSource(f"zmq+ipc://{tmp_path}/s?socket=pull")
    for expected in (5, 6):
        sender = Sender(zmq.PUSH)
        senders.append(sender)
        sender.socket.bind(f"ipc://{tmp_path}/s")
        sender.socket.send_multipart(message(number=5))
        if expected == 6:
            assert source.read(WAIT) == Outage("its sender began anew")
        frame = source.read(WAIT)
        assert isinstance(frame, Frame)
        assert frame.number == expected
        sender.close()
    source.close()


def test_time_is_the_arrival_by_our_clock(senders: list[Sender]) -> None:
    sender, clock = Sender(zmq.PUSH), ManualClock()
    senders.append(sender)
    source = ZmqSource(sender.bound() + "?socket=pull", SourceOptions(clock=clock))
    sender.socket.send_multipart(message(time_ns=10**18))
    frame = source.read(WAIT)
    source.close()
    assert isinstance(frame, Frame)
    assert frame.time_ns == clock.time_ns
    assert frame.pts is None


@pytest.mark.parametrize(
    ("sent", "given_out"),
    [
        ([5, 6, 9], [5, 6, 9]),  # a gap shows
        ([5, 6, 0, 1, 3], [5, 6, 7, 8, 10]),  # the sender began anew
        ([5, 5, 6], [5, 6, 7]),
        ([0, MAX_GAP, 2 * MAX_GAP + 1, 2 * MAX_GAP + 3], [0, MAX_GAP, MAX_GAP + 1, MAX_GAP + 3]),
        ([3, 2**63 - 1, 0], [3, 4, 5]),
        ([100, None, 102], [100, 101, 102]),
        ([100, None, 101], [100, 101, 102]),
        ([None, None, 40_000, 40_002], [0, 1, 2, 4]),
    ],
)
def test_numbers(sent: list[int | None], given_out: list[int]) -> None:
    numbers = Renumbered()
    assert [numbers.next() if number is None else numbers.of(number) for number in sent] == given_out


@given(st.lists(st.one_of(st.none(), st.integers(0, 2**63 - 1), st.integers(0, 20))))
def test_numbers_always_rise(sent: list[int | None]) -> None:
    numbers = Renumbered()
    given_out = [numbers.next() if number is None else numbers.of(number) for number in sent]
    assert all(later > earlier for earlier, later in pairwise(given_out))


def subscribed(sender: Sender, prefix: bytes = b"") -> None:
    assert sender.socket.recv() == b"\x01" + prefix  # an XPUB socket is told of subscriptions


def test_sub_takes_everything(senders: list[Sender]) -> None:
    sender = Sender(zmq.XPUB)
    senders.append(sender)
    source = ZmqSource(sender.bound())
    subscribed(sender)
    sender.socket.send_multipart(message(number=3))
    frame = source.read(WAIT)
    source.close()
    assert isinstance(frame, Frame)
    assert frame.number == 3
    assert frame.image.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert source.info.live


def test_topics_are_a_part_of_their_own(senders: list[Sender]) -> None:
    sender = Sender(zmq.XPUB)
    senders.append(sender)
    source = ZmqSource(sender.bound() + "?topic=left")
    subscribed(sender, b"left")
    sender.socket.send_multipart([b"right", *message(number=1)])
    sender.socket.send_multipart([b"left", *message(number=2)])
    frame = source.read(WAIT)
    source.close()
    assert isinstance(frame, Frame)
    assert frame.number == 2


@pytest.mark.parametrize(("said", "damaged"), [(True, True), (False, False), ("yes", False), (1, False)])
def test_the_senders_word_that_a_frame_is_damaged(
    pushed: tuple[Sender, ZmqSource], said: object, damaged: bool
) -> None:
    sender, source = pushed
    sender.socket.send_multipart(message(damaged=said))
    frame = source.read(WAIT)
    assert isinstance(frame, Frame)
    assert frame.damaged is damaged


def test_one_stream_of_several(pushed: tuple[Sender, ZmqSource], senders: list[Sender]) -> None:
    sender = Sender(zmq.PUSH)
    senders.append(sender)
    source = ZmqSource(sender.bound() + "?socket=pull&stream=left")
    sender.socket.send_multipart(message(number=900, stream="right"))
    sender.socket.send_multipart(message(number=2, stream="left"))
    frame = source.read(WAIT)
    source.close()
    assert isinstance(frame, Frame)
    assert frame.number == 2


def test_unix_sockets_and_binding(tmp_path: Path, senders: list[Sender]) -> None:
    source = ZmqSource(f"zmq+ipc://{tmp_path}/s?socket=pull&bind=1")
    sender = Sender(zmq.PUSH)
    senders.append(sender)
    sender.socket.connect(f"ipc://{tmp_path}/s")
    sender.socket.send_multipart(message())
    frame = source.read(WAIT)
    source.close()
    assert isinstance(frame, Frame)


def test_nothing_in_time(pushed: tuple[Sender, ZmqSource]) -> None:
    assert pushed[1].read(0) is None
    assert pushed[1].read(0.02) is None


def test_close_ends_a_waiting_read(pushed: tuple[Sender, ZmqSource]) -> None:
    source, ended = pushed[1], threading.Event()

    def wait() -> None:
        with pytest.raises(EndOfSource):
            source.read(3600)
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    source.close()
    source.close()
    thread.join(timeout=WAIT)
    assert ended.is_set()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    for name in ("ours", "friend", "stranger"):
        zmq.auth.create_certificates(tmp_path, name)
    (tmp_path / "allowed").mkdir()
    (tmp_path / "friend.key").rename(tmp_path / "allowed" / "friend.key")
    return tmp_path


def curve_client(keys: Path, name: str) -> Callable[[zmq.Socket[bytes]], None]:
    def prepare(socket: zmq.Socket[bytes]) -> None:
        public, secret = zmq.auth.load_certificate(keys / f"{name}.key_secret")
        assert secret is not None
        socket.curve_publickey, socket.curve_secretkey = public, secret
        socket.curve_serverkey = zmq.auth.load_certificate(keys / "ours.key")[0]

    return prepare


def test_only_known_peers_may_send_where_we_bind(keys: Path, senders: list[Sender]) -> None:
    options = f"socket=pull&bind=1&curve_secret={keys}/ours.key_secret&curve_clients={keys}/allowed"
    source = ZmqSource(f"zmq+ipc://{keys}/s?{options}")
    plain, stranger = Sender(zmq.PUSH), Sender(zmq.PUSH, curve_client(keys, "stranger"))
    friend = Sender(zmq.PUSH, curve_client(keys, "friend"))
    senders += [plain, stranger, friend]
    for number, sender in enumerate(senders):
        sender.socket.set(zmq.SNDHWM, 1)
        sender.socket.connect(f"ipc://{keys}/s")
        sender.socket.send_multipart(message(number=number))
    frame = source.read(WAIT)
    late = source.read(0.2)
    source.close()
    assert isinstance(frame, Frame)
    assert frame.number == 2
    assert late is None


def test_encrypted_where_we_connect(keys: Path, senders: list[Sender]) -> None:
    def serve(socket: zmq.Socket[bytes]) -> None:
        public, secret = zmq.auth.load_certificate(keys / "ours.key_secret")
        assert secret is not None
        socket.curve_publickey, socket.curve_secretkey, socket.curve_server = public, secret, True

    for own in ("", f"&curve_secret={keys}/friend.key_secret"):
        sender = Sender(zmq.XPUB, serve)
        senders.append(sender)
        source = ZmqSource(f"{sender.bound()}?curve_server={keys}/ours.key{own}")
        subscribed(sender)
        sender.socket.send_multipart(message())
        frame = source.read(WAIT)
        source.close()
        assert isinstance(frame, Frame)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("zmq+tcp://host", "no ZeroMQ address"),
        ("zmq+tcp://host:port", "no ZeroMQ address"),
        ("zmq+tcp://:5555", "no ZeroMQ address"),
        ("zmq+tcp://host:65536", "there is no port '65536'; give one from 1 to 65535"),
        ("zmq+tcp://*:5555", "wait for senders with bind=1"),
        ("zmq+ipc://", "no ZeroMQ address"),
        ("zmq+tcp://host:1?socket=rep", "sub or pull"),
        ("zmq+tcp://host:1?bind=yes", "0 or 1"),
        ("zmq+tcp://host:1?hwm=3", "there is no option 'hwm'"),
        ("zmq+tcp://host:1?socket=pull&topic=a", "no topics"),
        ("zmq+tcp://host:1?bind", "name=value"),
        ("zmq+tcp://host:1?bind=1&bind=1", "more than once"),
        ("zmq+tcp://host:1?bind=1&curve_server=a", "curve_server is for who connects"),
        ("zmq+tcp://host:1?curve_secret=a", "also needs curve_server"),
        ("zmq+tcp://host:1?bind=1&curve_clients=a", "needs bind=1 and curve_secret"),
    ],
)
def test_addresses_that_cannot_work(address: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_address(address)


def test_what_cannot_be_opened(keys: Path, senders: list[Sender]) -> None:
    sender = Sender(zmq.PUSH)
    senders.append(sender)
    busy = sender.bound()
    where = f"zmq+ipc://{keys}/s"
    for address, says in (
        (f"{busy}?bind=1", "cannot be bound"),
        (f"{where}?curve_server={keys}/absent.key", "no readable CURVE certificate"),
        (f"{where}?bind=1&curve_secret={keys}/ours.key", "no secret key"),
        (f"{where}?bind=1&curve_secret={keys}/ours.key_secret&curve_clients={keys}/absent", "no folder"),
    ):
        with pytest.raises((SourceError, UsageError), match=says) as raised:
            ZmqSource(address)
        assert "\n" not in str(raised.value)
