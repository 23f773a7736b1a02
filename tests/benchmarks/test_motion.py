from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest
from motion import ProbeMotion, SeenFrame, move_over

from clesr.engines.common.image import Pixels
from clesr.tools.data.degradations import Degradation, parse_degradations
from clesr.tools.data.degrade import degrade
from clesr.tools.evaluation.metrics import psnr

CLEAN = Degradation()
STEADY = ProbeMotion(most=0.0, tremor=0.0, turn=0.0, stretch=0.0)


def still(shape: tuple[int, int] = (260, 260), seed: int = 0, *, disc: bool = False) -> Pixels:
    field = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal(shape), (0, 0), 4.0)
    image = np.asarray(np.clip(120 + 40 * field / field.std(), 20, 255), np.uint8)
    if disc:
        y, x = np.ogrid[: shape[0], : shape[1]]
        image[(y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2 > (min(shape) / 2) ** 2] = 0
    return image


def frames(count: int = 6, motion: ProbeMotion | None = None, **options: object) -> list[SeenFrame]:
    return list(move_over(still(), 4, count, CLEAN, motion=motion, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_views_have_the_size_of_the_still_and_are_degraded(scale: int) -> None:
    for frame in move_over(still((203, 190)), scale, 3, CLEAN):
        assert frame.truth.shape == (203 // scale * scale, 190 // scale * scale)
        np.testing.assert_array_equal(frame.lr, degrade(frame.truth, scale))


def test_the_same_seed_gives_the_same_frames_and_another_others() -> None:
    first, again, other = frames(seed=3), frames(seed=3), frames(seed=4)
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a.lr, b.lr)
        assert not np.array_equal(a.lr, c.lr)


def test_the_path_does_not_depend_on_the_degradation() -> None:
    (noisy,) = parse_degradations("noise=9")
    for a, b in zip(frames(), move_over(still(), 4, 6, noisy), strict=True):
        np.testing.assert_array_equal(a.truth, b.truth)
        assert not np.array_equal(a.lr, b.lr)


def test_nothing_moves_without_motion() -> None:
    first, *others = frames(motion=STEADY)
    for frame in others:
        np.testing.assert_array_equal(frame.truth, first.truth)


def test_steps_are_no_longer_than_was_asked_for() -> None:
    """Found by registration of the views themselves."""
    seen = frames(20, ProbeMotion(most=3.0, turn=0.0, stretch=0.0), seed=1)
    window = cv2.createHanningWindow(seen[0].truth.shape[::-1], cv2.CV_32F)
    steps = [
        float(
            math.hypot(*cv2.phaseCorrelate(a.truth.astype(np.float32), b.truth.astype(np.float32), window)[0])
        )
        for a, b in itertools.pairwise(seen)
    ]
    assert max(steps) < 4 * 3.0 + 1
    assert max(steps) > 4


def test_tissue_is_deformed_over_time() -> None:
    first, *others = frames(12, ProbeMotion(most=0.0, tremor=0.0, turn=0.0), seed=2)
    assert max(np.abs(first.truth.astype(float) - other.truth).mean() for other in others) > 2


def test_a_cut_shows_another_place() -> None:
    seen = frames(9, cuts=(4, 5))
    assert [frame.after_cut for frame in seen] == [0, 1, 2, 3, 0, 0, 1, 2, 3]
    whole = np.ones(seen[0].truth.shape, np.bool_)
    assert psnr(seen[3].truth, seen[4].truth, whole) < 18


def test_a_round_view_stays_round() -> None:
    seen = list(move_over(still(disc=True), 4, 5, CLEAN))
    y, x = np.ogrid[:260, :260]
    away = (y - 130) ** 2 + (x - 130) ** 2
    for frame in seen:
        assert not frame.truth[away > 134**2].any()
        assert (frame.truth[away < 120**2] > 0).all()
