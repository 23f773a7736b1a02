"""Read back by Debian's ffmpeg and Chromium."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from recordings import drifting, noise
from waits import PATIENCE_S, joined

from clesr.pipeline.frame import Image
from clesr.pipeline.session.format import SessionError
from clesr.tools.export.clip import Clip, Still
from clesr.tools.export.dicom import DicomExporter
from clesr.tools.export.mp4 import Mp4Exporter
from clesr.tools.export.registry import Exporter

Save = Callable[..., list[str]]
MakeClip = Callable[..., Clip]
Program = Callable[[str, str], str]
TIMES_US = [0, 40_000, 80_123, 520_000, 560_000]


def boxes(path: Path) -> list[str]:
    """The top-level boxes of an MP4 file, in order."""
    data, at, names = path.read_bytes(), 0, []
    while at < len(data):
        names.append(data[at + 4 : at + 8].decode())
        at += int.from_bytes(data[at : at + 4], "big")
    return names


def ffmpeg_times_us(ffprobe: str, path: Path) -> list[int]:
    command = [ffprobe, "-v", "error", "-show_entries", "frame=pts_time", "-of", "csv=p=0", os.fspath(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert not done.stderr
    return [round(float(line.strip(",")) * 1e6) for line in done.stdout.split()]


def ffmpeg_images(ffmpeg: str, path: Path, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    command = [ffmpeg, "-v", "error", "-i", os.fspath(path), "-fps_mode", "passthrough"]
    done = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "gray", "-"], capture_output=True, check=True, timeout=60
    )
    assert not done.stderr
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, *shape)


@pytest.mark.parametrize(
    ("dtype", "codec"),
    [
        (np.uint8, "h264"),
        (np.uint8, "hevc"),
        (np.uint8, "hevc12"),
        (np.uint16, "h264"),
        (np.uint16, "hevc10"),
    ],
)
def test_debian_s_ffmpeg_reads_images_and_true_times(
    codec: str, dtype: type, make_clip: MakeClip, save: Save, program: Program, tmp_path: Path
) -> None:
    scene = drifting(5)
    images = [image if dtype is np.uint8 else image.astype(np.uint16) << 8 for image in scene]
    path = tmp_path / "sr.mp4"
    save(Mp4Exporter, make_clip(images, sr=True), path, codec=codec)
    assert ffmpeg_times_us(program("ffprobe", "ffmpeg"), path) == TIMES_US
    decoded = ffmpeg_images(program("ffmpeg", "ffmpeg"), path, (96, 128))
    assert len(decoded) == 5
    error = np.abs(decoded.astype(int) - np.array(scene))
    assert error.mean() < 1.5
    order = boxes(path)
    assert order.index("moov") < order.index("mdat"), "fast start"
    assert [p.name for p in tmp_path.iterdir()] == ["sr.mp4"]


@pytest.mark.parametrize(
    "exporter",
    [Mp4Exporter, partial(DicomExporter, sop_class="video-endoscopic", region="esophagus")],
    ids=["MP4", "DICOM"],
)
def test_where_an_image_cannot_be_read_no_file_stays(
    exporter: Callable[..., Exporter], make_clip: MakeClip, save: Save, images: list[Image], tmp_path: Path
) -> None:
    whole = make_clip(images)

    def broken() -> Iterator[Still]:
        yield from islice(whole.stills, 2)
        raise SessionError("it is damaged")

    with pytest.raises(SessionError) as raised:
        save(exporter, replace(whole, stills=broken()), tmp_path / "out.mp4")
    assert not [file.path for file in psutil.Process().open_files() if str(tmp_path) in file.path], raised
    assert not list(tmp_path.iterdir())


def test_what_it_is_stands_in_the_file(
    make_clip: MakeClip, save: Save, images: list[Image], tmp_path: Path
) -> None:
    save(Mp4Exporter, make_clip(images, sr=True, edits=("words burnt in",)), tmp_path / "sr.mp4")
    with av.open(str(tmp_path / "sr.mp4")) as container:
        comment = container.metadata["comment"]
        assert "creation_time" not in container.metadata
    assert "derived by super-resolution: x4 by model fast (SHA-256 a2de0bda22cf" in comment
    assert "words burnt in; not for diagnosis" in comment


def test_odd_sides_become_even_where_players_want_it(
    make_clip: MakeClip, save: Save, images: list[Image], tmp_path: Path
) -> None:
    (said,) = save(Mp4Exporter, make_clip(images), tmp_path / "odd.mp4", crf=0)
    assert "42x32" in said
    with av.open(str(tmp_path / "odd.mp4")) as container:
        (first, *_) = container.decode(video=0)
        assert first.format.name.startswith("yuv")
        luma = first.to_ndarray()[:32]
    assert np.abs(luma[:31].astype(int) - images[0]).mean() < 2
    assert np.abs(luma[31].astype(int) - images[0][30]).mean() < 4, "the last row once more"


def test_times_count_from_the_clip_s_origin(
    make_clip: MakeClip, save: Save, images: list[Image], program: Program, tmp_path: Path
) -> None:
    times = [10_080_000_000, 10_120_000_000]
    for name, origin, first in (("a.mp4", None, 0), ("b.mp4", 10_000_000_000, 80_000)):
        save(Mp4Exporter, make_clip(images[:2], times, origin_ns=origin), tmp_path / name)
        assert ffmpeg_times_us(program("ffprobe", "ffmpeg"), tmp_path / name) == [first, first + 40_000]


def test_images_of_another_size_go_on_in_another_file(
    make_clip: MakeClip, save: Save, images: list[Image], tmp_path: Path
) -> None:
    others = noise(3, (20, 24))
    said = save(Mp4Exporter, make_clip([*images[:2], *others]), tmp_path / "a.mp4")
    assert [line.partition(": ")[2].split(",")[0] for line in said] == ["2 frames", "3 frames"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.2.mp4", "a.mp4"]


PAGE = b"""<video id=video muted autoplay src=sr.mp4></video><script>
const video = document.getElementById("video");
const post = message => fetch("/", {method: "POST", body: JSON.stringify(message)});
video.onerror = () => post({error: video.error.message});
video.onended = () => {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const levels = []; for (let i = 0; i < data.length; i += 4) levels.push(data[i]);
  post({duration: video.duration, at: video.currentTime, width: canvas.width, height: canvas.height, levels});
};
</script>"""


@contextmanager
def serving(folder: Path, answers: list[dict[str, Any]], answered: threading.Event) -> Iterator[int]:
    """A web server for ``folder``; what a page posts goes into ``answers``."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            answered.set()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    joined(thread)
    server.server_close()


