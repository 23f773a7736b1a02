"""Which address opens what, and what is said about addresses that cannot work."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import zmq
from recordings import mkt_bytes, noise, read_all, write_video
from support import ManualClock, ScriptedSource
from zmq_peers import peer_context

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import SourceError, UsageError
from clesr.pipeline.frame import Frame
from clesr.pipeline.sources.registry import ADDRESSES, open_source
from clesr.pipeline.sources.simulator.demo import DemoSource
from clesr.pipeline.sources.zeromq.source import ZmqSource

IMAGES = noise(3, (20, 30))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """One recording of each kind, of the same three images."""
    write_video(tmp_path / "a.mkv", IMAGES)
    write_video(tmp_path / "a name: with %20 and ?.mkv", IMAGES)
    tifffile.imwrite(tmp_path / "a.TIF", np.stack(IMAGES), photometric="minisblack")
    wide = [np.tile(image.astype(np.int16), (1, 20))[:, :576] for image in IMAGES]
    (tmp_path / "a.mkt").write_bytes(mkt_bytes(wide, 12.0))
    (tmp_path / "images").mkdir()
    for number, image in enumerate(IMAGES):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), image)
    (tmp_path / "session").mkdir()
    write_video(tmp_path / "session" / "raw.mkv", IMAGES)
    write_video(tmp_path / "session" / "sr.mkv", noise(1, (40, 60)))
    return tmp_path


@pytest.mark.parametrize(
    "name", ["a.mkv", "a name: with %20 and ?.mkv", "a.TIF", "a.mkt", "images", "session", "images/1.png"]
)
def test_recordings(recordings: Path, name: str) -> None:
    source = open_source(str(recordings / name), pace="max")
    assert not source.info.live
    frames, corrupt = read_all(source)
    expected = [IMAGES[1]] if name.endswith(".png") else IMAGES
    assert not corrupt
    assert [frame.number for frame in frames] == list(range(len(expected)))
    for frame, image in zip(frames, expected, strict=True):
        if name == "a.mkt":
            np.testing.assert_array_equal(frame.image[:, :30].astype(int) - 32768, image)
        else:
            np.testing.assert_array_equal(frame.image, image)


def test_file_urls(recordings: Path) -> None:
    for url in (
        f"file://{recordings}/a.mkv",
        f"file://localhost{recordings}/a%20name:%20with%20%2520%20and%20%3F.mkv",
    ):
        frames, _ = read_all(open_source(url, pace="max"))
        assert len(frames) == 3
    with pytest.raises(UsageError, match="other-machine"):
        open_source("file://other-machine/a.mkv")


def test_relative_paths(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recordings)
    frames, _ = read_all(open_source("a.mkv", pace="max"))
    assert len(frames) == 3


def test_recordings_keep_their_pace(recordings: Path) -> None:
    clock = ManualClock()
    frames, _ = read_all(open_source(str(recordings / "a.mkt"), clock=clock))
    spans = [later.time_ns - frame.time_ns for frame, later in pairwise(frames)]
    assert spans == [83_333_333, 83_333_334]
    start = clock.now_ns()
    frames, _ = read_all(open_source(str(recordings / "a.mkt"), clock=clock, pace=2))
    assert [frame.time_ns - start for frame in frames] == [0, 500_000_000, 1_000_000_000]


def test_loops(recordings: Path) -> None:
    for name in ("a.mkv", "a.TIF", "a.mkt", "images"):
        source = open_source(str(recordings / name), pace="max", loop=True)
        assert source.info.frames is None
        items = [source.read(1) for _ in range(7)]
        source.close()
        assert [item.number for item in items if isinstance(item, Frame)] == list(range(7))
        assert isinstance(items[6], Frame)
        assert isinstance(items[0], Frame)
        np.testing.assert_array_equal(items[6].image, items[0].image)


def test_exact_counts(recordings: Path) -> None:
    assert open_source(str(recordings / "a.mkv")).info.frames is None
    assert open_source(str(recordings / "a.mkv"), count=True).info.frames == 3


def test_demo() -> None:
    source = open_source("demo:?size=64&frames=2&pace=max", clock=ManualClock())
    assert isinstance(source, DemoSource)
    frames, _ = read_all(source)
    assert len(frames) == 2
    with pytest.raises(UsageError, match="colour"):
        open_source("demo:?colour=1")


def test_zeromq(tmp_path: Path) -> None:
    source = open_source(f"zmq+ipc://{tmp_path}/s?socket=pull&bind=1")
    assert isinstance(source, ZmqSource)
    with peer_context() as context, context.socket(zmq.PUSH) as sender:
        sender.connect(f"ipc://{tmp_path}/s")
        sender.send_multipart([b'{"version":1,"shape":[1,1],"dtype":"uint8","number":4}', b"\x07"])
        frame = source.read(10)
    source.close()
    assert isinstance(frame, Frame)
    assert (frame.number, frame.image.item()) == (4, 7)


class FakeCamera(ScriptedSource):
    """Keeps what it was opened with."""

    def __init__(self, device: str, **options: Any) -> None:
        super().__init__([], live=True)
        self.device, self.options = device, options


SIGNAL = {"input": "2", "standard": "PAL", "timings": "auto"}


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("clesr.pipeline.sources.v4l2.camera")
    module.CameraSource = FakeCamera  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "clesr.pipeline.sources.v4l2.camera", module)


@pytest.mark.usefixtures("camera")
@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("/dev/video7", {}),
        ("/dev/null", {}),
        ("/dev/video1?input=2&standard=PAL&timings=auto", {"signal": SIGNAL}),
        (
            "/dev/video7?size=640x480&fps=12.5&format=GREY&exposure=200&gain=4",
            {
                "size": (640, 480),
                "fps": 12.5,
                "pixel_format": "GREY",
                "controls": {"exposure": "200", "gain": "4"},
            },
        ),
    ],
)
def test_cameras(address: str, options: Mapping[str, Any]) -> None:
    source = open_source(address)
    assert isinstance(source, FakeCamera)
    assert source.device == address.partition("?")[0]
    nothing: dict[str, Any] = {"size": None, "fps": None, "pixel_format": None, "controls": {}, "signal": {}}
    nothing |= {"clock": SYSTEM, "levels": "auto", "deinterlace": False}
    assert source.options == nothing | dict(options)


@pytest.mark.usefixtures("camera")
def test_cameras_are_told_of_range_and_fields() -> None:
    source = open_source("/dev/video7", levels="full", deinterlace=True)
    assert isinstance(source, FakeCamera)
    assert (source.options["levels"], source.options["deinterlace"]) == ("full", True)


@pytest.mark.usefixtures("camera")
@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("size=640", "size=640x480"),
        ("size=0x480", "size=640x480"),
        ("fps=fast", "frames a second"),
        ("fps=-1", "frames a second"),
        ("gain", "name=value"),
        ("gain=1&gain=2", "more than once"),
    ],
)
def test_camera_options_that_cannot_work(query: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_source(f"/dev/video7?{query}")


@pytest.mark.parametrize("scheme", ["RTSP", "Http", "TCP"])
def test_schemes_may_be_written_in_capitals(scheme: str) -> None:
    with pytest.raises(SourceError, match="cannot be opened") as raised:
        open_source(f"{scheme}://127.0.0.1:1/Path")
    assert f"{scheme.lower()}://127.0.0.1:1/Path" in str(raised.value)
    assert "rotocol not found" not in str(raised.value)


def test_a_pipe_is_no_camera(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    standard = tmp_path / "stdin"  # as /dev/stdin is a link to what a shell gives
    standard.symlink_to(pipe)
    for path in (pipe, standard):
        with pytest.raises(SourceError, match="is a pipe, which cannot be read as a recording; give a file"):
            open_source(str(path))
    reading, writing = os.pipe()
    try:
        with pytest.raises(SourceError, match="is a pipe, which cannot be read as a recording; give a file"):
            open_source(f"/dev/fd/{reading}")
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(
    "address", ["gopher://host/a.mkv", "dmeo:?size=64", "zmq://host:5555", "rstp://host/1"]
)
def test_an_unknown_scheme_names_those_there_are(address: str) -> None:
    with pytest.raises(UsageError, match="is no source") as raised:
        open_source(address)
    assert raised.value.exit_code == 2
    for kind in ADDRESSES:
        assert kind in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("absent.mp4", None, "no such file"),
        ("absent.mkt", None, "no such file"),
        ("absent", None, "no such file"),
        ("empty.mp4", b"", "empty"),
        ("empty.mkt", b"", "empty"),
        ("empty.tif", b"", "empty"),
        ("text.mp4", b"This is a text.\n" * 99, "not a video"),
        ("text.mkt", b"This is a text.\n" * 99, "no Cellvizio recording"),
        ("text.tiff", b"This is a text.\n" * 99, "not a TIFF file"),
        ("text.png", b"This is a text.\n" * 99, "not an image"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=says) as raised:
        open_source(str(tmp_path / name))
    assert raised.value.exit_code == 1
    assert str(tmp_path / name) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no images"):
        open_source(str(tmp_path))


def test_a_pace_that_cannot_work(recordings: Path) -> None:
    with pytest.raises(UsageError, match="pace"):
        open_source(str(recordings / "a.mkv"), pace="slow")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"track": 2}, "--track 2 is for video files and streams, not for "),
        ({"levels": "full"}, "--range full is for video and cameras, not for "),
        ({"deinterlace": True}, "--deinterlace is for video and cameras, not for "),
    ],
)
@pytest.mark.parametrize("kind", ["demo:", "folder", "still.png", "session"])
def test_options_of_video_are_refused_where_there_is_none(
    option: dict[str, Any], words: str, kind: str, tmp_path: Path
) -> None:
    address = kind if kind == "demo:" else str(tmp_path / kind)
    if kind == "session":
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "session.json").write_text("{}")
    elif kind == "folder":
        (tmp_path / kind).mkdir()
    elif kind == "still.png":
        cv2.imwrite(address, np.zeros((8, 8), np.uint8))
    with pytest.raises(UsageError, match=f"^{words}.*; leave it out$"):
        open_source(address, **option)
