"""Real servers and senders: what came and what is said to be lost is what was sent, or the gap is named."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from senders import (
    FPS,
    STAMP_ROWS,
    Encoder,
    Mjpeg,
    Quiet,
    RtspServer,
    TcpRelay,
    UdpRelay,
    Watched,
    free_port,
    number_of,
    scenes,
    web_server,
)
from support import FakeEngine, until
from waits import joined

from clesr.engines.common.errors import SourceError
from clesr.pipeline.frame import Frame
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.verify import verify
from clesr.pipeline.source import restarts_of
from clesr.pipeline.sources.registry import SourceOptions, open_source
from clesr.pipeline.sources.video import program
from clesr.pipeline.sources.video.stream import StreamSource, open_stream

pytestmark = pytest.mark.slow
AWAY_S = 3.0

Closing = Callable[[Callable[[], None]], None]


@pytest.fixture
def closing() -> Iterator[Closing]:
    """Closes what a test opened, the last first."""
    opened: list[Callable[[], None]] = []
    yield opened.append
    for close in reversed(opened):
        close()


def watch(address: str, closing: Closing, timeout: float = 5.0) -> Watched:
    source = open_stream(address, SourceOptions(timeout=timeout))
    assert isinstance(source, StreamSource)
    source._retry = 0.2
    watched = Watched(source)
    closing(watched.close)
    return watched


def test_an_rtsp_server_that_was_away_leaves_a_named_gap(tmp_path: Path, closing: Closing) -> None:
    server = RtspServer(tmp_path)
    closing(server.kill)
    watched = watch(server.address, closing)
    watched.await_frames(48)
    server.kill()
    until(lambda: bool(watched.items) and not isinstance(watched.items[-1], Frame))
    again = RtspServer(tmp_path, server.port)
    closing(again.kill)
    watched.await_frames(48)
    assert [outage.known for outage in watched.outages] == [False]
    delays = [frame.time_ns / 1e9 - number_of(frame.image) / FPS for frame in watched.frames]
    assert min(delays) > -0.001, "no frame is older than it is"
    assert np.median(delays[-48:]) < np.median(delays[:48]) + 0.5, "times begin anew with the connection"
    assert watched.unexplained() == []
    assert restarts_of(watched.source) == 1


def test_an_rtsp_server_that_pauses_tells_by_its_times_how_many_are_missing(
    tmp_path: Path, closing: Closing
) -> None:
    server = RtspServer(tmp_path)
    closing(server.kill)
    watched = watch(server.address, closing, timeout=60.0)
    watched.await_frames(48)
    server.say("stall")
    until(lambda: bool(watched.items) and not isinstance(watched.items[-1], Frame))
    time.sleep(AWAY_S - 1)
    server.say("go")
    watched.await_frames(48)
    assert {outage.known for outage in watched.outages} == {True}
    assert watched.unexplained() == []
    numbers = np.diff([frame.number for frame in watched.frames])
    assert numbers.max() > 1.5 * FPS


def test_an_rtsp_server_that_pauses_for_longer_than_one_waits_comes_back(
    tmp_path: Path, closing: Closing
) -> None:
    server = RtspServer(tmp_path)
    closing(server.kill)
    watched = watch(server.address, closing, timeout=1.5)
    watched.await_frames(48)
    server.say("stall")
    until(lambda: bool(watched.items) and not isinstance(watched.items[-1], Frame))
    time.sleep(2 * AWAY_S)
    server.say("go")
    watched.await_frames(48)
    assert watched.unexplained() == []


def test_what_the_network_holds_back_keeps_its_own_time_and_nothing_is_lost(
    tmp_path: Path, closing: Closing
) -> None:
    server = RtspServer(tmp_path)
    closing(server.kill)
    relay = TcpRelay(server.port)
    closing(relay.close)
    watched = watch(f"rtsp://127.0.0.1:{relay.port}/cam", closing, timeout=60.0)
    watched.await_frames(60)
    relay.open.clear()
    time.sleep(AWAY_S)
    relay.open.set()
    watched.await_frames(int(FPS * AWAY_S) + 48)
    frames = watched.frames
    assert watched.unexplained() == []
    late = max(
        taken - item.time_ns
        for taken, item in zip(watched.taken_ns, watched.items, strict=True)
        if isinstance(item, Frame)
    )
    assert late > 0.6 * AWAY_S * 1e9, "the first ones after the stall are old, and say so"
    delays = [frame.time_ns / 1e9 - number_of(frame.image) / FPS for frame in frames[24:]]
    spread = np.percentile(delays, 95) - np.percentile(delays, 5)
    assert abs(spread) < 0.1, "each keeps the time at which it was captured"


def test_an_rtsp_frame_is_as_old_as_what_the_parser_held_back(tmp_path: Path, closing: Closing) -> None:
    server = RtspServer(tmp_path)
    closing(server.kill)
    watched = watch(server.address, closing)
    watched.await_frames(96)
    ages = [
        taken / 1e9 - item.time_ns / 1e9
        for taken, item in zip(watched.taken_ns, watched.items, strict=True)
        if isinstance(item, Frame)
    ]
    assert np.median(ages[24:]) > 0.9 / FPS
    delays = [frame.time_ns / 1e9 - number_of(frame.image) / FPS for frame in watched.frames[24:]]
    assert np.median(delays) > -0.001, "no frame is older than it is"


def test_a_wrong_password_is_one_line_without_it(tmp_path: Path, closing: Closing) -> None:
    server = RtspServer(tmp_path, user=("doctor", "right1"))
    closing(server.kill)
    place = f"127.0.0.1:{server.port}/cam"
    with pytest.raises(SourceError, match="user name and password") as raised:
        open_source(f"rtsp://doctor:wrong2@{place}")
    assert "wrong2" not in str(raised.value)
    assert "\n" not in str(raised.value)
    watched = watch(f"rtsp://doctor:right1@{place}", closing)
    watched.await_frames(5)


def test_a_server_that_never_answers_is_given_up_in_time(closing: Closing) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    closing(listener.close)
    begun = time.monotonic()
    with pytest.raises(SourceError, match="does not answer within 1 s"):
        open_source(f"rtsp://127.0.0.1:{listener.getsockname()[1]}/cam", timeout=1.0)
    assert time.monotonic() - begun < 30


def mpegts(port: int) -> list[str]:
    return ["-f", "mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316"]


def test_a_udp_sender_that_was_away_leaves_a_named_gap(closing: Closing) -> None:
    port = free_port(socket.SOCK_DGRAM)
    sender = Encoder(mpegts(port))
    closing(sender.stop)
    watched = watch(f"udp://127.0.0.1:{port}", closing)
    watched.await_frames(48)
    sender.stop()
    until(lambda: bool(watched.items) and not isinstance(watched.items[-1], Frame))
    again = Encoder(mpegts(port))
    closing(again.stop)
    watched.await_frames(48)
    assert not watched.outages[-1].known, (
        "the one before it was over with the picture that a parser held back"
    )
    assert watched.unexplained() == []


def test_srt_gives_every_frame(closing: Closing) -> None:
    if "srt" not in program.protocols():
        pytest.skip("no ffmpeg program with SRT is installed")
    port = free_port(socket.SOCK_DGRAM)
    sender = Encoder(["-f", "mpegts", f"srt://127.0.0.1:{port}?mode=listener"])
    closing(sender.stop)
    heard: list[Watched] = []

    def hears() -> bool:  # the sender listens when it is ready
        with suppress(SourceError):
            heard.append(watch(f"srt://127.0.0.1:{port}", closing))
        return bool(heard)

    until(hears)
    heard[0].await_frames(96)
    assert heard[0].unexplained() == []


def test_lost_datagrams_are_counted_and_what_builds_on_them_is_marked(closing: Closing) -> None:
    rng = np.random.default_rng(2)
    losses = rng.random(100_000) < 0.02
    relay = UdpRelay(lambda count: count > 100 and bool(losses[count % len(losses)]))
    closing(relay.close)
    sender = Encoder(mpegts(relay.source))
    closing(sender.stop)
    watched = watch(f"udp://127.0.0.1:{relay.port}", closing)
    until(lambda: relay.lost >= 20)
    watched.await_frames(24)
    assert any(frame.damaged for frame in watched.frames)
    assert watched.unexplained() == []
    true = [scene[STAMP_ROWS:] for scene in scenes()]
    noise = {True: [], False: []}  # type: ignore[var-annotated]
    for frame in watched.frames:
        errors = [cv2.norm(frame.image[STAMP_ROWS:], image, cv2.NORM_L2) for image in true]
        noise[frame.damaged].append(min(errors))
    assert max(noise[False]) < 2 * np.median(noise[False]), "no picture that is not marked is wrong"
    assert max(noise[True]) > 2 * np.median(noise[False]), "and some are"


def test_a_camera_by_http_that_pauses_leaves_a_named_gap(closing: Closing) -> None:
    Mjpeg.pausing.clear()
    with web_server(Mjpeg) as port:
        watched = watch(f"http://127.0.0.1:{port}/video.mjpg", closing, timeout=60.0)
        watched.await_frames(48)
        Mjpeg.pausing.set()
        until(lambda: bool(watched.items) and not isinstance(watched.items[-1], Frame))
        Mjpeg.pausing.clear()
        watched.await_frames(48)
        assert [outage.known for outage in watched.outages] == [False]
        assert watched.unexplained() == []
        watched.close()


def test_segments_are_played_by_their_own_times_and_every_frame_comes(
    tmp_path: Path, closing: Closing
) -> None:
    segments = ["-f", "hls", "-hls_time", "1", "-hls_list_size", "6", "-hls_flags", "delete_segments"]
    sender = Encoder([*segments, str(tmp_path / "live.m3u8")])
    closing(sender.stop)
    until(lambda: len(list(tmp_path.glob("*.ts"))) > 4)
    handler = partial(Quiet, directory=str(tmp_path))
    with web_server(handler) as port:
        watched = watch(f"http://127.0.0.1:{port}/live.m3u8", closing)
        watched.await_frames(24 * 8)
        watched.close()
    assert watched.outages == []
    assert watched.unexplained() == []
    assert set(np.diff([frame.number for frame in watched.frames])) == {1}
    steps = np.diff([frame.time_ns for frame in watched.frames]) / 1e9
    assert np.percentile(steps, 10) > 0.1 / FPS, "not in bursts"
    assert 0.7 / FPS < np.median(steps) < 1.3 / FPS


def test_a_recording_across_an_outage_holds_and_is_not_complete(tmp_path: Path, closing: Closing) -> None:
    server = RtspServer(tmp_path)
    closing(server.kill)
    source = open_source(server.address)
    assert isinstance(source, StreamSource)
    source._retry = 0.2
    recorder = Recorder(source.info, scale=2)
    run = Pipeline(source, FakeEngine, [], scale=2, recorder=recorder)
    run.start_recording(tmp_path / "session")
    thread = threading.Thread(target=run.run)
    thread.start()
    until(lambda: run.ledger.captured > 48)
    server.kill()
    until(lambda: run.status().stalled)
    again = RtspServer(tmp_path, server.port)
    closing(again.kill)
    until(lambda: run.status().outages.count == 1)
    captured = run.ledger.captured
    until(lambda: run.ledger.captured > captured + 24)
    run.stop()
    joined(thread)
    certificate = verify(tmp_path / "session")
    assert certificate.problems == ()
    assert not certificate.as_json()["complete"]
    assert certificate.totals["uncounted"] == 1
    assert run.summary().outages[0]["lost"] is None