@pytest.mark.slow
def test_chromium_plays_it_to_the_end(
    make_clip: MakeClip, save: Save, program: Program, tmp_path: Path
) -> None:
    scene = drifting(25)
    clip = make_clip(scene, [round(i * 40e6) for i in range(25)], sr=True)
    save(Mp4Exporter, clip, tmp_path / "sr.mp4")
    (tmp_path / "index.html").write_bytes(PAGE)
    answers: list[dict[str, Any]] = []
    answered = threading.Event()
    with serving(tmp_path, answers, answered) as port:
        options = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
        options += [f"--user-data-dir={tmp_path / 'profile'}", "--remote-debugging-port=0"]
        shell = program("chromium-headless-shell", "chromium-headless-shell")
        browser = subprocess.Popen(
            [shell, *options, f"http://127.0.0.1:{port}/"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            assert answered.wait(60), "nothing was played"
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait(PATIENCE_S)
    (answer,) = answers
    assert answer.get("error") is None
    assert answer["duration"] == pytest.approx(1.0, abs=0.041)
    assert answer["at"] == pytest.approx(1.0, abs=0.041)
    shown = np.array(answer["levels"]).reshape(answer["height"], answer["width"])
    assert np.abs(shown - scene[-1]).mean() < 6, "the last image is on show"
