"""Live streams, served by the test over TCP and HTTP."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from recordings import drifting, read_all, write_video
from senders import Quiet, web_server
from support import ManualClock

from clesr.engines.common.errors import EndOfSource, SourceError
from clesr.engines.common.text import shown
from clesr.pipeline.frame import Corrupt, Frame, Outage
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.receiving import Receiver
from clesr.pipeline.sources.registry import SourceOptions
from clesr.pipeline.sources.video import stream as stream_module
from clesr.pipeline.sources.video.file import VideoSource
from clesr.pipeline.sources.video.stream import StreamSource, open_stream
from clesr.pipeline.sources.video.stream_times import PlacedPicture
from clesr.pipeline.video.decode import DecodedImage

WAIT = 10.0  # seconds for what comes at once
FRAMES = 70


def level(index: int) -> int:
    """Frames tell their place by their brightness."""
    return 20 + 3 * index


def index_of(frame: Frame) -> int:
    return round((float(frame.image.mean()) - 20) / 3)


class Server:
    """Accepts one connection after the other; each ``serve`` sends one of them some bytes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(WAIT)
        self.connections: list[socket.socket] = []
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self, content: bytes, *, hang_up: bool) -> None:
        """Wait for a connection and send it ``content``, by a thread."""

        def run() -> None:
            connection, _ = self._listener.accept()
            self.connections.append(connection)
            connection.sendall(content)
            if hang_up:
                connection.close()

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def close(self) -> None:
        self.thread.join(timeout=WAIT)
        for connection in [*self.connections, self._listener]:
            connection.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    images = [np.full((48, 64), level(index), np.uint8) for index in range(FRAMES)]
    options = {"bf": "0", "g": "5", "sc_threshold": "1000000000"}
    write_video(tmp_path / "a.ts", images, codec="mpeg2video", pixel_format="yuv420p", options=options)
    return (tmp_path / "a.ts").read_bytes()


def take(source: StreamSource, count: int) -> list[Frame | Corrupt]:
    """``count`` items, each within the time to wait."""
    items = []
    for _ in range(count):
        item = source.read(WAIT)
        assert item is not None
        assert not isinstance(item, Outage)
        items.append(item)
    return items


def take_outage(source: StreamSource) -> Outage:
    """The outage before the next frame, after what is told while it lasts."""
    while True:
        item = source.read(WAIT)
        assert isinstance(item, Outage)
        if item.over:
            return item


def take_to_the_end(source: StreamSource) -> list[Frame]:
    """The frames up to the last of a connection, which is never dropped."""
    frames: list[Frame] = []
    while not frames or index_of(frames[-1]) < FRAMES - 1:
        (item,) = take(source, 1)
        assert isinstance(item, Frame)
        frames.append(item)
    return frames


def test_frames_come_at_their_arrival_with_their_numbers(server: Server, content: bytes) -> None:
    clock = ManualClock()
    server.serve(content, hang_up=True)
    source = StreamSource(server.address, SourceOptions(clock=clock), retry=3600)
    assert source.info.live
    assert source.info.shape == (48, 64)
    frames = take_to_the_end(source)
    source.close()
    joined_at = index_of(frames[0]) - frames[0].number
    assert joined_at % 5 == 0  # a key frame
    for frame in frames:
        assert frame.number == index_of(frame) - joined_at
        assert frame.time_ns == clock.time_ns
        assert frame.pts is None


def test_after_a_loss_it_connects_again_and_numbers_go_on(server: Server, content: bytes) -> None:
    server.serve(content, hang_up=True)
    source = StreamSource(server.address, retry=0.01)
    last = take_to_the_end(source)[-1].number
    assert source.read(0) is None
    server.serve(content, hang_up=False)
    assert not take_outage(source).known
    again = take(source, 1)[0]
    source.close()
    assert isinstance(again, Frame)
    assert again.number == last + 1


def test_a_late_reader_gets_the_newest_and_sees_the_gap(
    server: Server, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_MOST", 8)
    server.serve(content, hang_up=True)
    source = StreamSource(server.address, retry=3600)
    box = source._box
    with box._changed:  # nobody reads until all has come
        assert box._changed.wait_for(lambda: bool(box._items) and _is_last(box._items[-1]), WAIT)
    items = []
    while (item := source.read(0)) is not None:
        items.append(item)
    source.close()
    assert len(items) == 8
    assert [index_of(item) for item in items if isinstance(item, Frame)] == list(range(FRAMES - 8, FRAMES))
    assert isinstance(items[0], Frame)
    assert items[0].number > 0


def _is_last(item: Frame | Corrupt) -> bool:
    return isinstance(item, Frame) and index_of(item) == FRAMES - 1


def test_close_ends_a_waiting_read(server: Server, content: bytes) -> None:
    server.serve(content, hang_up=True)
    source = StreamSource(server.address, retry=3600)
    ended = threading.Event()

    def wait() -> None:
        while True:
            try:
                source.read(3600)
            except EndOfSource:
                ended.set()
                return

    thread = threading.Thread(target=wait)
    thread.start()
    source.close()
    source.close()
    thread.join(timeout=WAIT)
    assert ended.is_set()


def test_a_silent_sender_is_given_up(server: Server, content: bytes) -> None:
    server.serve(content, hang_up=False)
    source = StreamSource(server.address, SourceOptions(timeout=1.5), retry=0.01)
    last = take_to_the_end(source)[-1].number
    server.thread.join(timeout=WAIT)
    server.serve(content, hang_up=False)  # taken only when the source connects a second time
    assert not take_outage(source).known
    again = take(source, 1)[0]
    source.close()
    assert again.number > last


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SourceError, match="check the address") as raised:
        open_stream(f"tcp://127.0.0.1:{port}", SourceOptions(timeout=2))
    assert "\n" not in str(raised.value)


