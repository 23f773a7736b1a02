from __future__ import annotations

from pathlib import Path

import pytest

from clesr.engines.common.errors import SinkError, UsageError
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.sinks.registry import open_sink


@pytest.mark.parametrize(
    "address", ["out.gif", "out", "", "file:///tmp/x.mkv", "rtsp://host/x", "windows", "x/.mkv"]
)
def test_an_unknown_address_names_what_is_allowed(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_sink(address)
    message = str(caught.value)
    assert repr(address) in message
    for allowed in ("window", "null", "zmq+tcp://", "zmq+ipc://", ".mkv", ".mp4", ".mov", ".avi"):
        assert allowed in message
    assert "\n" not in message


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov", ".avi", ".MKV"])
def test_a_video_file_is_known_by_its_ending(suffix: str, tmp_path: Path) -> None:
    sink = open_sink(str(tmp_path / f"out{suffix}"), fps=24.0)
    assert sink.policy is Policy.BLOCK
    assert sink.name == str(tmp_path / f"out{suffix}")
    sink.close()


@pytest.mark.parametrize(
    ("name", "codec", "said"),
    [
        ("out.mkv", "vp9", "auto, h264, h264-lossless, hevc, hevc10, hevc12, ffv1"),
        ("out.avi", "h264", ".mkv"),
        ("out.mov", "ffv1", ".mkv"),
    ],
)
def test_a_codec_that_cannot_work_is_refused_at_once(
    name: str, codec: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said.replace(".", r"\.")):
        open_sink(str(tmp_path / name), codec=codec)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_shows_at_open(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=f"no folder {tmp_path / 'absent'}") as caught:
        open_sink(str(tmp_path / "absent" / "out.mkv"))
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_shows_at_open() -> None:
    """/proc takes no files, from root neither."""
    with pytest.raises(SinkError, match="the folder /proc cannot be written"):
        open_sink("/proc/out.mkv")


def test_the_name_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.mkv").mkdir()
    with pytest.raises(SinkError, match="is a folder"):
        open_sink(str(tmp_path / "out.mkv"))
