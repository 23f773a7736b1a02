"""Where a frame lies on the map: shift and lean, and whether it lies there at all."""

from __future__ import annotations

import numpy as np
import pytest
from probe import SIDE, Place, seen, tissue

from clesr.engines.common.image import Floats, Image
from clesr.pipeline.mosaic.placement import Found, Placement, Placer

WHOLE = np.ones((SIDE, SIDE), np.float32)
STILL = np.zeros(2, np.float32)


def place(present: Image, earlier: Image, known: Floats = WHOLE, corner: tuple[int, int] = (0, 0)) -> Found:
    placer = Placer((SIDE, SIDE))
    now, before = (image.astype(np.float32) for image in (present, earlier))
    return placer(placer.reduce(now), WHOLE, before * known, known, corner, STILL)


@pytest.mark.parametrize("at", [(0, 0), (7.3, -11.6), (-38, 21.5)])
@pytest.mark.parametrize("noise", [0.0, 8.0])
def test_a_frame_is_placed_to_a_fraction_of_a_pixel(at: Place, noise: float) -> None:
    scene = tissue()
    found = place(seen(scene, at, noise=noise, seed=1), seen(scene, (0, 0), noise=noise, seed=2))
    assert found.holds
    assert np.hypot(found.placement.x - at[0], found.placement.y - at[1]) < (0.15 if noise == 0 else 0.4)


@pytest.mark.parametrize("lean", [(0.06, 0.0), (0.0, -0.05), (-0.04, 0.04)])
def test_the_lean_of_a_moving_probe_is_no_shift(lean: Place) -> None:
    scene = tissue()
    found = place(seen(scene, (5, 4), lean), seen(scene, (0, 0)))
    assert found.holds
    assert found.placement.x == pytest.approx(5, abs=0.4)
    assert found.placement.y == pytest.approx(4, abs=0.4)
    np.testing.assert_allclose((found.placement.lean_x, found.placement.lean_y), lean, atol=0.012)


def test_the_part_of_the_map_says_where_it_lies() -> None:
    found = place(seen(tissue(), (3, 2)), seen(tissue(), (0, 0)), corner=(-1000, 77))
    assert found.placement.x == pytest.approx(-997, abs=0.2)
    assert found.placement.y == pytest.approx(79, abs=0.2)


def test_half_a_map_is_enough_and_a_corner_of_it_is_not() -> None:
    scene = tissue()
    half, corner = np.zeros_like(WHOLE), np.zeros_like(WHOLE)
    half[:, SIDE // 2 :], corner[:30, :30] = 1, 1
    there = place(seen(scene, (4, -6)), seen(scene, (0, 0)), half)
    assert there.holds
    assert (there.placement.x, there.placement.y) == pytest.approx((4, -6), abs=0.5)
    assert there.overlap == pytest.approx(0.5, abs=0.1)
    assert not place(seen(scene, (4, -6)), seen(scene, (0, 0)), corner).holds


def test_other_tissue_and_no_tissue_do_not_hold() -> None:
    for seed in range(3):
        assert not place(seen(tissue(2 * seed), (0, 0)), seen(tissue(2 * seed + 1), (0, 0))).holds
    flat = np.full((SIDE, SIDE), 90, np.uint8)
    one, other = (seen(np.full((512, 512), 90, np.float32), (0, 0), noise=9, seed=n) for n in (1, 2))
    assert not place(one, other).holds
    assert not place(flat, flat).holds
    assert not place(seen(tissue(), (0, 0)), flat, 0 * WHOLE).holds


def test_the_matrix_says_where_each_pixel_lies() -> None:
    matrix = Placement(10, -20, 0.5, 0.25).matrix(rows=5)
    np.testing.assert_allclose(matrix @ [7, 2, 1], [17, -18])  # the middle row
    np.testing.assert_allclose(matrix @ [7, 4, 1], [18, -15.5])
