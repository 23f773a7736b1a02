"""Cellvizio recordings, written here by the layout in the design."""

from __future__ import annotations

import struct
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from recordings import mkt_bytes, noise, read_all

from clesr.engines.common.errors import EndOfSource, SourceError
from clesr.pipeline.frame import Frame
from clesr.pipeline.sources.images.mkt import open_mkt, parse_mkt_header


def signed(count: int, shape: tuple[int, int], seed: int = 0) -> list[NDArray[np.int16]]:
    images = [image.view(np.int16) for image in noise(count, shape, np.uint16, seed)]
    images[0][0, :4] = -32768, -1, 0, 32767
    return images


def header(fps: float, size: int) -> bytes:
    content = bytearray(16)
    struct.pack_into(">f", content, 5, fps)
    struct.pack_into(">i", content, 10, size)
    return bytes(content)


@settings(max_examples=10)
@given(
    half_height=st.integers(1, 20),
    width=st.sampled_from([576, 512]),
    count=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_every_value_comes_back_raised_by_32768(half_height: int, width: int, count: int, seed: int) -> None:
    images = signed(count, (2 * half_height, width), seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mkt"
        path.write_bytes(mkt_bytes(images, 12.0))
        source = open_mkt(path)
        frames, corrupt = read_all(source)
    assert not corrupt
    if width == 576 or half_height % 9:  # else the size is that of 576-pixel rows, too
        assert source.info.shape == images[0].shape
    for number, (frame, image) in enumerate(zip(frames, images, strict=True)):
        assert frame.image.dtype == np.uint16
        assert frame.number == frame.pts == number
        np.testing.assert_array_equal(frame.image.ravel(), image.ravel().astype(int) + 32768)


def test_extremes_keep_their_order(tmp_path: Path) -> None:
    (tmp_path / "a.mkt").write_bytes(mkt_bytes(signed(1, (2, 576)), 12.0))
    (frame,), _ = read_all(open_mkt(tmp_path / "a.mkt"))
    assert list(frame.image[0, :4]) == [0, 32767, 32768, 65535]


@pytest.mark.parametrize(
    ("fps", "time_base"), [(12.0, Fraction(1, 12)), (8.5, Fraction(2, 17)), (0.8, Fraction(5, 4))]
)
def test_the_frame_rate_is_the_headers(tmp_path: Path, fps: float, time_base: Fraction) -> None:
    (tmp_path / "a.mkt").write_bytes(mkt_bytes(signed(2, (4, 576)), fps))
    source = open_mkt(tmp_path / "a.mkt")
    assert source.info.fps == pytest.approx(fps)
    assert (source.info.live, source.info.frames) == (False, 2)
    frames, _ = read_all(source)
    assert [frame.time_base for frame in frames] == [time_base, time_base]


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        (2 * 576 * 592, (592, 576)),
        (2 * 576 * 32, (32, 576)),
        (2 * 512 * 512, (512, 512)),
        (2 * 512 * 514, (514, 512)),
        (2 * 512 * 72, (64, 576)),  # both fit: an even number of 576-pixel rows goes first
    ],
)
def test_the_width_follows_from_the_size(size: int, shape: tuple[int, int]) -> None:
    assert parse_mkt_header(header(12, size), "a.mkt")[1] == shape


def test_an_odd_number_of_576_pixel_rows_is_refused() -> None:
    with pytest.raises(SourceError, match="rows of 576 or 512"):
        parse_mkt_header(header(12, 2 * 576 * 9), "a.mkt")


@pytest.mark.parametrize("left", [1, 100, 2 * 576 * 4 - 1])
def test_a_cut_last_frame_is_reported_and_the_rest_plays(tmp_path: Path, left: int) -> None:
    content = mkt_bytes(signed(3, (4, 576)), 12.0)
    frame_bytes = 2 * 576 * 4 + 32
    (tmp_path / "a.mkt").write_bytes(content[: 16 + 2 * frame_bytes + left])
    source = open_mkt(tmp_path / "a.mkt")
    frames, corrupt = read_all(source)
    assert source.info.frames == 3
    assert [frame.number for frame in frames] == [0, 1]
    assert [item.number for item in corrupt] == [2]
    assert f"{left} of its {2 * 576 * 4} bytes" in corrupt[0].reason


@pytest.mark.parametrize("missing", [1, 31, 32])
def test_a_missing_gap_at_the_end_costs_no_frame(tmp_path: Path, missing: int) -> None:
    (tmp_path / "a.mkt").write_bytes(mkt_bytes(signed(3, (4, 576)), 12.0)[:-missing])
    frames, corrupt = read_all(open_mkt(tmp_path / "a.mkt"))
    assert len(frames) == 3
    assert not corrupt


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 bytes"),
        (b"short", "5 bytes"),
        (header(0.0, 2 * 576 * 592), "frame rate 0"),
        (header(-12.0, 2 * 576 * 592), "frame rate -12"),
        (header(float("nan"), 2 * 576 * 592), "frame rate nan"),
        (header(1e9, 2 * 576 * 592), "frame rate 1e"),
        (header(12, 0), "frames of 0 bytes"),
        (header(12, -1152), "frames of -1152 bytes"),
        (header(12, 1001), "frames of 1001 bytes"),
        (header(12, 2_000_000_000), "frames of 2000000000 bytes"),
        (header(12, 2 * 576 * 592) + bytes(1000), "no whole frame"),
        (b"This is a text with the name of a recording.", "no Cellvizio recording"),
    ],
)
def test_what_is_no_recording_is_told_in_a_line(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.mkt").write_bytes(content)
    with pytest.raises(SourceError, match=says) as raised:
        open_mkt(tmp_path / "a.mkt")
    assert "\n" not in str(raised.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        open_mkt(tmp_path / "a.mkt")


def test_close_ends_reading(tmp_path: Path) -> None:
    (tmp_path / "a.mkt").write_bytes(mkt_bytes(signed(3, (4, 576)), 12.0))
    source = open_mkt(tmp_path / "a.mkt")
    assert isinstance(source.read(0), Frame)
    source.close()
    source.close()
    with pytest.raises(EndOfSource):
        source.read(0)
