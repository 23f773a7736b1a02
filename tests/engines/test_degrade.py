"""The degradation in bands against the plain one, and the correction that it can be undone with."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from clesr.engines import degrade
from clesr.engines.common import resample
from clesr.engines.common.resample import resampling, resize
from clesr.engines.degrade import REACH, Bands, Corrector, Degrader, correction
from clesr.pipeline.fidelity import FidelityCheck
from clesr.pipeline.frame import Image

CASES = [
    ((40, 52), 4),
    ((33, 47), 2),
    ((17, 21), 8),
    ((5, 3), 4),
    ((1, 1), 8),
    ((64, 9), 2),
    ((1, 300), 4),
    ((141, 1), 2),
]


def rounded(levels: NDArray[np.floating[Any]], dtype: type) -> Image:
    image: Image = np.clip(np.rint(levels), 0, np.iinfo(dtype).max).astype(dtype)
    return image


def noise(shape: tuple[int, int], dtype: type, low: float = 0.0, high: float = 1.0) -> Image:
    """Noise between two shares of the range of ``dtype``."""
    levels = np.random.default_rng(5).uniform(low, high, shape) * np.iinfo(dtype).max
    return rounded(levels, dtype)


def smooth(shape: tuple[int, int], dtype: type) -> Image:
    y, x = np.mgrid[: shape[0], : shape[1]]
    wave = 0.5 + 0.2 * np.sin(x / 6) + 0.2 * np.cos(y / 9 + x / 20)
    return rounded(wave * np.iinfo(dtype).max, dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("shape", "scale"), CASES)
def test_bands_give_what_the_whole_matrix_gives(shape: tuple[int, int], scale: int, dtype: type) -> None:
    sr = noise((shape[0] * scale, shape[1] * scale), dtype)
    found = Degrader(shape, scale)(sr).astype(float)
    expected = resize(sr, *shape)
    assert found.shape == shape
    top = np.iinfo(dtype).max
    assert np.abs(found - np.clip(expected, 0, top)).max() < 0.5 + 1e-6 * top


def whole_inverse(count: int, scale: int) -> NDArray[np.float64]:
    """The Moore-Penrose inverse of the degradation of a line of ``count`` LR pixels, all of it."""
    return np.linalg.pinv(resampling(count * scale, count).matrix().astype(np.float64))


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 19, 20, 64, 127, 128, 129, 130, 161])
def test_the_correction_of_a_line_of_any_length_is_that_of_the_whole_matrix(count: int, scale: int) -> None:
    """Also where it is put together from the ends and the middle of a shorter line."""
    line = correction(count, scale, spread=20)
    expected = whole_inverse(count, scale)
    far = np.abs(np.arange(count) - np.arange(count * scale)[:, None] // scale) > 20
    assert np.abs(np.where(far, 0, line.matrix() - expected)).max() < 3e-7
    assert np.abs(expected[far]).max(initial=0) < 1e-7, "what is left out is nothing to float32"


@pytest.mark.parametrize(("count", "scale"), [(140, 2), (140, 4), (133, 8), (5, 8)])
def test_bands_of_any_block_are_the_matrix_near_its_diagonal(count: int, scale: int) -> None:
    """Those of the host and of the device differ in their blocks alone."""
    image = noise((count, 3), np.uint8).astype(np.float32)
    for block in (4, 16):
        bands = Bands(
            correction(count, scale, spread=block + REACH), height=block * scale, step=block, reach=REACH
        )
        padded = np.zeros((bands.length, 3), np.float32)
        padded[REACH : REACH + count] = image
        out = np.zeros((bands.size, 3), np.float32)
        bands.down(padded, out)
        first = np.arange(count * scale)[:, None] // scale // block * block
        columns = np.arange(count)
        near = (columns >= first - REACH) & (columns < first + block + REACH)
        expected = np.where(near, whole_inverse(count, scale), 0) @ image
        np.testing.assert_allclose(out[: count * scale], expected, atol=1e-4)


def peak(work: Callable[[], object]) -> int:
    """Bytes that ``work`` held at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("consistent", [False, True])
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("across", [False, True])
def test_memory_is_in_proportion_to_the_image(scale: int, across: bool, consistent: bool) -> None:
    """Of bicubic image, check and correction, for a line of pixels as for any other image."""

    def work(count: int) -> Callable[[], object]:
        shape = (1, count) if across else (count, 1)
        lr = noise(shape, np.uint8)

        def run() -> None:
            for cached in (resampling, resample._blocks, degrade._inverse):
                cached.cache_clear()
            sr = rounded(resize(lr, shape[0] * scale, shape[1] * scale), np.uint8)
            FidelityCheck(shape, scale, consistent=consistent)(lr, sr)

        return run

    work(100)()  # what is made once for all images does not count
    half, whole = peak(work(2000)), peak(work(4000))
    side = 4000 * scale
    assert whole < 1000 * side + 100 * side * scale
    assert whole < 2.3 * half


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_it_is_pillows_bicubic(scale: int) -> None:
    sr = noise((24 * scale, 31 * scale), np.uint8, 0.3, 0.7)
    pillow = Pillow.fromarray(sr.astype(np.float32)).resize((31, 24), Pillow.Resampling.BICUBIC)
    assert np.abs(Degrader((24, 31), scale)(sr) - np.asarray(pillow)).max() < 0.51


