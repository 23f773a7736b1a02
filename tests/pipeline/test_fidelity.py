"""The consistency check: its figures against plain ones, and what it finds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from clesr.engines.common.resample import resize
from clesr.engines.interpolation import interpolate
from clesr.engines.models.weights import find_model
from clesr.engines.reference import reference_image
from clesr.engines.view import TILE, field_of_view
from clesr.pipeline.display import overlay
from clesr.pipeline.fidelity import MOST_DB, REFRESH, FidelityCheck, Tiles
from clesr.pipeline.frame import Fidelity, Image
from clesr.pipeline.sources.simulator.phantom import Phantom
from clesr.tools.data.pairs import load_pairs, make_pair
from clesr.tools.training.validate import fidelity_limit


def disc(side: int) -> NDArray[np.bool_]:
    y, x = np.ogrid[:side, :side]
    return np.asarray(np.hypot(y - side / 2 + 0.5, x - side / 2 + 0.5) < 0.48 * side)


def rounded(levels: NDArray[np.floating[Any]], dtype: type) -> Image:
    image: Image = np.clip(np.rint(levels), 0, np.iinfo(dtype).max).astype(dtype)
    return image


def texture(shape: tuple[int, int], dtype: type = np.uint8, seed: int = 0) -> Image:
    """Noise of about 30 pixels' coarseness over the middle of the range."""
    coarse = np.random.default_rng(seed).uniform(0.2, 0.8, (shape[0] // 6 + 2, shape[1] // 6 + 2))
    levels = resize((255 * coarse).astype(np.uint8), *shape) / 255 * np.iinfo(dtype).max
    return rounded(levels, dtype)


def check(lr: Image, sr: Image, limit_db: float | None = None) -> Fidelity:
    scale = sr.shape[0] // lr.shape[0]
    return FidelityCheck((lr.shape[0], lr.shape[1]), scale, limit_db)(lr, sr)[1]


def plant(sr: Image, at: tuple[int, int], scale: int, height: float = 0.3) -> Image:
    """``sr`` with a bright spot, about four LR pixels wide, at ``at`` (row, column of the LR image)."""
    top = np.iinfo(sr.dtype).max
    y, x = np.ogrid[: sr.shape[0], : sr.shape[1]]
    centre = [(a + 0.5) * scale for a in at]
    spot = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * (1.7 * scale) ** 2))
    planted: Image = np.clip(np.rint(sr + height * top * spot), 0, top).astype(sr.dtype)
    return planted


def plain_db(lr: Image, sr: Image, mask: NDArray[np.bool_]) -> float:
    """The figure by Pillow in floating point, without any of clesr's resampling."""
    size = (lr.shape[1], lr.shape[0])
    reprojected = np.asarray(Pillow.fromarray(sr.astype(np.float32)).resize(size, Pillow.Resampling.BICUBIC))
    top = np.iinfo(lr.dtype).max
    error = np.clip(np.rint(reprojected), 0, top).astype(np.float64) - lr
    return 10 * math.log10(top**2 / float(np.mean(error[mask] ** 2)))


def holds(found: Fidelity, at: tuple[int, int]) -> bool:
    """Whether the worst tile contains ``at``."""
    assert found.worst_at is not None
    return all(corner <= a < corner + TILE for corner, a in zip(found.worst_at, at, strict=True))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("shape", "scale"), [((64, 80), 4), ((77, 45), 2), ((41, 67), 8)])
def test_the_figure_is_that_of_pillow(shape: tuple[int, int], scale: int, dtype: type) -> None:
    lr = texture(shape, dtype)
    sr = texture((shape[0] * scale, shape[1] * scale), dtype, seed=1)
    near = rounded(resize(lr, *sr.shape) * 0.97 + 0.03 * sr, dtype)
    found = check(lr, near)
    assert 25 < found.db < 45
    assert found.db == pytest.approx(plain_db(lr, near, np.ones(shape, np.bool_)), abs=0.05)


def test_only_the_field_of_view_counts() -> None:
    mask, scale = disc(96), 4
    lr = np.where(mask, texture((96, 96)), 0).astype(np.uint8)
    sr = interpolate(lr, method="bilinear", scale=scale)
    outside = plant(sr, (3, 3), scale, height=0.9)
    inside = field_of_view(lr)
    assert 0.6 < inside.mean() < 0.75
    found = check(lr, outside)
    assert found.db == pytest.approx(plain_db(lr, sr, inside), abs=0.05)
    assert found.db == check(lr, sr).db
    assert found.worst_at == check(lr, sr).worst_at


