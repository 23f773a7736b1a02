from __future__ import annotations

import numpy as np
import pytest
import skimage  # whose parts are loaded when they are used
from numpy.typing import NDArray

from clesr.tools.evaluation.metrics import psnr, ssim, wrapped_psnr


def pair(seed: int, spread: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, 256, (61, 47), np.uint8)
    noise = rng.integers(-spread, spread + 1, reference.shape)
    return reference, np.clip(reference + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("spread", [1, 12, 200])
def test_psnr_and_ssim_agree_with_scikit_image(spread: int) -> None:
    reference, image = pair(0, spread)
    everywhere = np.ones(reference.shape, bool)
    assert psnr(reference, image, everywhere) == pytest.approx(
        skimage.metrics.peak_signal_noise_ratio(reference, image), abs=1e-6
    )
    theirs, similarity = skimage.metrics.structural_similarity(
        reference, image, win_size=11, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=255, full=True,
    )  # fmt: skip
    assert ssim(reference, image, everywhere) == pytest.approx(theirs, abs=1e-6)
    mask = np.random.default_rng(1).random(reference.shape) < 0.3
    assert psnr(reference, image, mask) == pytest.approx(
        skimage.metrics.peak_signal_noise_ratio(reference[mask], image[mask]), abs=1e-6
    )
    inner = mask.copy()
    inner[:5] = inner[-5:] = inner[:, :5] = inner[:, -5:] = False
    assert ssim(reference, image, mask) == pytest.approx(similarity[inner].mean(), abs=1e-6)


@pytest.mark.parametrize("spread", [3, 200])
def test_wrapped_psnr_is_the_literal_8_bit_computation(spread: int) -> None:
    reference, image = pair(2, spread)
    mask = np.random.default_rng(3).random(reference.shape) < 0.5
    squares = [
        ((int(a) - int(b)) % 256) ** 2 % 256 for a, b in zip(reference[mask], image[mask], strict=True)
    ]
    literal = 10 * np.log10(255**2 / np.mean(squares))
    assert wrapped_psnr(reference, image, mask) == pytest.approx(literal, abs=1e-9)
    assert (wrapped_psnr(reference, image, mask) > psnr(reference, image, mask) + 1) == (spread > 15)


def test_equal_images() -> None:
    image, _ = pair(4, 1)
    everywhere = np.ones(image.shape, bool)
    assert psnr(image, image, everywhere) == wrapped_psnr(image, image, everywhere) == np.inf
    assert ssim(image, image, everywhere) == 1