def test_parts_and_strips_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    sr = noise((160, 200), np.uint8)
    whole = Degrader((40, 50), 4)(sr)
    monkeypatch.setattr(degrade, "CACHED", 1)
    monkeypatch.setattr(degrade, "PRODUCT", 4 * 32 * 7)
    assert np.array_equal(Degrader((40, 50), 4)(sr), whole)


def test_one_degrader_serves_image_after_image() -> None:
    """Nothing of the image before shows, in particular not at the borders."""
    degrader, flat = Degrader((12, 9), 4), np.full((48, 36), 77, np.uint8)
    degrader(noise((48, 36), np.uint8))
    assert (degrader(flat) == 77).all()
    assert (degrader(np.full((48, 36), 255, np.uint8)) == 255).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("shape", "scale"), CASES)
def test_what_is_corrected_degrades_to_what_was_measured(
    shape: tuple[int, int], scale: int, dtype: type
) -> None:
    lr = noise(shape, dtype, 0.3, 0.7)
    sr = rounded(resize(smooth(shape, dtype), shape[0] * scale, shape[1] * scale), dtype)
    degrader = Degrader(shape, scale)
    before = sr.copy()
    corrected = Corrector(shape, scale)(sr, lr, degrader(sr))
    assert corrected.dtype == dtype
    assert np.array_equal(sr, before), "the image given is left alone"
    difference = np.abs(degrader(corrected).astype(float) - lr)
    step = 1.0 if dtype == np.uint8 else 1e-3 * 65535  # the bands leave out a thousandth
    assert difference.mean() <= step / 2
    assert difference.max() <= 2 * step


def test_what_agrees_already_is_not_changed() -> None:
    sr = smooth((64, 96), np.uint8)
    lr = Degrader((16, 24), 4)(sr)
    assert np.array_equal(Corrector((16, 24), 4)(sr, lr, lr), sr)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_the_correction_brings_an_image_nearer_to_the_truth(scale: int) -> None:
    """It is the smallest change to an image that the measured one allows, and the truth is such an image."""
    shape = (32, 40)
    truth = noise((shape[0] * scale, shape[1] * scale), np.uint8, 0.3, 0.6)
    degrader = Degrader(shape, scale)
    wrong = np.rint(truth * 0.9 + 20 + 10 * np.sin(np.arange(truth.shape[1]) / (3 * scale))).astype(np.uint8)
    corrected = Corrector(shape, scale)(wrong, degrader(truth), degrader(wrong))
    error = np.mean((wrong.astype(float) - truth) ** 2)
    left = np.mean((corrected.astype(float) - truth) ** 2)
    assert left < 0.9 * error


def test_black_and_white_stay_in_range() -> None:
    lr = np.zeros((20, 20), np.uint8)
    lr[5:15, 5:15] = 255
    sr = rounded(resize(lr, 80, 80), np.uint8)
    degrader = Degrader((20, 20), 4)
    corrected = Corrector((20, 20), 4)(sr, lr, degrader(sr))
    assert np.abs(degrader(corrected).astype(int) - lr).mean() < np.abs(degrader(sr).astype(int) - lr).mean()