def test_the_worst_tile_is_the_worst_of_all_and_no_pixel_lies_in_none() -> None:
    lr, sr = texture((75, 53)), texture((150, 106), seed=1)
    found = check(lr, sr)
    line = np.array([1, 4, 6, 4, 1]) / 16
    wide = np.pad(found.reprojected.astype(np.float64) - lr, 2, mode="reflect")
    rows = sum(wide[i : i + 75] * tap for i, tap in enumerate(line))
    squared = sum(rows[:, i : i + 53] * tap for i, tap in enumerate(line)) ** 2
    starts = [[0, 16, 32, 43], [0, 16, 21]]
    errors = {(y, x): squared[y : y + TILE, x : x + TILE].mean() for y in starts[0] for x in starts[1]}
    worst = max(errors, key=lambda at: float(errors[at]))
    assert found.worst_at == worst
    assert found.worst_db == pytest.approx(10 * math.log10(255**2 / errors[worst]), abs=1e-3)


def test_tiles_must_lie_in_the_field_of_view() -> None:
    mask = disc(96)
    _, tiles = Tiles(mask).errors(np.ones((96, 96), np.float32))
    inside = [[mask[y : y + TILE, x : x + TILE].all() for x in range(0, 65, 16)] for y in range(0, 65, 16)]
    assert np.array_equal(tiles >= 0, inside)
    assert np.any(tiles < 0)
    assert np.allclose(tiles[tiles >= 0], 1, atol=1e-3)


@pytest.mark.parametrize("shape", [(31, 200), (5, 5), (1, 1)])
def test_an_image_smaller_than_a_tile_has_a_figure_but_no_judgement(shape: tuple[int, int]) -> None:
    lr = texture(shape)
    found = check(lr, plant(interpolate(lr, method="bilinear", scale=2), (0, 0), 2), limit_db=60.0)
    assert found.db < MOST_DB
    assert (found.worst_db, found.worst_at, found.below_limit) == (None, None, False)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_constant_image_agrees_wholly(share: float, dtype: type) -> None:
    level = round(share * np.iinfo(dtype).max)
    found = check(np.full((40, 40), level, dtype), np.full((160, 160), level, dtype), 40.0)
    assert found.db == found.worst_db == MOST_DB
    assert not found.below_limit


def test_a_saturated_area_agrees() -> None:
    lr = texture((64, 64))
    lr[20:40, 20:40] = 255
    found = check(lr, interpolate(lr, method="bicubic", scale=4))
    assert found.db > 35


def test_the_field_of_view_is_looked_for_again() -> None:
    dark = np.zeros((64, 64), np.uint8)
    lr = np.where(disc(64), texture((64, 64)), 0).astype(np.uint8)
    sr = plant(interpolate(lr, method="bilinear", scale=2), (1, 1), 2, height=1.0)
    checks = FidelityCheck((64, 64), 2)
    checks(dark, interpolate(dark, method="bilinear", scale=2))
    figures = [checks(lr, sr)[1].db for _ in range(REFRESH)]
    assert figures[-1] == check(lr, sr).db
    assert figures[0] < figures[-1], "until then the bright corner counts"


def test_the_limit_judges_the_worst_tile() -> None:
    lr = texture((64, 64))
    sr = plant(interpolate(lr, method="bicubic", scale=4), (40, 30), 4)
    found = check(lr, sr)
    assert found.worst_db is not None
    assert found.worst_db < found.db
    assert not found.below_limit, "without a limit there is no judgement"
    assert check(lr, sr, found.worst_db + 0.01).below_limit
    assert not check(lr, sr, found.worst_db - 0.01).below_limit


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_corrected_image_agrees_and_the_judgement_is_of_the_engines_own(scale: int, dtype: type) -> None:
    shape = (48, 64)
    lr = texture(shape, dtype)
    sr = plant(interpolate(lr, method="bilinear", scale=scale), (20, 30), scale)
    plain = check(lr, sr, 45.0)
    corrected, found = FidelityCheck(shape, scale, 45.0, consistent=True)(lr, sr)
    assert found.before_db == plain.db
    assert (found.worst_db, found.worst_at, found.below_limit) == (plain.worst_db, plain.worst_at, True)
    assert np.array_equal(found.reprojected, plain.reprojected)
    assert found.db == check(lr, corrected).db > 50
    difference = np.abs(check(lr, corrected).reprojected.astype(float) - lr) * 255 / np.iinfo(dtype).max
    assert difference.mean() <= 1


