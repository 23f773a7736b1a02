"""TIFF stacks and folders of images."""

from __future__ import annotations

import logging
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from recordings import noise, read_all

from clesr.engines.common.errors import EndOfSource, SourceError
from clesr.pipeline.frame import Frame
from clesr.pipeline.sources.images.files import natural_key, open_images
from clesr.pipeline.sources.images.tiff import open_tiff
from clesr.pipeline.sources.registry import SourceOptions

PAGES = np.stack(noise(6, (33, 21), np.uint16))
BYTES = np.stack(noise(6, (33, 21)))


def same(path: Path, expected: NDArray[Any]) -> None:
    source = open_tiff(path)
    assert source.info.shape == expected.shape[1:]
    assert source.info.frames == len(expected)
    frames, corrupt = read_all(source)
    assert not corrupt
    assert [frame.number for frame in frames] == list(range(len(expected)))
    for frame, page in zip(frames, expected, strict=True):
        assert frame.image.dtype == expected.dtype
        np.testing.assert_array_equal(frame.image, page)


@settings(max_examples=20)
@given(
    height=st.integers(2, 40),
    width=st.integers(2, 40),  # tifffile takes a last axis of 1 for samples
    count=st.integers(2, 5),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    order=st.sampled_from(["<", ">"]),
    compression=st.sampled_from([None, "zlib"]),
    big=st.booleans(),
)
def test_stacks_come_back_bit_for_bit(
    height: int,
    width: int,
    count: int,
    dtype: type[np.generic],
    order: Any,
    compression: str | None,
    big: bool,
) -> None:
    pages = np.stack(noise(count, (height, width), dtype))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"
        options: dict[str, Any] = {"photometric": "minisblack", "compression": compression, "bigtiff": big}
        tifffile.imwrite(path, pages, byteorder=order, **options)
        same(path, pages)


@settings(max_examples=15)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 99),
)
def test_folders_come_back_bit_for_bit(height: int, width: int, dtype: type[np.generic], seed: int) -> None:
    images = noise(3, (height, width), dtype, seed)
    with tempfile.TemporaryDirectory() as folder:
        for name, image in zip(("1.png", "2.tif", "10.pgm"), images, strict=True):
            assert cv2.imwrite(str(Path(folder) / name), image)
        source = open_images(folder)
        frames, corrupt = read_all(source)
    assert not corrupt
    assert source.info.shape == (height, width)
    for frame, image in zip(frames, images, strict=True):
        assert frame.image.dtype == dtype
        np.testing.assert_array_equal(frame.image, image)


@pytest.mark.parametrize(
    ("pages", "expected", "options"),
    [
        (PAGES, PAGES, {"tile": (16, 16)}),
        (PAGES, ~PAGES, {"photometric": "miniswhite"}),
        (PAGES.view(np.int16), PAGES ^ 0x8000, {"photometric": "minisblack"}),
        (BYTES.view(np.int8), BYTES ^ 0x80, {"photometric": "minisblack"}),
        (BYTES > 99, (BYTES > 99) * np.uint8(255), {"photometric": "minisblack"}),
        (np.stack([BYTES] * 3, -1), BYTES, {"photometric": "rgb"}),
        (np.stack([PAGES] * 3, 1), PAGES, {"photometric": "rgb", "planarconfig": "separate"}),
        (
            BYTES,
            255 - BYTES,
            {
                "photometric": "palette",
                "colormap": np.tile(np.arange(255, -1, -1).astype(np.uint16) * 257, (3, 1)),
            },
        ),
    ],
    ids=["tiles", "white is zero", "int16", "int8", "bilevel", "rgb", "planes of colour", "palette"],
)
def test_forms_of_pixels(
    tmp_path: Path, pages: NDArray[Any], expected: NDArray[Any], options: dict[str, Any]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pages, **options)
    same(tmp_path / "a.tif", expected)


