"""What the network is told of a stream's frames."""

from __future__ import annotations

from dataclasses import astuple

import cv2
import numpy as np
import pytest

from clesr.engines.common.errors import UsageError
from clesr.engines.common.image import Pixels
from clesr.engines.levels import estimate_levels
from clesr.pipeline.frame import Frame, Told
from clesr.pipeline.guide import FOLLOW, Guide, parse_denoise

PERIOD_NS = 40_000_000


def image(noise: float, seed: int, shape: tuple[int, int] = (96, 104)) -> Pixels:
    field = cv2.GaussianBlur(np.random.default_rng(1).standard_normal(shape), (0, 0), 3)
    noisy = 120 + 30 * field / field.std() + np.random.default_rng(seed).normal(0, noise, shape)
    return np.asarray(np.clip(np.rint(noisy), 0, 255), np.uint8)


def tell(guide: Guide, number: int, pixels: Pixels, time_ns: int | None = None) -> Told:
    frame = Frame(pixels, number, number * PERIOD_NS if time_ns is None else time_ns)
    return guide(frame, frame.image)


def test_the_first_frame_is_told_what_it_shows() -> None:
    pixels = image(5, 0)
    told = tell(Guide(), 0, pixels)
    assert astuple(told.levels) == pytest.approx(astuple(estimate_levels(pixels)), abs=0.005)
    np.testing.assert_array_equal(told.guidance.levels, told.levels.as_input())
    assert (told.trusted, told.confidence) == (1.0, 1.0)


def test_levels_follow_slowly_what_wavers() -> None:
    guide = Guide()
    found = [tell(guide, n, image(5, n)).levels.noise for n in range(60)]
    alone = [estimate_levels(image(5, n)).noise for n in range(60)]
    assert np.std(np.diff(found[20:])) < 0.3 * np.std(np.diff(alone[20:]))
    assert np.mean(found) == pytest.approx(5, rel=0.05)


def test_a_change_is_followed_frame_by_frame_whatever_the_time() -> None:
    guide = Guide()
    begun = tell(guide, 0, image(5, 0)).levels.noise
    aim = estimate_levels(image(6, 1)).noise
    for number in range(1, 4):
        now = tell(guide, number, image(6, 1), number**3).levels.noise
        assert now == pytest.approx(aim + (begun - aim) * (1 - FOLLOW) ** number, abs=0.02)


@pytest.mark.parametrize(("before", "after"), [(1, 8), (8, 1), (3, 20), (20, 3)])
def test_another_image_is_told_its_own_noise_at_once(before: float, after: float) -> None:
    guide = Guide()
    for n in range(10):
        tell(guide, n, image(before, n))
    assert tell(guide, 10, image(after, 10)).levels.noise == pytest.approx(
        estimate_levels(image(after, 10)).noise, abs=0.01
    )


@pytest.mark.parametrize("noise", [0.0, 3.0, 12.0])
@pytest.mark.parametrize("real", [1.0, 6.0])
def test_noise_that_is_assumed_is_told_whatever_the_image_shows(noise: float, real: float) -> None:
    told = tell(Guide(noise), 0, image(real, 0))
    assert told.levels.noise == pytest.approx(noise, abs=0.25 + 0.15 * real)
    assert told.levels.detail >= told.levels.noise


def test_too_noisy_a_frame_is_told_not_to_be_trusted() -> None:
    told = tell(Guide(), 0, image(50, 0))
    assert (told.trusted, told.confidence) == (0.0, 0.0)
    assert not told.guidance.trust.any()
    fading = tell(Guide(32.0), 0, image(5, 0))
    assert 0 < fading.trusted < 1
    assert fading.trusted == pytest.approx(fading.confidence, abs=0.01)


def test_sixteen_bits_are_told_as_eight() -> None:
    eight = tell(Guide(), 0, image(5, 0))
    sixteen = tell(Guide(), 0, image(5, 0).astype(np.uint16) * 257)  # type: ignore[arg-type]
    assert astuple(sixteen.levels) == pytest.approx(astuple(eight.levels), abs=0.01)


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (2, 7), (9, 3)])
def test_tiny_frames_are_told_something(shape: tuple[int, int]) -> None:
    told = tell(Guide(), 0, np.full(shape, 99, np.uint8))
    assert told.guidance.trust.shape == shape
    assert np.isfinite(told.guidance.levels).all()


@pytest.mark.parametrize("text", ["", "-1", "65", "nan", "inf", "yes", "1e9", "auto "])
def test_what_is_no_noise_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(
        UsageError, match="is not auto, 0 for a clean image, or grey levels of noise up to 64"
    ):
        parse_denoise(text)


def test_auto_and_grey_levels_are_taken() -> None:
    assert [parse_denoise(text) for text in ("auto", "0", "2.5", "64")] == [None, 0, 2.5, 64]
