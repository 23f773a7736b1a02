"""Every pixel format against bytes written by hand, and Motion-JPEG against OpenCV's encoder."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clesr.engines.common.errors import UsageError
from clesr.pipeline.sources.v4l2.pixels import FORMATS, BufferDecoder, Damaged, find_format

SIZE = (6, 4)  # width, height


def padded(rows: NDArray[np.generic], stride: int) -> bytes:
    """The rows as bytes, each filled up to ``stride`` with 0xEE."""
    return b"".join(row.tobytes().ljust(stride, b"\xee") for row in rows)


def jpeg_of(image: NDArray[np.uint8]) -> bytes:
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert done
    return data.tobytes()


def without_huffman_tables(jpeg: bytes) -> bytes:
    """As cameras send it: the DHT segments are left out."""
    kept, at = bytearray(jpeg[:2]), 2
    while jpeg[at + 1] != 0xDA:
        length = 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        kept += b"" if jpeg[at + 1] == 0xC4 else jpeg[at : at + length]
        at += length
    return bytes(kept + jpeg[at:])


def smooth(width: int = 160, height: int = 120) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    return np.asarray(128 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7), np.uint8)


def test_format_names() -> None:
    assert find_format("mjpeg") is find_format("MJPG")
    assert find_format(" y10 ").fourcc == "Y10 "
    with pytest.raises(
        UsageError, match="pixel format 'RGB3' is not one that clesr reads; give one of Y16, "
    ):
        find_format("RGB3")
    assert find_format("GREY").code == 0x59455247
    assert [pixel_format.bits for pixel_format in FORMATS] == [16, 12, 10, 8, 8, 8, 8]


@pytest.mark.parametrize(("name", "bits"), [("Y10", 10), ("Y12", 12), ("Y16", 16)])
@pytest.mark.parametrize("stride", [12, 16])
def test_deep_gray_is_shifted_to_the_top(name: str, bits: int, stride: int) -> None:
    samples = np.arange(24).reshape(4, 6) * 2741 % (1 << bits)
    samples[3, 5] = (1 << bits) - 1
    image = BufferDecoder(find_format(name), SIZE, stride).decode(padded(samples.astype("<u2"), stride))
    assert image.dtype == np.uint16
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, samples.astype(np.uint16) << (16 - bits))


@pytest.mark.parametrize("stride", [0, 6, 9])
def test_grey_with_and_without_padding(stride: int) -> None:
    samples = np.arange(24, dtype=np.uint8).reshape(4, 6) * 9
    image = BufferDecoder(find_format("GREY"), SIZE, stride).decode(padded(samples, max(stride, 6)))
    np.testing.assert_array_equal(image, samples)


def test_the_last_line_needs_no_padding() -> None:
    samples = np.arange(24, dtype=np.uint8).reshape(4, 6)
    data = padded(samples, 9)[:-3]
    np.testing.assert_array_equal(BufferDecoder(find_format("GREY"), SIZE, 9).decode(data), samples)
    with pytest.raises(Damaged, match="32 bytes came, 6x4 GREY has 33"):
        BufferDecoder(find_format("GREY"), SIZE, 9).decode(data[:-1])


def test_yuyv_gives_its_luma() -> None:
    luma = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    packed = np.full((4, 12), 0x55, np.uint8)
    packed[:, ::2] = luma
    image = BufferDecoder(find_format("YUYV"), SIZE, 20).decode(padded(packed, 20))
    np.testing.assert_array_equal(image, luma)
    assert image.flags.c_contiguous


def test_nv12_gives_its_first_plane() -> None:
    luma = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    image = BufferDecoder(find_format("NV12"), SIZE, 8).decode(padded(luma, 8) + b"\x55\xaa" * 8)
    np.testing.assert_array_equal(image, luma)


@pytest.mark.parametrize("name", ["GREY", "Y16", "YUYV"])
def test_the_image_is_a_copy(name: str) -> None:
    data = bytearray(b"\x11" * 96)
    image = BufferDecoder(find_format(name), SIZE, 0).decode(memoryview(data))
    before = image.copy()
    data[:] = b"\x77" * 96
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("strip", [False, True])
def test_jpeg_luma(colour: bool, strip: bool) -> None:
    gray = smooth()
    jpeg = jpeg_of(np.stack([gray] * 3, axis=-1) if colour else gray)
    data = without_huffman_tables(jpeg) if strip else jpeg
    assert (len(data) < len(jpeg)) is strip
    image = BufferDecoder(find_format("MJPG"), (160, 120), 0).decode(data + b"\0" * 40)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - gray).max() <= 6


def test_damaged_jpeg_is_refused_and_the_next_one_decodes() -> None:
    rng = np.random.default_rng(5)
    jpeg = jpeg_of((smooth() // 2 + rng.integers(0, 100, (120, 160))).astype(np.uint8))
    middle = len(jpeg) // 2
    decoder = BufferDecoder(find_format("MJPG"), (160, 120), 0)
    whole = decoder.decode(jpeg)
    for data, reason in (
        (b"", "begin"),
        (b"\0" * 20 + jpeg[20:], "begin"),
        (jpeg[:middle], "cut off"),
        (jpeg[:middle] + jpeg[middle + 2000 :], "does not decode"),
        (jpeg_of(smooth(80, 60)), "is 80x60, not 160x120"),
        (b"\xff\xd8\xff\xd9", "JPEG image"),
    ):
        with pytest.raises(Damaged, match=reason):
            decoder.decode(data)
        np.testing.assert_array_equal(decoder.decode(jpeg), whole)
