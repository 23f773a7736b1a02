"""What the numbers of a TIFF become: depths, signs, floats, colour, compressions, orientation."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow
from recordings import mkt_bytes, noise, read_all

from clesr.engines.common.errors import MissingDependencyError, SourceError
from clesr.pipeline.sources.images.gray import Values, turned, turned_shape
from clesr.pipeline.sources.registry import open_source

DEEP = np.stack(noise(3, (18, 26), np.uint16))
BYTES = np.stack(noise(3, (18, 26)))
GRAY = "minisblack"


def images(path: Path, **options: Any) -> NDArray[Any]:
    frames, corrupt = read_all(open_source(str(path), pace="max", **options))
    assert not corrupt, corrupt
    return np.stack([frame.image for frame in frames])


def in_file_and_folder(folder: Path, pages: NDArray[Any], **options: Any) -> NDArray[Any]:
    """The images of a stack, which are the same where each page is a file of a folder."""
    keywords = {name: options.pop(name) for name in ("window",) if name in options}
    tifffile.imwrite(folder / "a.tif", pages, **options)
    (folder / "f").mkdir()
    for number, page in enumerate(pages):
        tifffile.imwrite(folder / "f" / f"{number}.tif", page, **options)
    stack = images(folder / "a.tif", **keywords)
    np.testing.assert_array_equal(images(folder / "f", **keywords), stack)
    return stack


@pytest.mark.parametrize("white", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 14, 16])
def test_every_depth_has_the_full_range(tmp_path: Path, bits: int, white: bool) -> None:
    stored = DEEP >> (16 - bits)
    kept = (1 << bits) - 1 - stored if white else stored
    pages = kept.astype(bool) if bits == 1 else kept.astype(np.uint8) if bits <= 8 else kept
    more = {} if bits in (1, 8, 16) else {"bitspersample": bits}
    found = in_file_and_folder(tmp_path, pages, photometric="miniswhite" if white else GRAY, **more)
    if bits <= 8:
        np.testing.assert_array_equal(found, np.rint(stored * (255 / ((1 << bits) - 1))).astype(np.uint8))
    else:
        np.testing.assert_array_equal(found, stored << (16 - bits))


@pytest.mark.parametrize("white", [False, True])
@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@pytest.mark.parametrize("compression", [None, "lzw"])
def test_signed(tmp_path: Path, dtype: Any, white: bool, compression: str | None) -> None:
    right = BYTES if dtype is np.int8 else DEEP
    top = np.iinfo(right.dtype).max
    half = top // 2 + 1
    shown = top - right if white else right
    pages = (shown.astype(np.int64) - half).astype(dtype)
    kind = "miniswhite" if white else GRAY
    found = in_file_and_folder(tmp_path, pages, photometric=kind, compression=compression)
    np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize(
    "compression",
    ["lzw", "zlib", "zstd", "lzma", "packbits", "png", "jpegxr", "lerc", ("jpeg2000", 0), "jpegxl"],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_compressions_without_loss(tmp_path: Path, compression: Any, dtype: Any) -> None:
    right = BYTES if dtype is np.uint8 else DEEP
    name, level = compression if isinstance(compression, tuple) else (compression, None)
    more: dict[str, Any] = {"compressionargs": {"level": level}} if level is not None else {}
    if name == "jpegxl":
        more = {"compressionargs": {"lossless": True}}
    found = in_file_and_folder(tmp_path, right, photometric=GRAY, compression=name, **more)
    np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour(tmp_path: Path, tile: tuple[int, int] | None, planar: str) -> None:
    colour = np.stack(noise(9, (18, 26))).reshape(3, 3, 18, 26)
    pages = np.moveaxis(colour, 1, -1) if planar == "contig" else colour
    found = in_file_and_folder(
        tmp_path, pages, photometric="rgb", planarconfig=planar, tile=tile, compression="zlib"
    )
    for image, page in zip(found, colour, strict=True):
        np.testing.assert_array_equal(image, cv2.cvtColor(np.moveaxis(page, 0, -1), cv2.COLOR_RGB2GRAY))


def test_ink_is_as_that_of_a_jpeg(tmp_path: Path) -> None:
    ink = np.stack([np.stack([255 - page] * 3 + [np.zeros_like(page)], -1) for page in BYTES])
    np.testing.assert_array_equal(in_file_and_folder(tmp_path, ink, photometric="separated"), BYTES)
    black = np.zeros_like(ink)
    black[..., 3] = 255 - BYTES
    (tmp_path / "b").mkdir()
    np.testing.assert_array_equal(in_file_and_folder(tmp_path / "b", black, photometric="separated"), BYTES)


def test_jpeg_of_colour(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(48), 3 * np.arange(64)).astype(np.uint8)
    Pillow.fromarray(np.stack([smooth] * 3, -1)).save(tmp_path / "a.tif", compression="jpeg")
    assert np.abs(images(tmp_path / "a.tif")[0].astype(int) - smooth).max() < 12


@pytest.mark.parametrize("bits", [1, 4, 8, 16])
@pytest.mark.parametrize("low", [False, True])
def test_palettes(tmp_path: Path, bits: int, low: bool) -> None:
    """Also those that old writers made of 8-bit values."""
    count = 1 << bits
    levels = np.linspace(255 if low else 65535, 0, count).astype(np.uint16)
    indices = (DEEP >> (16 - bits)).astype(np.uint16 if bits == 16 else np.uint8)
    colormap = np.tile(levels, (3, 1))
    pages = indices.astype(bool) if bits == 1 else indices
    write_palette(tmp_path / "a.tif", pages[0], colormap, bits)
    wide = levels.astype(np.uint32) * (257 if low else 1)
    right = wide[indices[0]] if bits == 16 else wide[indices[0]] >> 8
    np.testing.assert_array_equal(images(tmp_path / "a.tif")[0], right)


def write_palette(path: Path, indices: NDArray[Any], colormap: NDArray[np.uint16], bits: int) -> None:
    """One page of colours by number; written as gray, whose meaning is changed then."""
    packed: dict[str, Any] = {} if bits in (1, 8, 16) else {"bitspersample": bits}
    tag = (320, "H", colormap.size, tuple(colormap.ravel().tolist()), True)
    tifffile.imwrite(path, indices, photometric=GRAY, metadata=None, extratags=[tag], **packed)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page: Any = tiff.pages[0]
        page.tags[262].overwrite(3)


FLOATS = (np.float16, np.float32, np.float64)


@pytest.mark.parametrize("dtype", [*FLOATS, np.uint32, np.int32])
@pytest.mark.parametrize("white", [False, True])
def test_floats_and_deep_integers_need_a_window(tmp_path: Path, dtype: Any, white: bool) -> None:
    pages = np.stack([np.linspace(-500, 1500, 18 * 26).reshape(18, 26)] * 2)
    pages = (np.maximum(pages, 0) if dtype is np.uint32 else pages).astype(dtype)
    found = in_file_and_folder(
        tmp_path, pages, photometric="miniswhite" if white else GRAY, window=(0.0, 1000.0)
    )
    share = np.clip(pages.astype(float) / 1000, 0, 1)
    right = np.rint((1 - share if white else share) * 65535)
    assert found.dtype == np.uint16
    assert np.abs(found - right).max() <= 1
    for path in (tmp_path / "a.tif", tmp_path / "f"):
        with pytest.raises(SourceError, match=f"{np.dtype(dtype)} pixels.*--window LOW,HIGH") as raised:
            open_source(str(path))
        assert "\n" not in str(raised.value)


def test_what_is_no_number_is_black(tmp_path: Path) -> None:
    page = np.array([[np.nan, np.inf, -np.inf, 0.5]] * 2, np.float32)
    tifffile.imwrite(tmp_path / "a.tif", page, photometric=GRAY)
    assert images(tmp_path / "a.tif", window=(0.0, 1.0))[0, 0].tolist() == [0, 65535, 0, 32768]


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9), np.complex64), photometric=GRAY)
    with pytest.raises(SourceError, match="of a kind that is not read"):
        open_source(str(tmp_path / "a.tif"), window=(0.0, 1.0))


@pytest.mark.parametrize(
    ("values", "low", "high", "levels"),
    [
        (Values(np.dtype(np.uint16), 16), 100, 900, (100, 900)),
        (Values(np.dtype(np.uint16), 12), 100, 900, (1600, 14400)),
        (Values(np.dtype(np.int16), 16), -100, 900, (32668, 33668)),
        (Values(np.dtype(np.int16), 12), -100, 900, (16 * 1948, 16 * 2948)),
        (Values(np.dtype(np.uint8), 4), 0, 15, (0, 255)),
        (Values(np.dtype(np.uint8), 8, inverted=True), 10, 250, (5, 245)),
        (Values(np.dtype(np.float32), 32), 0.25, 0.5, (0, 65535)),
        (Values(np.dtype(np.bool_), 1), 0, 1, (0, 255)),
    ],
)
def test_a_window_is_in_values_of_the_file(
    values: Values, low: float, high: float, levels: tuple[float, float]
) -> None:
    assert values.levels(low, high) == levels


def test_a_window_is_in_values_of_each_file_of_a_folder(tmp_path: Path) -> None:
    """Of every depth, sign and kind."""
    values = np.linspace(-100, 300, 18 * 26).reshape(18, 26)
    kinds = {"a": np.int16, "b": np.uint8, "c": np.uint16, "d": np.float32, "e": np.int32}
    for name, dtype in kinds.items():
        stored = (values if dtype in (np.int16, np.float32, np.int32) else np.clip(values, 0, 255)).astype(
            dtype
        )
        more: dict[str, Any] = {"bitspersample": 12} if name == "c" else {}
        tifffile.imwrite(tmp_path / f"{name}.tif", stored, photometric=GRAY, **more)
    right = np.clip((values - 20) / 180, 0, 1) * 65535
    for found in images(tmp_path, window=(20.0, 200.0)):
        assert np.abs(found - right).max() <= 65535 / 180  # a step of the integers


def test_a_window_is_in_values_of_a_cellvizio_file(tmp_path: Path) -> None:
    (tmp_path / "a.mkt").write_bytes(mkt_bytes([np.zeros((2, 576), np.int16)], 12.0))
    with closing(open_source(str(tmp_path / "a.mkt"), window=(-100.0, 900.0))) as source:
        assert source.info.window == (32668, 33668)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("imagej", [False, True])
def test_orientation_of_a_tiff(tmp_path: Path, orientation: int, imagej: bool) -> None:
    """In a stack, where the first page alone may say it, and in a folder."""
    right = np.stack([np.asarray(turned(page, orientation)) for page in DEEP])
    tag = (274, "H", 1, orientation, True)
    more: dict[str, Any] = {"metadata": {"axes": "TYX"}} if imagej else {"photometric": GRAY}
    tifffile.imwrite(tmp_path / "a.tif", DEEP, extratags=[tag], imagej=imagej, **more)
    np.testing.assert_array_equal(images(tmp_path / "a.tif"), right)
    with closing(open_source(str(tmp_path / "a.tif"))) as source:
        shape = source.info.shape
    assert shape == right.shape[1:] == turned_shape((18, 26), orientation)


def test_orientations_are_those_of_the_standard() -> None:
    """Where the first row and the first column are, as TIFF 6.0 says it."""
    image = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    right = {
        2: [[3, 2, 1], [6, 5, 4]], 3: [[6, 5, 4], [3, 2, 1]], 4: [[4, 5, 6], [1, 2, 3]], 5: [[1, 4], [2, 5], [3, 6]],
        6: [[4, 1], [5, 2], [6, 3]], 7: [[6, 3], [5, 2], [4, 1]], 8: [[3, 6], [2, 5], [1, 4]],
    }  # fmt: skip
    for orientation, seen in right.items():
        assert turned(image, orientation).tolist() == seen
    for other in (0, 1, 9):
        assert turned(image, other) is image


@pytest.mark.parametrize("compression", ["lzw", "zlib", "png"])
def test_a_damaged_page_is_one_corrupt_frame(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, DEEP, compression=compression, photometric=GRAY, rowsperstrip=6)
    with tifffile.TiffFile(path) as tiff:
        at, count = tiff.pages[1].dataoffsets[1], tiff.pages[1].databytecounts[1]
    data = bytearray(path.read_bytes())
    data[at + count // 3 : at + count] = b"\xff" * (count - count // 3)
    path.write_bytes(data)
    frames, corrupt = read_all(open_source(str(path), pace="max"))
    assert [frame.number for frame in frames] == [0, 2]
    assert [item.number for item in corrupt] == [1]


def test_a_part_that_was_never_written_is_no_black_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, DEEP, compression="zlib", photometric=GRAY, rowsperstrip=6)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page: Any = tiff.pages[1]
        tag = page.tags[279]
        tag.overwrite([tag.value[0], 0, tag.value[2]])
    frames, corrupt = read_all(open_source(str(path), pace="max"))
    assert (len(frames), len(corrupt)) == (2, 1)
    assert "never written" in corrupt[0].reason


@pytest.mark.parametrize("options", [{"compression": "lzw"}, {"bitspersample": 12}])
def test_without_imagecodecs_there_is_one_line(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DEEP >> 4, photometric=GRAY, **options)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(MissingDependencyError, match="run: pip install imagecodecs") as raised:
        open_source(str(tmp_path / "a.tif"))
    assert "\n" not in str(raised.value)
