"""Parts of recordings: what they give is what a sequential read gives, for every kind of video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recordings import drifting, mkt_bytes, noise, read_all, write_video

from clesr.pipeline.frame import Frame
from clesr.pipeline.sources.images.mkt import open_mkt
from clesr.pipeline.sources.video.file import VideoSource
from clesr.pipeline.sources.video.ranges import (
    NotApart,
    VideoRange,
    index_video,
    split_images,
    split_video,
)
from clesr.tools.archive.recording import open_range

KINDS = {
    "ffv1.mkv": ("ffv1", None, {"g": "1"}),
    "ffv1-groups.mkv": ("ffv1", None, {"g": "6", "level": "3"}),
    "h264.mp4": ("libx264", "yuv420p", {"g": "6", "bf": "2"}),
    "h264-open.mkv": (
        "libx264",
        "yuv420p",
        {"g": "6", "bf": "3", "x264-params": "open-gop=1:keyint=6:min-keyint=2"},
    ),
    "hevc-open.mkv": ("libx265", "yuv420p", {"g": "6", "x265-params": "open-gop=1:log-level=none:pools=1"}),
    "mpeg2.mkv": ("mpeg2video", "yuv420p", {"g": "6", "bf": "2"}),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", {"g": "6"}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {"g": "6"}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", {}),
}


def parts_of(path: Path, length: int) -> list[Frame]:
    index = index_video(path)
    assert index.problem is None
    spans = split_video(index, index.frames, length)
    assert [(s.start, s.stop) for s in spans] == [
        (start, min(start + length, index.frames)) for start in range(0, index.frames, length)
    ]
    frames: list[Frame] = []
    for span in reversed(spans):  # each by itself
        got, damaged = read_all(VideoRange(path, span))
        assert not damaged
        frames = got + frames
    return frames


def assert_same(got: list[Frame], given: list[Frame]) -> None:
    assert [f.number for f in got] == [f.number for f in given]
    assert [f.pts for f in got] == [f.pts for f in given]
    for one, other in zip(got, given, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


@pytest.mark.parametrize("name", KINDS)
def test_parts_are_the_frames_of_a_sequential_read(tmp_path: Path, name: str) -> None:
    codec, pixels, options = KINDS[name]
    path = tmp_path / name
    write_video(path, drifting(40, (64, 64)), codec=codec, pixel_format=pixels, options=options)
    given, _ = read_all(VideoSource(path))
    assert len(given) == 40
    assert_same(parts_of(path, 13), given)


def test_parts_of_the_real_video(data: Path) -> None:
    path = data / "video" / "colon_pcle.mpeg"
    given, damaged = read_all(VideoSource(path))
    assert not damaged
    assert_same(parts_of(path, 50), given)


def test_parts_of_a_16_bit_cellvizio_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.mkt"
    path.write_bytes(mkt_bytes([n.view(np.int16) for n in noise(7, (2, 576), np.uint16)], 12.0))
    given, _ = read_all(open_mkt(path))
    got = [f for span in split_images(7, 3) for f in read_all(open_range(path, span))[0]]
    assert_same(got, given)


def test_a_short_video_and_one_of_a_single_key_frame_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, drifting(40, (64, 64)), codec="libx264", pixel_format="yuv420p", options={"g": "250"})
    index = index_video(path)
    assert index.frames == 40
    assert split_video(index, 40, 40) == ()
    assert split_video(index, 40, 9) == ()  # every part would decode from frame 0


def test_a_cut_video_is_not_taken_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, noise(30, (32, 32)), options={"g": "1"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    index = index_video(path)
    assert index.problem is not None
    assert "ends early" in index.problem
    assert split_video(index, index.frames, 5) == ()


def test_damage_within_a_part_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, noise(30, (32, 32)), options={"level": "3", "slicecrc": "1", "slices": "4", "g": "1"})
    whole = path.read_bytes()
    path.write_bytes(
        whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 255]) + whole[len(whole) // 2 + 1 :]
    )
    spans = split_video(index_video(path), 30, 10)
    hurt = []
    for span in spans:
        try:
            assert len(read_all(VideoRange(path, span))[0]) == 10
        except NotApart:
            hurt.append(span.start)
    assert hurt == [10]


def test_a_part_that_is_not_where_it_was_promised_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, noise(30, (32, 32)), options={"g": "1"})
    span = split_video(index_video(path), 30, 10)[1]
    assert span.first is not None
    assert span.last is not None
    for wrong in (
        replace(span, first=span.first + 1),
        replace(span, last=span.last + 1),
        replace(span, stop=99),
    ):
        with pytest.raises(NotApart):
            read_all(VideoRange(path, wrong))


def test_a_stream_whose_packets_have_no_times_of_their_own_is_not_taken_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.mpg"
    write_video(
        path,
        drifting(40, (64, 64)),
        codec="mpeg2video",
        pixel_format="yuv420p",
        options={"g": "6", "bf": "2"},
    )
    index = index_video(path)
    assert index.frames == 40
    assert index.problem == "two frames have the same time"
    assert split_video(index, 40, 13) == ()
