"""The interpolations against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from random_models import random_image

from clesr.engines.common.resample import quantise, resize
from clesr.engines.interpolation import METHODS, interpolate, open_interpolation

SHAPES = [(16, 24), (7, 5), (1, 9), (6, 1), (1, 1)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_bicubic_is_resize(dtype: type, scale: int, shape: tuple[int, int]) -> None:
    image = random_image(shape, dtype)
    expected = quantise(resize(image, shape[0] * scale, shape[1] * scale), image.dtype)
    result = interpolate(image, method="bicubic", scale=scale)
    assert result.dtype == dtype
    assert np.abs(result.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_bilinear_has_half_pixel_centres(dtype: type, scale: int, shape: tuple[int, int]) -> None:
    image = random_image(shape, dtype)
    expected = image.astype(float)
    for axis, n in enumerate(shape):
        centres = np.clip((np.arange(n * scale) + 0.5) / scale - 0.5, 0, n - 1)
        lines = [np.interp(centres, np.arange(n), line) for line in np.moveaxis(expected, axis, -1)]
        expected = np.moveaxis(np.array(lines), -1, axis)
    result = interpolate(image, method="bilinear", scale=scale)
    assert result.dtype == dtype
    assert np.abs(result - expected).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_nearest_repeats_pixels(dtype: type, scale: int, shape: tuple[int, int]) -> None:
    image = random_image(shape, dtype)
    result = interpolate(image, method="nearest", scale=scale)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, image.repeat(scale, 0).repeat(scale, 1))


@pytest.mark.parametrize("method", METHODS)
def test_engine_says_what_it_is_and_gives_arrays_to_keep(method: str) -> None:
    engine = open_interpolation(method, 2, (6, 8))
    assert (engine.info.engine, engine.info.model, engine.info.model_hash) == ("interpolation", method, "")
    assert engine.info.precision in ("integer", "fp32")
    assert engine.info.sr_shape == (12, 16)
    first, second = random_image((6, 8)), 255 - random_image((6, 8))
    engine.submit(first)
    kept = engine.collect()
    before = kept.copy()
    engine.submit(second)
    other = engine.collect()
    engine.close()
    np.testing.assert_array_equal(kept, before)
    assert kept.flags.writeable
    assert not np.array_equal(kept, other)
