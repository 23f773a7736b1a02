"""Luma of every kind of pixel format, against values worked out here."""

from __future__ import annotations

from fractions import Fraction

import av
import av.filter
import numpy as np
import pytest
from numpy.typing import NDArray

from clesr.pipeline.sources.images.gray import gray
from clesr.pipeline.video.luma import luma

WIDTH, HEIGHT = 70, 6  # rows that FFmpeg pads
LIMITED, FULL = 1, 2


def frame_of(name: str, samples: NDArray[np.generic], color_range: int = 0) -> av.VideoFrame:
    """A frame whose first plane has ``samples`` in the format's own dtype, the others are arbitrary."""
    frame = av.VideoFrame(WIDTH, HEIGHT, name)
    for plane in frame.planes:
        np.frombuffer(memoryview(plane), np.uint8)[:] = 77
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    data = np.ascontiguousarray(samples).view(np.uint8)
    rows[:HEIGHT, : data.shape[1]] = data
    frame.color_range = color_range
    return frame


def samples(bits: int, dtype: str, seed: int = 0) -> NDArray[np.generic]:
    values = np.random.default_rng(seed).integers(0, 1 << bits, (HEIGHT, WIDTH))
    values[0, :4] = 0, (1 << bits) - 1, 16 << (bits - 8), 235 << (bits - 8)
    return values.astype(dtype)


def expanded(values: NDArray[np.generic], bits: int, container: int) -> NDArray[np.int64]:
    """Rec. ITU-R BT.601: black 16, white 235 of 256."""
    level = (values.astype(float) - (16 << (bits - 8))) / (219 << (bits - 8))
    white = ((1 << bits) - 1) << (container - bits)
    full: NDArray[np.int64] = np.rint(level.clip(0, 1) * white).astype(np.int64)
    return full


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p", "yuva420p", "nv12", "nv21"])
@pytest.mark.parametrize("color_range", [0, LIMITED])
def test_limited_range_is_expanded(name: str, color_range: int) -> None:
    values = samples(8, "u1")
    image = luma(frame_of(name, values, color_range))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expanded(values, 8, 8))
    assert list(image[0, :4]) == [0, 255, 0, 255]


@pytest.mark.parametrize(
    ("name", "color_range"),
    [("yuv420p", FULL), ("nv12", FULL), ("yuvj420p", 0), ("yuvj422p", FULL), ("gray", 0), ("gray", LIMITED)],
)
def test_full_range_is_taken_as_it_is(name: str, color_range: int) -> None:
    values = samples(8, "u1")
    np.testing.assert_array_equal(luma(frame_of(name, values, color_range)), values)


@pytest.mark.parametrize(
    ("name", "bits"), [("gray9le", 9), ("gray10le", 10), ("gray12le", 12), ("gray14le", 14)]
)
def test_gray_is_shifted_to_the_top(name: str, bits: int) -> None:
    values = samples(bits, "<u2")
    image = luma(frame_of(name, values))
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, values.astype(int) << (16 - bits))


@pytest.mark.parametrize(("name", "dtype"), [("gray16le", "<u2"), ("gray16be", ">u2")])
def test_16_bit_gray_keeps_every_bit(name: str, dtype: str) -> None:
    values = samples(16, dtype)
    image = luma(frame_of(name, values))
    assert image.dtype == np.uint16
    assert image.dtype.isnative
    np.testing.assert_array_equal(image, values)


@pytest.mark.parametrize(("name", "bits"), [("yuv420p10le", 10), ("yuv422p12le", 12), ("yuv444p16le", 16)])
def test_deep_limited_range_is_expanded(name: str, bits: int) -> None:
    values = samples(bits, "<u2")
    image = luma(frame_of(name, values))
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, expanded(values, bits, 16))


def test_deep_samples_in_the_upper_bits() -> None:
    values = samples(10, "<u2")
    stored = values << np.uint16(6)  # type: ignore[operator]
    np.testing.assert_array_equal(luma(frame_of("p010le", stored)), expanded(values, 10, 16))
    np.testing.assert_array_equal(luma(frame_of("p010le", stored, FULL)), stored)


