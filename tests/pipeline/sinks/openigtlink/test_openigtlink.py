"""The clients here are pyigtl's own, or plain sockets: nothing of clesr is on their side."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction

import numpy as np
import pytest
from pyigtl import ImageMessage, OpenIGTLinkClient, OpenIGTLinkServer
from support import until

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import MissingDependencyError, SinkError, UsageError
from clesr.pipeline.frame import Image, Outcome, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.sinks.openigtlink.broadcast import MOST
from clesr.pipeline.sinks.openigtlink.sink import SlicerSink
from clesr.pipeline.sinks.registry import open_sink

MakeResult = Callable[..., Result]
PATIENCE_S = 20.0


@pytest.fixture
def sink() -> Iterator[SlicerSink]:
    sink = open_sink("igtl://127.0.0.1:0?name=probe%201", pixel_um=0.8)
    assert isinstance(sink, SlicerSink)
    yield sink
    sink.close()


@pytest.fixture
def connect() -> Iterator[Callable[[int], OpenIGTLinkClient]]:
    """Starts a pyigtl client; all are stopped after the test."""
    clients: list[OpenIGTLinkClient] = []

    def start(port: int) -> OpenIGTLinkClient:
        clients.append(OpenIGTLinkClient("127.0.0.1", port))
        return clients[-1]

    yield start
    for client in clients:
        client.stop()


def noise(dtype: type, shape: tuple[int, int] = (300, 501), seed: int = 1) -> Image:
    image: Image = (
        np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)
    )
    return image


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_pyigtl_client_gets_pixels_spacing_and_time(
    dtype: type, sink: SlicerSink, connect: Callable[[int], OpenIGTLinkClient], make_result: MakeResult
) -> None:
    assert sink.policy is Policy.DROP_OLDEST
    client = connect(sink.port)
    until(lambda: sink.clients == 1)
    image, captured = noise(dtype), SYSTEM.now_ns()
    wall = datetime.now(UTC).timestamp()
    sink.write(make_result(image, 41, time_ns=captured, scale=4))
    message = client.wait_for_message("probe 1", timeout=PATIENCE_S)
    assert isinstance(message, ImageMessage)
    assert message.image.shape == (1, 300, 501)
    assert message.image.dtype == dtype
    np.testing.assert_array_equal(message.image[0], image)
    np.testing.assert_allclose(np.diag(message.ijk_to_world_matrix), [0.0002, 0.0002, 0.0002, 1], rtol=1e-6)
    assert message.timestamp == pytest.approx(wall, abs=0.5)
    assert message.metadata == {
        "Number": "41",
        "Scale": "4",
        "Model": "fast",
        "Damaged": "no",
        "Warning": "not for diagnosis",
    }


def test_images_of_another_scale_come_with_their_own_size_and_spacing(
    sink: SlicerSink, connect: Callable[[int], OpenIGTLinkClient], make_result: MakeResult
) -> None:
    client = connect(sink.port)
    until(lambda: sink.clients == 1)
    for scale in (2, 8, 4):
        image = noise(np.uint8, (10 * scale, 15 * scale))
        sink.write(make_result(image, scale=scale))
        message = client.wait_for_message("probe 1", timeout=PATIENCE_S)
        np.testing.assert_array_equal(message.image[0], image)
        side = 0.0008 / scale
        np.testing.assert_allclose(np.diag(message.ijk_to_world_matrix), [side, side, side, 1], rtol=1e-6)


def test_the_distance_between_time_stamps_is_that_of_capture(
    sink: SlicerSink, connect: Callable[[int], OpenIGTLinkClient], make_result: MakeResult
) -> None:
    client = connect(sink.port)
    until(lambda: sink.clients == 1)
    stamps = []
    for time_ns in (5_000_000_000, 5_040_123_000):
        sink.write(make_result(noise(np.uint8), time_ns=time_ns))
        stamps.append(client.wait_for_message("probe 1", timeout=PATIENCE_S).timestamp)
    assert stamps[1] - stamps[0] == pytest.approx(0.040123, abs=2e-6)


def test_an_image_of_a_failed_engine_does_not_bear_the_model_s_name(
    sink: SlicerSink, connect: Callable[[int], OpenIGTLinkClient], make_result: MakeResult
) -> None:
    client = connect(sink.port)
    until(lambda: sink.clients == 1)
    sink.write(make_result(noise(np.uint8), outcome=Outcome.FAILED))
    assert client.wait_for_message("probe 1", timeout=PATIENCE_S).metadata["Model"] == "bicubic"


def test_an_image_of_a_damaged_frame_says_so(
    sink: SlicerSink, connect: Callable[[int], OpenIGTLinkClient], make_result: MakeResult
) -> None:
    client = connect(sink.port)
    until(lambda: sink.clients == 1)
    result = make_result(noise(np.uint8))
    sink.write(replace(result, frame=replace(result.frame, damaged=True)))
    assert client.wait_for_message("probe 1", timeout=PATIENCE_S).metadata["Damaged"] == "yes"


def test_without_a_known_pixel_an_sr_pixel_is_a_millimetre_and_header_1_has_no_metadata(
    connect: Callable[[int], OpenIGTLinkClient], make_result: MakeResult
) -> None:
    sink = SlicerSink("igtl://127.0.0.1:0?header=1")
    client = connect(sink.port)
    until(lambda: sink.clients == 1)
    sink.write(make_result(noise(np.uint8), scale=4))
    message = client.wait_for_message("clesr", timeout=PATIENCE_S)
    assert np.array_equal(np.diag(message.ijk_to_world_matrix), [1, 1, 1, 1])
    assert (message.header_version, message.metadata) == (1, {})
    sink.close()


def test_the_address_may_state_the_pixel(
    connect: Callable[[int], OpenIGTLinkClient], make_result: MakeResult
) -> None:
    sink = open_sink("igtl://*:0?pixel_um=1.5", pixel_um=9.0, pixel_aspect=Fraction(5, 4))
    assert isinstance(sink, SlicerSink)
    client = connect(sink.port)
    until(lambda: sink.clients == 1)
    sink.write(make_result(noise(np.uint8), scale=2))
    message = client.wait_for_message("clesr", timeout=PATIENCE_S)
    assert np.diag(message.ijk_to_world_matrix)[:2] == pytest.approx([0.00075, 0.0006])
    sink.close()


def test_a_client_that_hangs_misses_images_and_holds_nobody_up(
    sink: SlicerSink, connect: Callable[[int], OpenIGTLinkClient], make_result: MakeResult
) -> None:
    asleep = socket.create_connection(("127.0.0.1", sink.port))
    until(lambda: sink.clients == 1)
    big = make_result(np.zeros((2048, 2048), np.uint8))
    for _ in range(8):  # more than the system keeps for it
        sink.write(big)
    awake = connect(sink.port)
    until(lambda: sink.clients == 2)
    for number in range(5):
        image = noise(np.uint8, seed=number)
        sink.write(make_result(image, number))
        message = awake.wait_for_message("probe 1", timeout=PATIENCE_S)
        assert message.metadata["Number"] == str(number)
        np.testing.assert_array_equal(message.image[0], image)
    line = sink.close()
    assert line == sink.close(), "twice is once"
    assert line is not None
    assert "to 2 programs" in line
    assert "skipped by programs that were too slow" in line
    asleep.close()


def test_a_client_that_talks_or_goes_is_no_trouble(
    sink: SlicerSink, connect: Callable[[int], OpenIGTLinkClient], make_result: MakeResult
) -> None:
    talker = socket.create_connection(("127.0.0.1", sink.port))
    until(lambda: sink.clients == 1)
    talker.sendall(b"GET_CAPABIL" * 100_000)
    talker.close()
    until(lambda: sink.clients == 0)
    client = connect(sink.port)
    until(lambda: sink.clients == 1)
    image = noise(np.uint16)
    sink.write(make_result(image))
    np.testing.assert_array_equal(client.wait_for_message("probe 1", timeout=PATIENCE_S).image[0], image)


def test_clients_are_bounded(sink: SlicerSink) -> None:
    peers = [socket.create_connection(("127.0.0.1", sink.port)) for _ in range(MOST)]
    until(lambda: sink.clients == MOST)
    one_more = socket.create_connection(("127.0.0.1", sink.port))
    one_more.settimeout(PATIENCE_S)
    assert one_more.recv(1) == b"", "refused at once"
    for peer in (*peers, one_more):
        peer.close()
    until(lambda: sink.clients == 0)


def test_it_connects_to_a_program_that_waits(
    make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # pyigtl's server takes the process's signals
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sink = SlicerSink(f"igtl://127.0.0.1:{port}?connect=1")
    assert sink.clients == 0, "nobody there yet, which is no error"
    server = OpenIGTLinkServer(port=port, local_server=True)
    try:
        until(lambda: sink.clients == 1)
        image = noise(np.uint8)
        sink.write(make_result(image))
        np.testing.assert_array_equal(server.wait_for_message("clesr", timeout=PATIENCE_S).image[0], image)
    finally:
        sink.close()
        server.stop()


def test_with_nobody_there_nothing_is_packed(
    sink: SlicerSink, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("packed for nobody")

    monkeypatch.setattr(sink, "_message", refuse)
    sink.write(make_result(noise(np.uint8)))
    assert sink.close() == "igtl://127.0.0.1:0: 0 images sent to 0 programs"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("igtl://", "write it as igtl://"),
        ("igtl://*:port", "write it as igtl://"),
        ("igtl://*:99999", "write it as igtl://"),
        ("igtl://host/path", "write it as igtl://"),
        ("igtl://*:18944?speed=1", "there is no option 'speed'; there are connect, name, header, pixel_um"),
        ("igtl://*:18944?connect=yes", "connect is 0 or 1"),
        ("igtl://*:18944?connect=1", "needs the name of a machine"),
        ("igtl://*:18944?header=3", "header is 1 or 2"),
        ("igtl://*:18944?name=a_name_of_21_letters_", "name is 1 to 20 ASCII characters"),
        ("igtl://*:18944?pixel_um=0", "pixel_um is a number of micrometres"),
        ("igtl://*:18944?pixel_um=nan", "pixel_um is a number of micrometres"),
    ],
)
def test_an_address_of_another_form_is_refused(address: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        open_sink(address)
    assert "\n" not in str(caught.value)


def test_a_port_in_use_is_said_in_one_line(sink: SlicerSink) -> None:
    with pytest.raises(
        SinkError, match=r"cannot be opened: Address already in use.*choose another port"
    ) as caught:
        open_sink(f"igtl://127.0.0.1:{sink.port}")
    assert "\n" not in str(caught.value)


def test_without_pyigtl_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyigtl", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'clesr\[slicer\]'"):
        open_sink("igtl://*:18944")
