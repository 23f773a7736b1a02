"""clesr in a process of its own: signals, full disks, the network, the real video."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import pyigtl
import pytest
import tifffile
import zmq
from commands import Run
from zmq_peers import peer_context

PATIENCE_S = 60.0

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `clesr ARGUMENTS`; what still runs at the end is killed."""
    processes = []

    def begin(
        *arguments: object, limit_bytes: int | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        def limit() -> None:
            if limit_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

        command = [sys.executable, "-c", "from clesr.tools.cli import main; main()", *map(str, arguments)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit,
            env={**os.environ, **(environment or {})},
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until ``condition``; fails when the process ends first or nothing happens for a minute."""
    tick = threading.Event()
    for _ in range(int(PATIENCE_S / 0.05)):
        if condition():
            return
        assert process.poll() is None, process.communicate(timeout=PATIENCE_S)[1]
        tick.wait(0.05)
    pytest.fail("nothing happened")


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return False
    return True


def bytes_in(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.iterdir())


def count_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def write_video(path: Path, frames: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "gray"
        image = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(image, i, 1), format="gray")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)  # the next one is by SIGINT
def test_a_signal_ends_live_with_every_captured_frame_on_disk(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    live = start(
        "live", "--source", "demo:?size=64&fps=50", "--model", "fast", "--display", "none",
        "--output", videos / "out.mkv", "--summary", tmp_path / "s.json",
    )  # fmt: skip
    wait_for(lambda: bytes_in(videos) > 100_000, live)
    live.send_signal(number)
    _, err = live.communicate(timeout=PATIENCE_S)
    assert live.returncode == 0, err
    figures = json.loads((tmp_path / "s.json").read_text())
    assert sum(figures["outcomes"].values()) == figures["captured"]
    assert figures["state"] == "stopped"
    assert [p.name for p in videos.iterdir()] == ["out.mkv"]
    assert count_frames(videos / "out.mkv") == figures["outcomes"]["upscaled"] > 10


@pytest.mark.slow
def test_two_streams_of_different_size_each_with_its_files_end_by_one_signal(
    start: Start, tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    live = start(
        "live", "--source", "demo:?size=64&fps=50", "--source", "right=demo:?size=96&fps=25&seed=5",
        "--model", "fast", "--display", "none", "--share", "one",
        "--output", videos / "{stream}.mkv", "--summary", tmp_path / "{stream}.json",
    )  # fmt: skip
    wait_for(lambda: bytes_in(videos) > 200_000, live)
    live.send_signal(signal.SIGINT)
    _, err = live.communicate(timeout=PATIENCE_S)
    assert live.returncode == 0, err
    assert sorted(p.name for p in videos.iterdir()) == ["demo.mkv", "right.mkv"]
    for name in ("demo", "right"):
        figures = json.loads((tmp_path / f"{name}.json").read_text())
        assert sum(figures["outcomes"].values()) == figures["captured"]
        assert figures["state"] == "stopped"
        assert figures["latency_ms"]["total"]["p99"] > 0
        assert count_frames(videos / f"{name}.mkv") == figures["outcomes"]["upscaled"] > 5
    assert "demo:\n" in err
    assert "right:\n" in err


def test_a_stream_that_breaks_leaves_the_other_and_the_exit_status_tells(run: Run, tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    for i in range(5):
        cv2.imwrite(str(deep / f"{i}.png"), np.full((32, 32), 1000 * i, np.uint16))
    code, _, err = run(
        "clesr-live", "--source", f"a={deep}", "--source", "b=demo:?size=64&fps=50",
        "--model", "nearest", "--scale", 2, "--display", "none", "--frames", 40, "--codec", "h264",
        "--output", tmp_path / "{stream}.mkv", "--summary", tmp_path / "{stream}.json",
    )  # fmt: skip
    assert code == 1, err
    assert len([line for line in err.splitlines() if "error:" in line]) == 1
    assert "1 of 2 streams broke: a: h264 keeps 8 of the images' 16 bits" in err
    assert "b still runs" in err
    figures = json.loads((tmp_path / "b.json").read_text())
    assert figures["captured"] == 40
    assert figures["state"] == "stopped"
    assert count_frames(tmp_path / "b.mkv") == figures["outcomes"]["upscaled"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="V4L2 is Linux's")
def test_a_camera_is_recorded_through_an_unplug(start: Start, tmp_path: Path, fake_v4l2: Path) -> None:
    device, log, control = Path(f"/dev/shm/clesr-{os.getpid()}"), tmp_path / "log", tmp_path / "control"
    device.touch()
    os.mkfifo(control)
    videos = tmp_path / "videos"
    videos.mkdir()
    live = start(
        "live", "--source", f"{device}?format=GREY&size=160x120&fps=30", "--scale", "2", "--model", "fast",
        "--display", "none", "--output", videos / "out.mkv", "--summary", tmp_path / "s.json",
        environment={
            "LD_PRELOAD": str(fake_v4l2), "FAKE_V4L2_DEVICE": str(device), "FAKE_V4L2_CONTROL": str(control),
            "FAKE_V4L2_LOG": str(log),
        },
    )  # fmt: skip
    opened = partial(lambda times: log.exists() and log.read_text().count("STREAMON") >= times)
    try:
        wait_for(lambda: bytes_in(videos) > 100_000, live)
        assert opened(1)
        control.write_text("unplug\n")
        wait_for(lambda: not device.exists(), live)
        control.write_text("plug\n")
        wait_for(lambda: opened(2), live)
        size = bytes_in(videos)
        wait_for(lambda: bytes_in(videos) > size + 100_000, live)
        live.send_signal(signal.SIGINT)
        _, err = live.communicate(timeout=PATIENCE_S)
    finally:
        device.unlink(missing_ok=True)
    assert live.returncode == 0, err
    figures = json.loads((tmp_path / "s.json").read_text())
    assert sum(figures["outcomes"].values()) == figures["captured"]
    assert count_frames(videos / "out.mkv") == figures["outcomes"]["upscaled"] > 10
    assert figures["latency_ms"]["total"]["p99"] < 5000 / 30 or figures["outcomes"]["stale"], "an old frame"


@pytest.mark.slow
def test_a_signal_ends_upscale_with_a_playable_partial_file(start: Start, tmp_path: Path) -> None:
    write_video(tmp_path / "in.mkv", 1500)
    out = tmp_path / "out"
    out.mkdir()
    upscale = start(
        "upscale",
        tmp_path / "in.mkv",
        "-o",
        out / "sr.mkv",
        "--model",
        "fast",
        "--summary",
        tmp_path / "s.json",
    )
    wait_for(lambda: bytes_in(out) > 100_000, upscale)
    upscale.send_signal(signal.SIGINT)
    _, err = upscale.communicate(timeout=PATIENCE_S)
    assert upscale.returncode == 130, err
    figures = json.loads((tmp_path / "s.json").read_text())
    assert [p.name for p in out.iterdir()] == ["sr.partial.mkv"]
    assert 1500 > count_frames(out / "sr.partial.mkv") == figures["captured"] > 10


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_no_file_under_the_final_name(
    start: Start, tmp_path: Path
) -> None:
    write_video(tmp_path / "in.mkv", 600)
    out = tmp_path / "out"
    out.mkdir()
    upscale = start(
        "upscale", tmp_path / "in.mkv", "-o", out / "sr.mkv", "--model", "bicubic", limit_bytes=1_000_000
    )
    _, err = upscale.communicate(timeout=PATIENCE_S)
    assert upscale.returncode == 1, err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if "error:" in line]) == 1
    assert not (out / "sr.mkv").exists()
    kept = list(out.iterdir())
    assert all(p.name == "sr.partial.mkv" for p in kept)
    assert all(count_frames(p) > 0 for p in kept)


@pytest.mark.slow
def test_a_peer_written_from_the_wire_format_alone_exchanges_frames(start: Start, tmp_path: Path) -> None:
    context = peer_context()
    sender, receiver = context.socket(zmq.PUB), context.socket(zmq.SUB)
    try:
        port = sender.bind_to_random_port("tcp://127.0.0.1")
        receiver.setsockopt(zmq.SUBSCRIBE, b"")
        address = f"ipc://{tmp_path}/sr"
        receiver.connect(address)
        receiver.setsockopt(zmq.RCVTIMEO, 200)
        live = start(
            "live", "--source", f"zmq+tcp://127.0.0.1:{port}", "--scale", "2", "--model", "nearest", "--window", "full",
            "--display", "none", "--send", f"zmq+{address}", "--summary", tmp_path / "s.json",
        )  # fmt: skip
        got: list[tuple[dict[str, object], bytes]] = []
        image = np.random.default_rng(0).integers(0, 65536, (20, 30)).astype("<u2")
        number = 0

        def exchange() -> bool:
            nonlocal number
            header = {
                "version": 1,
                "shape": [20, 30],
                "dtype": "uint16",
                "number": number,
                "time_ns": 5,
                "stream": "a",
            }
            lying = {**header, "shape": [2000, 3000], "number": number + 1}
            sender.send_multipart([json.dumps(header).encode(), image.tobytes()])
            sender.send_multipart([json.dumps(lying).encode(), image.tobytes()])
            number += 2
            try:
                head, pixels = receiver.recv_multipart()
            except zmq.Again:
                return False
            got.append((json.loads(head), pixels))
            return len(got) >= 3

        wait_for(exchange, live)
        live.send_signal(signal.SIGINT)
        _, err = live.communicate(timeout=PATIENCE_S)
        assert live.returncode == 0, err
    finally:
        sender.close(0)
        receiver.close(0)
        context.term()
    header, pixels = got[-1]
    assert header["version"] == 1
    assert header["shape"] == [40, 60]
    assert header["dtype"] == "uint16"
    assert header["scale"] == 2
    assert header["model"] == "nearest"
    sr = np.frombuffer(pixels, "<u2").reshape(40, 60)
    np.testing.assert_array_equal(sr[::2, ::2], image)
    figures = json.loads((tmp_path / "s.json").read_text())
    assert figures["outcomes"]["corrupt"] > 0, "the header that lied about its size is counted"
    assert sum(figures["outcomes"].values()) == figures["captured"]


def test_one_stream_goes_to_several_receivers(run: Run, tmp_path: Path) -> None:
    code, _, err = run(
        "clesr-live", "--source", "demo:?fps=50&size=64", "--frames", 5, "--model", "nearest", "--scale", 2,
        "--display", "none", "--send", "igtl://127.0.0.1:0", "--send", f"zmq+ipc://{tmp_path}/a",
        "--send", f"zmq+ipc://{tmp_path}/b",
    )  # fmt: skip
    assert code == 0, err
    closing = [line for line in err.splitlines() if "wrote" in line]
    assert len([line for line in closing if "igtl://127.0.0.1:0: 0 images sent" in line]) == 1
    for name in "ab":
        assert len([line for line in closing if f"zmq+ipc://{tmp_path}/{name}: " in line]) == 1


@pytest.mark.slow
def test_a_pyigtl_client_gets_frames_with_size_and_time(start: Start, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 65536, (20, 30), np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", np.array([image, image]), photometric="minisblack")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    live = start(
        "live", "--source", tmp_path / "in.tif", "--loop", "--pace", 50, "--window", "full", "--scale", 2,
        "--model", "nearest", "--display", "none", "--send", f"igtl://127.0.0.1:{port}", "--pixel-size", 1.5,
    )  # fmt: skip
    wait_for(partial(is_open, port), live)
    client = pyigtl.OpenIGTLinkClient("127.0.0.1", port)
    try:
        got: list[pyigtl.ImageMessage] = []

        def received() -> bool:
            message = client.wait_for_message("clesr", timeout=0.1)
            got.extend([message] if message else [])
            return len(got) >= 3

        wait_for(received, live)
    finally:
        client.stop()
    live.send_signal(signal.SIGINT)
    _, err = live.communicate(timeout=PATIENCE_S)
    assert live.returncode == 0, err
    assert "images sent to 2 programs" in err, (
        "the one that only looked whether the port is open, and the client"
    )
    for message in got:
        np.testing.assert_array_equal(message.image[0, ::2, ::2], image)
        assert message.ijk_to_world_matrix[0, 0] == pytest.approx(0.00075)
    assert got[0].timestamp < got[1].timestamp < got[2].timestamp


@pytest.mark.slow
def test_the_real_video_frame_by_frame_with_its_times(start: Start, data: Path, tmp_path: Path) -> None:
    source = data / "video" / "colon_pcle.mpeg"
    upscale = start("upscale", source, "-o", tmp_path / "sr.mkv", "--scale", "2", "--model", "nearest")
    _, err = upscale.communicate(timeout=PATIENCE_S * 3)
    assert upscale.returncode == 0, err

    ffprobe = shutil.which("ffprobe")
    if ffprobe is None:
        pytest.skip("ffprobe is missing: install ffmpeg")

    def times(path: Path) -> list[float]:
        command = [
            ffprobe,
            "-v",
            "error",
            "-select_streams",
            "v:0",
            "-show_entries",
            "frame=pts_time",
            "-of",
            "csv=p=0",
        ]
        done = subprocess.run(
            [*command, os.fspath(path)], capture_output=True, text=True, check=True, timeout=60
        )
        assert not done.stderr
        return [float(line.strip(",")) for line in done.stdout.split()]

    given, got = times(source), times(tmp_path / "sr.mkv")
    assert len(given) == len(got) == 260
    moved = np.array(got) - got[0] - (np.array(given) - given[0])
    assert np.abs(moved).max() <= 0.0011
    assert float(Fraction(1, 24)) == pytest.approx(np.median(np.diff(got)), abs=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 8])
def test_the_demo_source_with_other_scales(start: Start, tmp_path: Path, scale: int) -> None:
    live = start(
        "live", "--source", "demo:?size=64&fps=25&drop=0.1", "--scale", scale, "--model", "fast", "--display", "none",
        "--frames", 40, "--output", tmp_path / "o.mp4", "--summary", tmp_path / "s.json",
    )  # fmt: skip
    _, err = live.communicate(timeout=PATIENCE_S)
    assert live.returncode == 0, err
    figures = json.loads((tmp_path / "s.json").read_text())
    assert figures["outcomes"]["lost-at-source"] > 0
    assert sum(figures["outcomes"].values()) == figures["captured"]
    assert count_frames(tmp_path / "o.mp4") == figures["outcomes"]["upscaled"]
