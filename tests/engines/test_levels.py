from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clesr.engines.levels import Levels, estimate_levels
from clesr.engines.models.registry import LEVELS
from clesr.tools.data.compression import jpeg
from clesr.tools.data.degrade import crop_to_multiple, degrade
from clesr.tools.data.images import read_gray

Pixels = NDArray[np.uint8]


def smooth(seed: int, shape: tuple[int, int] = (160, 192), width: float = 5.0) -> Pixels:
    """Blurred noise brought to a mean of 110 and a deviation of 30 grey levels."""
    field = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal(shape), (0, 0), width)
    return np.asarray(np.clip(110 + 30 * field / field.std(), 20, 235), np.uint8)


def noisy(image: Pixels, sigma: float, seed: int = 0) -> Pixels:
    found = image + np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.asarray(np.clip(np.rint(found), 0, 255), np.uint8)


def in_disc(image: Pixels) -> Pixels:
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    radius = min(image.shape) / 2
    inside = (y - image.shape[0] / 2) ** 2 + (x - image.shape[1] / 2) ** 2 <= radius**2
    return np.where(inside, image, 0).astype(np.uint8)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 5.0, 10.0, 20.0])
def test_white_noise_is_found_in_both_bands(sigma: float) -> None:
    found = estimate_levels(noisy(smooth(1), sigma))
    assert found.noise == pytest.approx(sigma, rel=0.06, abs=0.1)
    assert found.detail == pytest.approx(sigma, rel=0.08, abs=0.15)
    assert abs(found.peaks) < 0.03 * sigma + 0.05
    assert found.blocks < 0.1 * sigma + 0.2


def test_only_the_field_of_view_counts() -> None:
    """Corners without noise, and the edge of the disc, would pull the median down or up."""
    found = estimate_levels(in_disc(noisy(smooth(2), 6.0)))
    assert found.noise == pytest.approx(6.0, rel=0.06)


def test_clipped_pixels_do_not_count() -> None:
    image = noisy(smooth(3), 6.0)
    image[:, :120] = 255
    assert estimate_levels(image).noise == pytest.approx(6.0, rel=0.08)


def test_structure_shows_more_in_detail_than_in_noise() -> None:
    found = estimate_levels(smooth(4, width=1.2))
    assert found.detail > 1.5 * found.noise


@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 5)])
def test_blocks_are_found_wherever_their_grid_begins(top: int, left: int) -> None:
    image = noisy(smooth(5, (200, 240), 2.0), 4.0)
    coarse, fine = jpeg(image, 20)[top:, left:], jpeg(image, 95)[top:, left:]
    assert estimate_levels(coarse).blocks > 2
    assert estimate_levels(coarse).blocks > 6 * estimate_levels(fine).blocks
    assert estimate_levels(image).blocks < 0.5


@pytest.mark.parametrize("value", [0, 90, 255])
@pytest.mark.parametrize("shape", [(4, 1), (3, 3), (20, 31), (64, 64)])
def test_a_flat_or_tiny_image_has_no_levels(value: int, shape: tuple[int, int]) -> None:
    found = estimate_levels(np.full(shape, value, np.uint8))
    np.testing.assert_allclose(found.as_input(), 0, atol=1e-6)


def test_levels_come_in_the_order_of_their_names() -> None:
    assert tuple(field.name for field in fields(Levels)) == LEVELS
    found = Levels(noise=16, detail=32, peaks=6, blocks=16, floor=80).as_input()
    assert list(found) == [1, 2, 3, 4, 5]


def test_the_error_on_stills_with_known_noise(data: Path) -> None:
    """At native size, smooth as they are, and shrunk by two, where structure counts for a level of noise or two."""
    errors: dict[tuple[int, float], list[float]] = {}
    for path in sorted((data / "train").glob("cle_*"))[:6]:
        native = read_gray(path)
        for shrunk in (1, 2):
            image = native if shrunk == 1 else degrade(crop_to_multiple(native, 2), 2)
            for sigma in (2.0, 5.0, 10.0):
                error = estimate_levels(noisy(image, sigma)).noise - sigma
                errors.setdefault((shrunk, sigma), []).append(error)
    for (shrunk, sigma), found in errors.items():
        assert max(np.abs(found)) < {1: 0.6, 2: 0.9}[shrunk], (shrunk, sigma, found)
        assert abs(np.median(found)) < {1: 0.25, 2: 0.5}[shrunk], (shrunk, sigma, found)
