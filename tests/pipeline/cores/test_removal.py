"""The pattern is gone, and what the cores saw is there: exactly at cores, linearly between them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from bundles import draw_bundle

from clesr.engines.common.errors import UsageError
from clesr.pipeline.cores.find import find_cores
from clesr.pipeline.cores.removal import CoreRemoval
from clesr.pipeline.cores.triangles import barycentric, gather, lines, triangulate

DTYPES = pytest.mark.parametrize("dtype", [np.uint8, np.uint16])


@DTYPES
def test_a_flat_field_becomes_even(dtype: type) -> None:
    bundle = draw_bundle()
    flat = bundle.show(dtype=dtype)
    calibration = bundle.calibration(flat)
    even = CoreRemoval(calibration)(flat)
    inside = calibration.map >= 0
    level = np.median(calibration.flat) * np.iinfo(dtype).max
    assert even.dtype == dtype
    assert np.abs(even[inside] - level).max() <= 1
    assert not even[~inside].any(), "and black outside of the bundle"
    assert 0.4 < inside.mean() < 0.9


@DTYPES
def test_a_plane_stays_one(dtype: type) -> None:
    """Cores see a ramp: interpolated linearly it is the same between them."""
    bundle = draw_bundle()
    ramp = 60 + bundle.places @ (0.4, 0.2)
    calibration = bundle.calibration(bundle.show(100.0, np.uint16, black=0))
    seen = CoreRemoval(calibration)(bundle.show(ramp, dtype, black=0))
    y, x = np.nonzero(calibration.map >= 0)
    wanted = (60 + 0.4 * x + 0.2 * y) / 100 * np.median(calibration.flat) * np.iinfo(dtype).max
    error = (seen[y, x] - wanted) * 255 / np.iinfo(dtype).max
    assert np.abs(error).max() < (1.6 if dtype == np.uint8 else 0.4)


def test_pixels_in_the_middle_of_cores_are_as_bright_as_these() -> None:
    """Whatever those around are: each core with a brightness of its own."""
    bundle = draw_bundle(spacing=10.0, jitter=0.0)
    places = np.rint(bundle.places)
    whole = type(bundle)(bundle.shape, bundle.spacing, places, bundle.gain)
    calibration = whole.calibration(whole.show(100.0, np.uint16, black=0))
    light = np.random.default_rng(1).uniform(20, 120, len(places))
    frame = whole.show(light, np.uint16, black=0)
    seen = CoreRemoval(calibration)(frame)
    x, y = places.astype(int).T
    inner = calibration.map[y, x] >= 0
    light_seen = gather(frame.astype(np.float32), lines(calibration.places), len(places), bundle.spacing)
    wanted = light_seen / calibration.flat * np.median(calibration.flat)
    weights = barycentric(places[calibration.triangles[calibration.map[y, x]]][inner], places[inner])
    np.testing.assert_allclose(weights.max(1), 1, atol=1e-9)
    np.testing.assert_allclose(seen[y, x][inner], wanted[inner], atol=1)
    np.testing.assert_allclose(wanted, light / 100 * np.median(calibration.flat) * 65535, rtol=0.05)


def test_dead_cores_leave_no_hole() -> None:
    bundle = draw_bundle((200, 200), 8.0)
    middle = int(np.linalg.norm(bundle.places - 100, axis=1).argmin())
    gain = bundle.gain.copy()
    gain[middle] = 0
    calibration = find_cores(bundle.show(gain=gain).astype(np.float32), top=255)
    seen = CoreRemoval(calibration)(bundle.show(gain=gain, scene=80.0))
    x, y = np.rint(bundle.places[middle]).astype(int)
    around = seen[y - 12 : y + 13, x - 12 : x + 13]
    assert seen[y, x] == pytest.approx(float(np.median(around)), abs=6)
    assert around.min() > 0.85 * np.median(around)


def test_a_result_is_not_written_to_again() -> None:
    bundle = draw_bundle()
    remove = CoreRemoval(bundle.calibration())
    first = remove(bundle.show(100.0))
    kept = first.copy()
    remove(bundle.show(20.0))
    np.testing.assert_array_equal(first, kept)


def test_the_brightest_levels_do_not_wrap() -> None:
    bundle = draw_bundle()
    dim = np.where(np.arange(len(bundle.places)) % 5, 1.0, 0.2)
    calibration = bundle.calibration(bundle.show(gain=dim))
    assert CoreRemoval(calibration)(bundle.show(240.0, gain=np.ones(len(dim)))).max() == 255


def test_frames_of_another_size_are_refused() -> None:
    calibration = draw_bundle((160, 176)).calibration(name="probe-3.cores")
    with pytest.raises(
        UsageError, match=r"frames are 160x176, but the calibration probe-3\.cores is for 176x160"
    ):
        CoreRemoval(calibration)(np.zeros((176, 160), np.uint8))


def test_triangles_without_an_area_and_places_outside() -> None:
    flat = np.array([[[0.0, 0], [1, 1], [2, 2]]])
    np.testing.assert_allclose(barycentric(flat, np.array([[1.0, 1]])), 1 / 3)
    points = np.array([[0.0, 0], [10, 0], [0, 10]])
    triangles, inside = triangulate(points, np.array([[1.0, 1], [9, 9]]))
    assert (len(triangles), list(inside)) == (1, [0, -1])


@pytest.mark.slow
def test_a_real_pattern_is_gone(data: Path) -> None:
    """On a resolution target: the grain of the cores goes by more than ten times, the bars keep their contrast."""
    flat, target = (
        np.asarray(cv2.imread(str(data / "fibre_bundle" / name), cv2.IMREAD_GRAYSCALE))
        for name in ("fb_usaf1_background.png", "fb_usaf1.png")
    )
    calibration = find_cores(flat.astype(np.float32), top=255)
    seen = CoreRemoval(calibration)(target)
    grain = [
        float(image[120:220, 480:600].std() / image[120:220, 480:600].mean()) for image in (target, seen)
    ]
    assert grain[1] < grain[0] / 10
    bar, light = seen[265:285, 1005:1018].mean(), seen[265:285, 940:965].mean()
    assert bar < 0.6 * light
