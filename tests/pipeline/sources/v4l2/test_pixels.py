"""Every pixel format against bytes written by hand, and Motion-JPEG against OpenCV's encoder."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clesr.engines.common.errors import UsageError
from clesr.pipeline.sources.v4l2.jpeg import Damaged
from clesr.pipeline.sources.v4l2.pixels import FORMATS, BufferDecoder, find_format, stated_levels

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
        UsageError, match="pixel format 'RGB9' is not one that clesr reads; give one of Y16, "
    ):
        find_format("RGB9")
    assert find_format("GREY").code == 0x59455247
    bits = [pixel_format.bits for pixel_format in FORMATS]
    assert bits == sorted(bits, reverse=True)
    assert len({pixel_format.code for pixel_format in FORMATS}) == len(FORMATS)
    assert find_format("Y16_BE").code == 0xA0363159
    assert (find_format("i420").fourcc, find_format("YUY2").fourcc) == ("YU12", "YUYV")


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


LUMA = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
PLANAR = ("NV12", "NV21", "YU12", "YV12", "NM12", "NM21", "YM12", "YM21", "NV16", "422P")


@pytest.mark.parametrize("name", PLANAR)
def test_planar_formats_give_their_first_plane(name: str) -> None:
    data = padded(LUMA, 8) + b"\x55\xaa" * 48
    np.testing.assert_array_equal(BufferDecoder(find_format(name), SIZE, 8).decode(data), LUMA)


@pytest.mark.parametrize(("name", "offset"), [("YUYV", 0), ("YVYU", 0), ("UYVY", 1), ("VYUY", 1)])
@pytest.mark.parametrize("stride", [12, 20])
def test_packed_formats_give_their_luma(name: str, offset: int, stride: int) -> None:
    packed = np.full((4, 12), 0x55, np.uint8)
    packed[:, offset::2] = LUMA
    data = padded(packed, stride)[: 3 * stride + 12]
    np.testing.assert_array_equal(BufferDecoder(find_format(name), SIZE, stride).decode(data), LUMA)
    with pytest.raises(Damaged, match="bytes came"):
        BufferDecoder(find_format(name), SIZE, stride).decode(data[: -2 + offset])


@pytest.mark.parametrize("stride", [18, 32])
def test_colours_become_luma(stride: int) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (4, 6, 3), np.uint8, endpoint=True)
    expected = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    for name, stored in (("BGR3", pixels), ("RGB3", pixels[..., ::-1])):
        data = padded(np.ascontiguousarray(stored).reshape(4, 18), stride)
        for levels in ("auto", "limited"):  # of luma alone
            image = BufferDecoder(find_format(name), SIZE, stride, levels).decode(data)
            np.testing.assert_array_equal(image, expected)


def test_big_endian_samples() -> None:
    samples = np.arange(24).reshape(4, 6) * 2741
    data = padded(samples.astype(">u2"), 14)
    np.testing.assert_array_equal(BufferDecoder(find_format("Y16_BE"), SIZE, 14).decode(data), samples)


@pytest.mark.parametrize("width", [8, 6, 5])
@pytest.mark.parametrize(("name", "bits"), [("Y10P", 10), ("Y12P", 12)])
def test_packed_samples(name: str, bits: int, width: int) -> None:
    samples = np.random.default_rng(1).integers(0, 1 << bits, (3, width))
    group = 8 // (bits - 8)
    rows = []
    for row in samples:
        full = [*row, *[0] * (-width % group)]
        line = b""
        for at in range(0, len(full), group):
            part = full[at : at + group]
            low = sum(
                (int(value) & ((1 << (bits - 8)) - 1)) << (bits - 8) * i for i, value in enumerate(part)
            )
            line += bytes(int(value) >> (bits - 8) for value in part) + bytes([low])
        rows.append(line.ljust(24, b"\xee"))
    image = BufferDecoder(find_format(name), (width, 3), 24).decode(b"".join(rows))
    np.testing.assert_array_equal(image, samples << (16 - bits))


@pytest.mark.parametrize(("quantization", "asked", "levels"), [
    (0, "auto", "auto"), (1, "auto", "full"), (2, "auto", "limited"), (2, "full", "full"), (0, "limited", "limited"),
])  # fmt: skip
def test_quantization_is_honoured_unless_asked_otherwise(quantization: int, asked: str, levels: str) -> None:
    assert stated_levels(quantization, asked) == levels


def test_limited_range_is_stretched() -> None:
    samples = np.array([[0, 16, 126, 235, 240, 255]] * 4, np.uint8)
    image = BufferDecoder(find_format("GREY"), SIZE, 6, "limited").decode(samples.tobytes())
    np.testing.assert_array_equal(image[0], [0, 0, 128, 255, 255, 255])
    deep = np.array([[0, 64, 502, 940, 960, 1023]] * 4, "<u2")
    image = BufferDecoder(find_format("Y10"), SIZE, 12, "limited").decode(deep.tobytes())
    np.testing.assert_array_equal(image[0] >> 6, [0, 0, 511, 1023, 1023, 1023])


def h264_of(images: list[NDArray[np.uint8]]) -> list[bytes]:
    context = av.VideoCodecContext.create("libx264", "w")
    context.height, context.width, context.pix_fmt = *images[0].shape, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.options = {"qp": "4", "preset": "ultrafast", "tune": "zerolatency"}
    frames = [av.VideoFrame.from_ndarray(image, "gray").reformat(format="yuv420p") for image in images]
    return [bytes(packet) for frame in (*frames, None) for packet in context.encode(frame)]


def test_h264_pictures_come_one_for_each_buffer() -> None:
    images = [np.roll(smooth(), 2 * step, axis=1) for step in range(5)]
    packets = h264_of(images)
    assert len(packets) == 5
    decoder = BufferDecoder(find_format("H264"), (160, 120), 0)
    for packet, image in zip(packets, images, strict=True):
        assert np.abs(decoder.decode(packet).astype(int) - image).max() <= 3
    late = BufferDecoder(find_format("H264"), (160, 120), 0)
    with pytest.raises(Damaged, match=r"H\.264 picture"):
        late.decode(packets[2])
    with pytest.raises(Damaged, match=r"H\.264 picture"):
        late.decode(b"")
    assert np.abs(late.decode(packets[0]).astype(int) - images[0]).max() <= 3


def camera_jpegs() -> dict[str, bytes]:
    """Forms in which cameras send ``smooth()``."""
    gray = smooth()
    jpeg = jpeg_of(gray)

    def field(lines: NDArray[np.uint8], polarity: int) -> bytes:
        coded = jpeg_of(lines)
        mark = b"AVI1" + bytes([polarity, 0]) + struct.pack(">II", len(coded) + 18, len(coded) + 18)
        return coded[:2] + b"\xff\xe0" + struct.pack(">H", 2 + len(mark)) + mark + coded[2:]

    done, restarts = cv2.imencode(
        ".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_RST_INTERVAL, 4]
    )
    assert done
    return {
        "FF behind": jpeg + b"\xff" * 40,
        "D9 behind": jpeg + b"\xd9" * 3,
        "an older image behind": jpeg + jpeg[-300:-2],
        "all of an older image behind": jpeg + jpeg,
        "line end behind": jpeg + b"\r\n",
        "zeros before": b"\0\0" + jpeg,
        "fill bytes": jpeg[:-2] + b"\xff\xff\xff\xd9",
        "no end": jpeg[:-2],
        "no end, zeros behind": jpeg[:-2] + bytes(100),
        "restarts": restarts.tobytes() + b"\xff" * 7,
        "upper field first": field(gray[::2], 1) + field(gray[1::2], 2) + b"\xff" * 9,
        "lower field first": field(gray[1::2], 2) + field(gray[::2], 1),
        "fields with padding": field(gray[::2], 1) + bytes(30) + field(gray[1::2], 2),
    }


@pytest.mark.parametrize("form", camera_jpegs())
def test_jpeg_as_cameras_send_it(form: str) -> None:
    decoder = BufferDecoder(find_format("MJPG"), (160, 120), 0)
    for _ in range(2):
        assert np.abs(decoder.decode(camera_jpegs()[form]).astype(int) - smooth()).max() <= 8


def test_a_jpeg_without_an_end_is_whole_or_refused() -> None:
    rng = np.random.default_rng(5)
    jpeg = jpeg_of((smooth() // 2 + rng.integers(0, 100, (120, 160))).astype(np.uint8))
    decoder = BufferDecoder(find_format("MJPG"), (160, 120), 0)
    whole = decoder.decode(jpeg)
    np.testing.assert_array_equal(decoder.decode(jpeg[:-2]), whole)
    for missing in (*range(3, 70), 100, 1000, len(jpeg) - 700):
        with pytest.raises(Damaged, match="cut off"):
            decoder.decode(jpeg[:-missing])


def test_one_of_two_fields_is_no_image() -> None:
    both = camera_jpegs()["upper field first"]
    with pytest.raises(Damaged, match="one of its two fields"):
        BufferDecoder(find_format("MJPG"), (160, 120), 0).decode(both[: both.index(b"\xff\xd9") + 2])