def test_somebody_who_says_nothing(server: Server) -> None:
    server.serve(b"", hang_up=False)
    with pytest.raises(SourceError, match="does not answer within"):
        open_stream(server.address, SourceOptions(timeout=0.3))


def test_a_finite_video_on_a_web_server_is_recorded(tmp_path: Path) -> None:
    images = drifting(20)
    write_video(tmp_path / "a.mkv", images)
    with web_server(partial(Quiet, directory=tmp_path)) as port:
        source = open_stream(f"http://127.0.0.1:{port}/a.mkv")
        assert isinstance(source, VideoSource)
        assert not source.info.live
        frames, corrupt = read_all(source)
        with pytest.raises(SourceError, match="cannot be opened"):
            open_stream(f"http://127.0.0.1:{port}/b.mkv")
    assert not corrupt
    for frame, image in zip(frames, images, strict=True):
        np.testing.assert_array_equal(frame.image, image)


def test_segments_are_given_by_their_own_times(tmp_path: Path) -> None:
    images = [np.full((48, 64), level(index), np.uint8) for index in range(60)]
    segments = {"hls_time": "1", "hls_flags": "omit_endlist", "hls_list_size": "9"}
    options = {"g": "25", "bf": "0", "sc_threshold": "1000000000"}
    write_video(
        tmp_path / "a.m3u8",
        images,
        codec="mpeg2video",
        pixel_format="yuv420p",
        options=options,
        container_options=segments,
    )
    clock = ManualClock()
    source = StreamSource(f"file:{tmp_path / 'a.m3u8'}", SourceOptions(clock=clock, timeout=1.0), retry=3600)
    frames = [item for item in take(source, 20) if isinstance(item, Frame)]
    source.close()
    assert [frame.number for frame in frames] == list(range(20))
    steps = np.diff([frame.time_ns for frame in frames])
    assert (abs(steps - 40_000_000) < 1_000_000).all()


def test_outages_survive_frames_that_a_late_reader_loses() -> None:
    source = StreamSource.__new__(StreamSource)
    Receiver.__init__(source, 2, Policy.DROP_OLDEST)
    source._options, source.info = SourceOptions(clock=ManualClock()), SourceInfo("a", live=True, fps=25.0)
    source._outages, source._came_ns, source._away, source._held, source._lost = (
        deque(),
        None,
        False,
        None,
        "",
    )
    source._number = 0
    image = np.zeros((4, 4), np.uint8)
    for outage in (None, None, Outage("gap"), Outage("long", known=True), None, None):
        source._put(DecodedImage(image, None), PlacedPicture(1, 5 if outage and outage.known else 0, outage))
    given = [source.read(0), source.read(0), source.read(0)]
    assert given[0] == Outage("gap"), "the one of unknown number goes before the one that is counted"
    assert [item.number for item in given[1:] if isinstance(item, Frame)] == [9, 10]


def test_a_silence_is_told_once_and_its_end_too() -> None:
    clock = ManualClock()
    source = StreamSource.__new__(StreamSource)
    Receiver.__init__(source, 2, Policy.DROP_OLDEST)
    source._options, source.info = SourceOptions(clock=clock), SourceInfo("a", live=True, fps=25.0)
    source._outages, source._came_ns, source._away, source._held, source._lost = (
        deque(),
        None,
        False,
        None,
        "",
    )
    source._number = 0
    clock.advance(100.0)
    assert source.read(0) is None, "it has not begun"
    image = DecodedImage(np.zeros((4, 4), np.uint8), None)
    source._put(image, PlacedPicture(1))
    assert isinstance(source.read(0), Frame)
    clock.advance(0.9)
    assert source.read(0) is None
    clock.advance(0.2)
    begun = source.read(0)
    assert isinstance(begun, Outage)
    assert not begun.over
    assert source.read(0) is None
    source._put(image, PlacedPicture(2))
    assert source.read(0) == Outage("it sent nothing", known=True), "and nothing is missing"
    assert isinstance(source.read(0), Frame)


def test_passwords_are_not_shown() -> None:
    assert shown("rtsp://doctor:secret@10.0.0.5/live") == "rtsp://10.0.0.5/live"
    assert shown("rtsp://10.0.0.5/live?at=a@b") == "rtsp://..."
    assert shown("rtsp://10.0.0.5/live?password=a") == "rtsp://10.0.0.5/live?..."
    assert shown("file:/data/a@b.mkv") == "/data/a@b.mkv"
