"""The resampling against Pillow's."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as Pillow

from clesr.engines.resample import polyphase_taps, quantise, resample_matrix, resize

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
    matrix = resample_matrix(*sizes)
    assert matrix.shape == sizes[::-1]
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)


def test_quantise_rounds_and_clips() -> None:
    levels = quantise(np.array([-3.0, 0.4, 0.6, 254.6, 300.0], np.float32), np.dtype(np.uint8))
    assert levels.dtype == np.uint8
    assert levels.tolist() == [0, 0, 1, 255, 255]
    assert quantise(np.array([7e4], np.float32), np.dtype(np.uint16)).tolist() == [65535]


def test_polyphase_form_is_for_even_scales() -> None:
    np.testing.assert_allclose(polyphase_taps(4).sum((1, 2, 3)), 1, atol=1e-6)
    with pytest.raises(ValueError, match="scale 3 is odd"):
        polyphase_taps(3)