def test_a_compression_that_only_opencv_reads(tmp_path: Path) -> None:
    assert cv2.imwritemulti(str(tmp_path / "a.tif"), list(PAGES), [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.pages[0].compression == tifffile.COMPRESSION.LZW
    same(tmp_path / "a.tif", PAGES)


def test_imagej_states_its_rate(tmp_path: Path) -> None:
    for name, metadata in (("a.tif", {"fps": 12.5}), ("b.tif", {"finterval": 0.08})):
        tifffile.imwrite(tmp_path / name, PAGES, imagej=True, metadata={"axes": "TYX", **metadata})
        source = open_tiff(tmp_path / name)
        assert source.info.fps == pytest.approx(12.5)
        frames, _ = read_all(source)
        assert [frame.pts * frame.time_base for frame in frames][:2] == [0, pytest.approx(0.08)]  # type: ignore[operator]


def test_without_a_rate_it_is_constant_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "clesr")
    tifffile.imwrite(tmp_path / "a.tif", PAGES)
    for options, fps in ((SourceOptions(), 25), (SourceOptions(fps=8.0), 8)):
        source = open_tiff(tmp_path / "a.tif", options)
        assert source.info.fps == fps
        frames, _ = read_all(source)
        assert [frame.pts * frame.time_base for frame in frames] == [  # type: ignore[operator]
            Fraction(number, fps) for number in range(6)
        ]
    assert [record.getMessage() for record in caplog.records if record.name.startswith("clesr")] == [
        f"{tmp_path / 'a.tif'} states no times that rise: taken as 25 frames/s (--fps)"
    ]


def test_one_image_has_no_time(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PAGES[0])
    source = open_tiff(tmp_path / "a.tif")
    assert source.info.fps is None
    (frame,), _ = read_all(source)
    assert frame.pts is None


def test_one_page_stacks_of_imagej(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PAGES, imagej=True, truncate=True, metadata={"axes": "TYX"})
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert len(tiff.pages) == 1
    same(tmp_path / "a.tif", PAGES)


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib"}, {"imagej": True, "truncate": True, "metadata": {"axes": "TYX"}}],
    ids=["plain", "zlib", "one page"],
)
def test_a_cut_stack_gives_what_is_there_and_says_so(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PAGES, **options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    frames, corrupt = read_all(open_tiff(path))
    assert 0 < len(frames) < len(PAGES)
    assert corrupt
    for frame in frames:
        np.testing.assert_array_equal(frame.image, PAGES[frame.number])
    assert all("\n" not in item.reason for item in corrupt)


def test_a_cut_lzw_stack(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cv2.imwritemulti(str(tmp_path / "a.tif"), list(PAGES), [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) * 6 // 10])
    frames, corrupt = read_all(open_tiff(tmp_path / "a.tif"))
    assert 0 < len(frames) < len(PAGES)
    assert [item.number for item in corrupt] == [len(frames)]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("dtype", [np.float32, np.uint32])
def test_deeper_pixels_are_refused(tmp_path: Path, dtype: type[np.generic]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PAGES.astype(dtype))
    with pytest.raises(SourceError, match="--window LOW,HIGH"):
        open_tiff(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("content", "says"), [(None, "no such file"), (b"", "not a TIFF"), (b"hello, I am a text", "not a TIFF")]
)
def test_what_is_no_tiff_is_told_in_a_line(
    tmp_path: Path, content: bytes | None, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL + 1, "tifffile")
    if content is not None:
        (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(SourceError, match=says) as raised:
        open_tiff(tmp_path / "a.tif")
    assert "\n" not in str(raised.value)


def test_natural_order() -> None:
    names = ["b1.png", "a10.png", "a2.png", "A1.png", "a2b.png", "10.png", "9.png"]
    ordered = sorted((Path(name) for name in names), key=natural_key)
    assert [path.name for path in ordered] == [
        "9.png",
        "10.png",
        "A1.png",
        "a2.png",
        "a2b.png",
        "a10.png",
        "b1.png",
    ]


def test_a_folder_takes_images_only_and_in_order(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        cv2.imwrite(str(tmp_path / f"frame{number}.png"), np.full((4, 5), number, np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "more.png").mkdir()
    frames, corrupt = read_all(open_images(tmp_path))
    assert [frame.image[0, 0] for frame in frames] == [1, 9, 10]
    assert not corrupt


def test_colour_images_become_luma(tmp_path: Path) -> None:
    colour = np.zeros((2, 3, 3), np.uint8)
    colour[..., 2] = 200  # red, as OpenCV has it
    cv2.imwrite(str(tmp_path / "a.png"), colour)
    cv2.imwrite(str(tmp_path / "b.png"), np.dstack([colour, np.full((2, 3), 7, np.uint8)]))
    frames, _ = read_all(open_images(tmp_path))
    assert [frame.image.tolist() for frame in frames] == [[[60] * 3] * 2] * 2  # 0.299 x 200


def test_images_that_cannot_be_read_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    image = noise(1, (64, 64))[0]
    for name in ("1.png", "2.png", "3.jpg", "6.png"):
        cv2.imwrite(str(tmp_path / name), image)
    for name in ("2.png", "3.jpg"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) * 6 // 10])
    (tmp_path / "4.png").write_bytes(b"")
    (tmp_path / "5.bmp").write_bytes(b"BM but not a bitmap")
    frames, corrupt = read_all(open_images(tmp_path))
    assert [frame.number for frame in frames] == [0, 5]
    assert [item.number for item in corrupt] == [1, 2, 3, 4]
    for item, says in zip(corrupt, ("cut", "cut", "empty", "not an image"), strict=True):
        assert says in item.reason
    assert capfd.readouterr().err == ""


def test_one_image_file(tmp_path: Path) -> None:
    image = noise(1, (5, 7), np.uint16)[0]
    cv2.imwrite(str(tmp_path / "a.png"), image)
    source = open_images(tmp_path / "a.png")
    assert source.info.frames == 1
    (frame,), _ = read_all(source)
    np.testing.assert_array_equal(frame.image, image)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no images"):
        open_images(tmp_path)
    with pytest.raises(SourceError, match="cannot be opened"):
        open_images(tmp_path / "absent")
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match="not an image"):
        open_images(tmp_path / "a.png")


def test_close_ends_reading(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PAGES)
    source = open_tiff(tmp_path / "a.tif")
    assert isinstance(source.read(0), Frame)
    source.close()
    source.close()
    with pytest.raises(EndOfSource):
        source.read(0)