@pytest.mark.parametrize(("name", "at"), [("yuyv422", 0), ("yvyu422", 0), ("uyvy422", 1)])
def test_packed_luma(name: str, at: int) -> None:
    values = samples(8, "u1")
    packed = np.full((HEIGHT, 2 * WIDTH), 9, np.uint8)
    packed[:, at::2] = values
    np.testing.assert_array_equal(luma(frame_of(name, packed)), expanded(values, 8, 8))


def test_alpha_of_gray_is_left_out() -> None:
    values = samples(8, "u1")
    packed = np.full((HEIGHT, 2 * WIDTH), 9, np.uint8)
    packed[:, ::2] = values
    np.testing.assert_array_equal(luma(frame_of("ya8", packed)), values)


@pytest.mark.parametrize("name", ["rgb24", "bgr24", "rgba", "bgra", "gbrp", "rgb0"])
def test_colour_becomes_bt601_luma(name: str) -> None:
    colour = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(colour, format="rgb24").reformat(format=name)
    expected = colour @ np.array([0.299, 0.587, 0.114])
    image = luma(frame)
    assert image.dtype == np.uint8
    assert np.abs(image - expected).max() <= 0.51


@pytest.mark.parametrize(("name", "dtype"), [("rgb24", np.uint8), ("gbrp", np.uint8), ("rgb48le", np.uint16)])
def test_gray_in_colour_keeps_its_values(name: str, dtype: type[np.uint8 | np.uint16]) -> None:
    values = samples(8 * np.dtype(dtype).itemsize, np.dtype(dtype).str)
    same = np.repeat(values[..., None], 3, axis=2)
    packed = "rgb24" if dtype == np.uint8 else "rgb48le"
    frame = av.VideoFrame.from_ndarray(same, format=packed).reformat(format=name)
    np.testing.assert_array_equal(luma(frame), values)


def test_palette_and_bilevel() -> None:
    values = (samples(8, "u1") > 128).astype(np.uint8) * np.uint8(255)  # type: ignore[operator]
    for name in ("monow", "monob"):
        frame = av.VideoFrame.from_ndarray(values, format="gray").reformat(format=name)
        np.testing.assert_array_equal(luma(frame), values)


def test_the_image_is_its_own_memory() -> None:
    frame = frame_of("gray", samples(8, "u1"))
    image = luma(frame)
    before = image.copy()
    np.frombuffer(memoryview(frame.planes[0]), np.uint8)[:] = 0
    np.testing.assert_array_equal(image, before)
    assert image.flags.c_contiguous
    assert image.flags.writeable


def test_alpha_of_colour_is_left_out() -> None:
    colour = np.full((2, 2, 4), 50, np.uint8)
    colour[..., 3] = 0
    np.testing.assert_array_equal(gray(colour, blue_first=False), np.full((2, 2), 50))


@pytest.mark.parametrize("name", ["gray", "gray16le", "yuv420p", "yuyv422", "rgb24"])
def test_images_that_are_stored_bottom_up(name: str) -> None:
    upright = av.VideoFrame.from_ndarray(samples(8, "u1").astype(np.uint8), format="gray").reformat(
        format=name
    )
    graph = av.filter.Graph()
    links = [
        graph.add_buffer(width=WIDTH, height=HEIGHT, format=av.VideoFormat(name), time_base=Fraction(1, 25))
    ]
    links += [graph.add("vflip"), graph.add("buffersink")]
    graph.link_nodes(*links).configure()
    graph.push(upright)
    flipped = graph.pull()
    assert isinstance(flipped, av.VideoFrame)
    assert flipped.planes[0].line_size < 0
    difference = luma(flipped).astype(int) - luma(upright)[::-1]
    assert np.abs(difference).max() <= (0 if name.startswith("gray") else 1)
