"""Video files that name others, or state samples that they have not, are refused before FFmpeg opens them."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from recordings import drifting, write_video

from clesr.engines.common.errors import ClesrError
from clesr.pipeline.sources.registry import open_source
from clesr.pipeline.video.header import header_problem

MANY = 50_000_000


@pytest.fixture(params=["a.mp4", "a.mov"])
def video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / str(request.param)
    write_video(path, drifting(6, (32, 48)), codec="libx264", pixel_format="yuv420p")
    return path


def patch(path: Path, box: bytes, form: str, *values: int) -> None:
    """Other numbers at the beginning of the table in the first ``box``."""
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, data.index(box) + 8, *values)
    path.write_bytes(data)


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def refusal(path: Path) -> str:
    with pytest.raises(ClesrError) as raised:
        open_source(str(path))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_video_is_no_problem(video: Path) -> None:
    assert header_problem(video) is None
    open_source(str(video)).close()


def test_samples_of_one_size_are_not_more_than_the_file_holds(video: Path) -> None:
    patch(video, b"stsz", ">II", 1, MANY)
    assert "images or sounds, more than its" in refusal(video)


def test_nor_does_a_beginning_that_nobody_knows_hide_them(video: Path) -> None:
    patch(video, b"stts", ">II", 1, MANY)
    video.write_bytes(video.read_bytes().replace(b"ftyp", b"f\xff\xffp", 1))
    assert "images or sounds, more than its" in refusal(video)


def test_nor_are_samples_of_one_duration(video: Path) -> None:
    patch(video, b"stts", ">II", 1, MANY)
    assert "images or sounds, more than its" in refusal(video)


@pytest.mark.parametrize("copies", [1, 100])
def test_nor_are_those_of_a_fragment(video: Path, copies: int) -> None:
    run = box(b"trun", struct.pack(">II", 0, MANY // copies))
    fragment = box(b"moof", box(b"traf", box(b"tfhd", struct.pack(">II", 0, 1)) + run * copies))
    video.write_bytes(video.read_bytes() + fragment)
    assert "images or sounds, more than its" in refusal(video)


def test_an_index_that_would_be_unpacked_is_refused(video: Path) -> None:
    video.write_bytes(video.read_bytes() + box(b"moov", box(b"cmov", bytes(20))))
    assert "compressed index" in refusal(video)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "avi"])
def test_a_list_of_files_is_not_followed(tmp_path: Path, suffix: str) -> None:
    """Into a pipe FFmpeg would wait for ever, and a list that names itself has no end."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", f"a.{suffix}"):
        (tmp_path / f"a.{suffix}").write_text(f"ffconcat version 1.0\nfile {name}\n")
        assert "list of files" in refusal(tmp_path / f"a.{suffix}")


def test_whatever_bytes_follow_is_no_error(video: Path) -> None:
    data, random = video.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(data)
        for at in random.integers(0, len(data), 20):
            changed[at] = random.integers(0, 256)
        video.write_bytes(changed[: random.integers(9, len(data))])
        header_problem(video)
