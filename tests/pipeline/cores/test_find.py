"""Cores of drawn bundles are found where they were drawn; what is no bundle is refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from bundles import DrawnBundle, draw_bundle
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from clesr.engines.common.errors import MissingDependencyError, UsageError
from clesr.pipeline.cores.find import estimate_spacing, find_cores
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.simulator.demo import DemoSource


def found(flat: Image, dead: float = 0.5) -> NDArray[np.float32]:
    return find_cores(flat.astype(np.float32), top=float(np.iinfo(flat.dtype).max), dead=dead).places


def nearest(places: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.floating]:
    """From each of ``places`` to the nearest of ``others``."""
    return np.asarray(cKDTree(others).query(places)[0])


def check(bundle: DrawnBundle, flat: Image) -> None:
    calibration = find_cores(flat.astype(np.float32), top=float(np.iinfo(flat.dtype).max))
    count = len(bundle.places)
    assert len(calibration.places) == pytest.approx(count, rel=0.02)
    assert (nearest(bundle.places, calibration.places) < 0.3 * bundle.spacing).mean() > 0.98
    assert calibration.facts.spacing == pytest.approx(bundle.spacing, rel=0.03)
    assert len(calibration.dead) <= 0.01 * count
    assert calibration.facts.shape == flat.shape


@pytest.mark.parametrize(("spacing", "dtype"), [(4.0, np.uint8), (9.0, np.uint16)])
def test_the_cores_are_those_that_were_drawn(spacing: float, dtype: type) -> None:
    side = 136 if spacing < 5 else 200
    bundle = draw_bundle((side, side + 20), spacing)
    check(bundle, bundle.show(dtype=dtype, noise=1.0))


@pytest.mark.slow
@pytest.mark.parametrize("spacing", [3.0, 5.0, 7.3, 12.0, 20.0])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cores_near_and_far_apart(spacing: float, dtype: type) -> None:
    bundle = draw_bundle((400, 440), spacing)
    check(bundle, bundle.show(dtype=dtype, noise=2.0))


def test_uneven_light_and_a_bright_black_hide_no_cores() -> None:
    bundle = draw_bundle((160, 160), 6.0)
    light = 40 + 160 * np.exp(-((bundle.places - 60) ** 2).sum(1) / (2 * 50**2))
    check(bundle, bundle.show(light, black=30, noise=0.5))


def test_dead_cores_are_told_and_left_out() -> None:
    """Those that are dark and those that are dim; two of them lie side by side."""
    bundle = draw_bundle((200, 200), 8.0)
    inner = np.flatnonzero(np.hypot(*(bundle.places - 100).T) < 70)
    dead = np.random.default_rng(4).permutation(inner)[:12]
    beside = np.linalg.norm(bundle.places - bundle.places[dead[0]], axis=1).argsort()[1]
    gain = bundle.gain.copy()
    gain[dead], gain[dead[6:]] = 0, 0.42
    gain[beside] = 0
    dead = np.union1d(dead, beside)
    flat = bundle.show(gain=gain, noise=1.0)
    calibration = find_cores(flat.astype(np.float32), top=255)
    assert (nearest(bundle.places[dead], calibration.dead) < 0.5 * bundle.spacing).mean() > 0.9
    assert len(calibration.dead) == pytest.approx(len(dead), abs=2)
    assert nearest(bundle.places[dead], calibration.places).min() > 0.5 * bundle.spacing
    bright = len(found(flat, dead=0.2))
    assert bright >= len(found(flat)) + 5, "by the share that is asked for dim ones are none"


def test_saturated_cores_are_counted() -> None:
    bundle = draw_bundle((160, 160), 10.0)
    flat = bundle.show(240, noise=1.0)
    white = sum(int(flat[round(y), round(x)] == 255) for x, y in bundle.places)
    calibration = find_cores(flat.astype(np.float32), top=255)
    assert white > 5
    assert calibration.facts.saturated == pytest.approx(white, abs=0.3 * white)


def test_what_shows_no_cores_is_refused() -> None:
    demo = DemoSource("demo:?size=256&pace=max")
    tissue = demo.read(1.0)
    demo.close()
    noise = np.random.default_rng(0).integers(0, 255, (200, 200))
    for image in (getattr(tissue, "image", None), np.full((99, 140), 80), noise, np.zeros((3, 5))):
        with pytest.raises(UsageError, match="no pattern of fibre cores is seen; give sharp frames"):
            estimate_spacing(np.asarray(image, np.float32))


def test_a_few_cores_are_no_bundle() -> None:
    bundle = draw_bundle((200, 200), 19.0)
    assert 50 < len(bundle.places) < 100
    with pytest.raises(UsageError, match="cores are seen, at least 100 are needed"):
        found(bundle.show())


def test_without_pyfibrebundle_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pybundle", None)
    with pytest.raises(MissingDependencyError, match=r"run: pip install 'clesr\[bundle\]'"):
        found(draw_bundle().show())


@pytest.mark.slow
def test_real_bundles(data: Path) -> None:
    """Cores of a real bundle lie 0.8 to 1 spacing from the nearest: each was found once, and few were missed. No
    tissue is taken for a bundle."""
    for name, count in (
        ("fibre_bundle/fb_usaf1_background", 28_000),
        ("fibre_bundle/fb_tissue_paper_back", 28_000),
    ):
        image = cv2.imread(str(data / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        calibration = find_cores(image.astype(np.float32), top=255)
        assert len(calibration.places) == pytest.approx(count, rel=0.02)
        assert len(calibration.dead) < 0.005 * count
        some = calibration.places[::300]
        away = np.linalg.norm(some[:, None] - calibration.places[None], axis=2) / calibration.facts.spacing
        closest = np.partition(away, 1, axis=1)[:, 1]
        assert 0.8 < np.median(closest) < 1.0
        assert np.percentile(closest, 5) > 0.6
    for path in sorted((data / "test").glob("*.png")):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        with pytest.raises(UsageError, match="no pattern of fibre cores"):
            estimate_spacing(image.astype(np.float32))