def test_what_the_engine_has_done_is_not_done_again() -> None:
    lr = texture((40, 40))
    sr, own, corrected = (np.full(shape, 9, np.uint8) for shape in ((80, 80), (40, 40), (40, 40)))
    own[:], corrected[:] = lr + 2, lr + 1
    checks = FidelityCheck((40, 40), 2, consistent=True)
    image, found = checks(lr, sr, (own, corrected))
    assert image is sr
    assert found.reprojected is own
    assert found.before_db == pytest.approx(10 * math.log10(255**2 / 4))
    assert found.db == pytest.approx(20 * math.log10(255))
    image, found = checks(lr, sr, (own,))
    assert image is not sr, "corrected here where the engine has not"
    assert FidelityCheck((40, 40), 2)(lr, sr, (own,))[1].db == pytest.approx(10 * math.log10(255**2 / 4))


@pytest.fixture(scope="module")
def phantom() -> Image:
    return Phantom(128, 3).measured(2)


def test_the_limit_is_of_what_the_live_check_measures() -> None:
    """With a single tile the first percentile over all tiles is that tile."""
    module = find_model("fast", 4).module
    pair = make_pair("one tile", texture((128, 128)).astype(np.uint8), 4, 4, 1.0)
    found = check(pair.lr, reference_image(module, pair.lr))
    assert found.worst_db is not None
    limit = fidelity_limit(module, 4, [pair.lr])
    assert limit == {"limit_db": pytest.approx(found.worst_db, abs=0.02), "tiles": 1}


def shows(lr: Image, found: Fidelity, at: tuple[int, int], beside: float = 0.02) -> bool:
    """Whether the overlay colours ``at`` most, and little beside it."""
    differences = overlay.differences(lr, found)
    coloured = differences > overlay.Scale.of(found.limit_db).low
    y, x = np.unravel_index(int(differences.argmax()), differences.shape)
    near = np.hypot(*(np.ogrid[: lr.shape[0], : lr.shape[1]][i] - at[i] for i in (0, 1))) < 15
    return bool(math.hypot(y - at[0], x - at[1]) < 3 and coloured[at] and (coloured & ~near).mean() < beside)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_planted_structure_is_found_in_a_phantom(scale: int, phantom: Image) -> None:
    model, lr = find_model("fast", scale), phantom
    limit_db = (model.descriptor.fidelity or {})["limit_db"]
    sr = reference_image(model.module, lr)
    assert not check(lr, sr, limit_db).below_limit
    at = (72, 56)
    found = check(lr, plant(sr, at, scale), limit_db)
    assert found.below_limit
    assert holds(found, at)
    assert shows(lr, found, at)


@pytest.mark.parametrize("scale", [2, 4])
def test_planted_structure_is_found_in_real_images(data: Path, scale: int) -> None:
    model = find_model("fast", scale)
    limit_db = (model.descriptor.fidelity or {})["limit_db"]
    for pair in load_pairs(str(data / "test" / "cle_*"), scale):
        sr = reference_image(model.module, pair.lr)
        assert not check(pair.lr, sr, limit_db).below_limit, pair.name
        at = (pair.lr.shape[0] * 3 // 7, pair.lr.shape[1] * 4 // 7)
        found = check(pair.lr, plant(sr, at, scale), limit_db)
        assert found.below_limit, pair.name
        assert holds(found, at)
        assert shows(pair.lr, found, at)


def passing(data: Path, name: str, scale: int) -> float:
    """The share of real images of other patients that pass the limit of the shipped model ``name``."""
    model = find_model(name, scale)
    limit_db = (model.descriptor.fidelity or {})["limit_db"]
    pairs = load_pairs(str(data / "test" / "cle_*"), scale)
    return sum(
        not check(pair.lr, reference_image(model.module, pair.lr), limit_db).below_limit for pair in pairs
    ) / len(pairs)


@pytest.mark.parametrize("scale", [4, 8])
def test_usual_images_pass(data: Path, scale: int) -> None:
    assert passing(data, "fast", scale) >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), [("densenet", 4), ("srcnn", 4), ("fast", 2)])
def test_usual_images_of_the_other_networks_pass(data: Path, name: str, scale: int) -> None:
    assert passing(data, name, scale) >= 0.8


def test_interpolation_has_a_figure_without_judgement_and_agrees_less_than_a_network(data: Path) -> None:
    network = find_model("fast", 4).module
    for pair in load_pairs(str(data / "test" / "cle_*"), 4):
        found = check(pair.lr, interpolate(pair.lr, method="bicubic", scale=4))
        assert (found.limit_db, found.below_limit) == (None, False)
        assert 30 < found.db < check(pair.lr, reference_image(network, pair.lr)).db
