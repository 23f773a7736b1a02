"""The resampling against Pillow's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from clesr.engines.common import resample
from clesr.engines.common.resample import cubic_kernel, polyphase_taps, quantise, resampling, resize
from clesr.pipeline.frame import Image

SIZES = [
    ((64, 80), (32, 40)),
    ((64, 80), (16, 20)),
    ((64, 80), (8, 10)),
    ((17, 23), (68, 92)),
    ((30, 31), (7, 50)),
]


@pytest.mark.parametrize(("size", "to"), SIZES)
def test_equals_pillow_in_floating_point(size: tuple[int, int], to: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    pillow = Pillow.fromarray(image.astype(np.float32)).resize((to[1], to[0]), Pillow.Resampling.BICUBIC)
    np.testing.assert_allclose(resize(image, *to), np.asarray(pillow), rtol=0, atol=2e-3)


@pytest.mark.parametrize(("size", "to"), SIZES)
def test_is_within_a_grey_level_of_pillow_in_8_bit(size: tuple[int, int], to: tuple[int, int]) -> None:
    # kept off black and white: Pillow clips between its two passes
    image = np.random.default_rng(0).integers(60, 196, size, np.uint8)
    pillow = np.asarray(Pillow.fromarray(image).resize((to[1], to[0]), Pillow.Resampling.BICUBIC))
    ours = quantise(resize(image, *to), image.dtype)
    assert np.abs(ours.astype(int) - pillow).max() <= 1


@pytest.mark.parametrize("sizes", [(10, 40), (40, 10), (7, 3), (1, 5), (5, 1), (4, 4)])
def test_rows_sum_to_one(sizes: tuple[int, int]) -> None:
    matrix = resampling(*sizes).matrix()
    assert matrix.shape == sizes[::-1]
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)


def dense(n_in: int, n_out: int) -> NDArray[np.float64]:
    """Every weight of every sample."""
    ratio = n_in / n_out
    centres = (np.arange(n_out) + 0.5) * ratio - 0.5
    weights = cubic_kernel((np.arange(n_in) - centres[:, None]) / max(ratio, 1.0))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float64)


@given(st.integers(1, 200), st.integers(1, 200))
def test_taps_are_those_of_the_whole_matrix(n_in: int, n_out: int) -> None:
    line = resampling(n_in, n_out)
    np.testing.assert_allclose(line.matrix(), dense(n_in, n_out), rtol=0, atol=1e-7)
    assert line.weights.shape[1] <= max(4, 4 * n_in / n_out + 1)


@given(st.tuples(*[st.integers(1, 120)] * 4), st.sampled_from([np.uint8, np.uint16]))
def test_an_image_is_multiplied_by_both_matrices(sizes: tuple[int, int, int, int], dtype: type) -> None:
    height, width, *to = sizes
    image: Image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width)).astype(dtype)
    expected = dense(height, to[0]) @ image @ dense(width, to[1]).T
    np.testing.assert_allclose(resize(image, *to), expected, rtol=0, atol=3e-6 * np.iinfo(dtype).max)


def test_strips_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 90), np.uint8)
    whole = resize(image, 50, 270)
    monkeypatch.setattr(resample, "PRODUCT", 7 * resample.BLOCK)
    np.testing.assert_allclose(resize(image, 50, 270), whole, rtol=0, atol=1e-4)


def test_quantise_rounds_and_clips() -> None:
    levels = quantise(np.array([-3.0, 0.4, 0.6, 254.6, 300.0], np.float32), np.dtype(np.uint8))
    assert levels.dtype == np.uint8
    assert levels.tolist() == [0, 0, 1, 255, 255]
    assert quantise(np.array([7e4], np.float32), np.dtype(np.uint16)).tolist() == [65535]


def test_polyphase_form_is_for_even_scales() -> None:
    np.testing.assert_allclose(polyphase_taps(4).sum((1, 2, 3)), 1, atol=1e-6)
    with pytest.raises(ValueError, match="scale 3 is odd"):
        polyphase_taps(3)
