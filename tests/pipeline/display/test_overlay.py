from __future__ import annotations

import numpy as np
import pytest

from clesr.pipeline.display import overlay
from clesr.pipeline.frame import Fidelity, Image


def check(reprojected: Image, limit_db: float | None = None) -> Fidelity:
    return Fidelity(40.0, None, None, None, limit_db, reprojected)


@pytest.mark.parametrize(("dtype", "level"), [(np.uint8, 1), (np.uint16, 257)])
def test_differences_are_in_grey_levels_of_eight_bits(dtype: type, level: int) -> None:
    lr: Image = np.full((50, 60), 100 * level, dtype)
    reprojected: Image = np.full((50, 60), 107 * level, dtype)
    found = overlay.differences(lr, check(reprojected))
    assert found.shape == (50, 60)
    np.testing.assert_allclose(found, 7, rtol=1e-4)


def test_what_is_usual_has_no_colour_and_what_is_not_hides_nothing() -> None:
    lr = np.full((50, 60), 100, np.uint8)
    scale = overlay.Scale.of(40.0)
    assert scale.low == pytest.approx(1.25 * 2.55)
    for difference, coloured in ((3, False), (4, True), (200, True)):
        canvas = np.full((100, 120, 3), 100, np.uint8)
        canvas[:, ::2] = 130
        cover = overlay.cover_of(lr, check(lr + np.uint8(difference % 150), 40.0), (100, 120))
        canvas = overlay.tint(canvas, cover)
        assert bool(np.ptp(canvas[50, 60].astype(int)) > 0) is coloured
        assert canvas[50, 60].astype(int).sum() > canvas[50, 61].astype(int).sum(), "the image shows through"


def test_outside_the_field_of_view_nothing_is_shown() -> None:
    y, x = np.ogrid[:80, :80]
    inside = np.hypot(y - 39.5, x - 39.5) < 38
    lr = (100 * inside).astype(np.uint8)
    reprojected = lr.copy()
    reprojected[:12, :12] = 90
    assert overlay.differences(lr, check(reprojected)).max() == 0


def test_the_legend_goes_from_clear_to_the_deepest_colour() -> None:
    bar = overlay.legend(200, 10).astype(int)
    assert bar.shape == (10, 200, 3)
    assert np.ptp(bar[5, 0]) == 0
    depth = np.ptp(bar[5], axis=-1)
    assert depth[-1] > 60
    assert (np.diff(depth[::20]) > -25).all()
