from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from heard import hear

from clesr.engines.common.errors import UsageError, WeightsError
from clesr.engines.common.resample import resize
from clesr.engines.models.weights import shipped as shipped_networks
from clesr.tools.data.pairs import load_pairs
from clesr.tools.evaluation import aplus
from clesr.tools.evaluation.gain import gain_over_bicubic
from clesr.tools.evaluation.methods import open_method
from clesr.tools.training.aplus import factored, train_aplus
from clesr.tools.training.patches import load_data
from clesr.tools.training.recipe import Recipe


def texture(seed: int, size: int = 120) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Sharp-edged cells: something that a regressor of patches can learn."""
    rng = np.random.default_rng(seed)
    image = np.full((size, size), 60, np.uint8)
    for x, y, r in rng.integers((0, 0, 4), (size, size, 12), (60, 3)):
        cv2.circle(image, (int(x), int(y)), int(r), int(rng.integers(80, 250)), 1)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.7), np.uint8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    folder = tmp_path_factory.mktemp("aplus")
    (folder / "images").mkdir()
    for i in range(5):
        cv2.imwrite(str(folder / "images" / f"{i}.png"), texture(i))
    recipe = Recipe(
        name="a+", architecture="a+", scale=2, data=(str(folder / "images"),), patch=16, hold_out=5
    )
    return train_aplus(recipe, folder / "run", atoms=24, neighbours=256), recipe


def test_it_beats_bicubic_on_images_that_it_has_not_seen(trained: tuple[Path, Recipe]) -> None:
    path, recipe = trained
    model = aplus.load(path)
    _, held = load_data(recipe)
    assert [pair.name for pair in held] == ["2.png"]
    found = gain_over_bicubic(model.upscale, held)
    assert found > 0.5
    assert found == pytest.approx(model.about.metrics["validation_gain_db"], abs=0.01)
    assert model.about.training["held_out"] == ["2.png"]
    assert "2.png" not in model.about.training["images"]


def test_the_same_seed_gives_the_same_regressors(trained: tuple[Path, Recipe], tmp_path: Path) -> None:
    path, recipe = trained
    again = aplus.load(train_aplus(recipe, tmp_path, atoms=24, neighbours=256))
    np.testing.assert_array_equal(again.regressors, aplus.load(path).regressors)


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (3, 3), (17, 12)])
def test_any_size(trained: tuple[Path, Recipe], shape: tuple[int, int]) -> None:
    model = aplus.load(trained[0])
    lr = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    sr = model.upscale(lr)
    assert sr.shape == (2 * shape[0], 2 * shape[1])
    flat = np.full(shape, 90, np.uint8)
    assert np.abs(model.upscale(flat).astype(int) - 90).max() == 0


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_patches_and_their_mean_are_inverse(scale: int) -> None:
    image = np.random.default_rng(0).random((7 * scale, 5 * scale)).astype(np.float32)
    patches = aplus.patches_of(image, scale)
    assert patches.shape == (5, 3, 3 * scale, 3 * scale)
    np.testing.assert_allclose(
        aplus.overlap_mean(patches.reshape(5, 3, 3, scale, 3, scale)), image, atol=1e-6
    )


def test_features_see_structure_and_not_brightness() -> None:
    image = resize(texture(0, 16), 64, 64)
    found = aplus.features(image, 4)
    assert found.shape == (14, 14, 144)
    np.testing.assert_allclose(aplus.features(image + 50, 4), found, atol=1e-3)
    assert aplus.features(np.full((64, 64), 80, np.float32), 4).max() == 0


def test_shared_details_lose_nothing_that_is_shared() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((5, 6, 4)).astype(np.float32)
    mixed = np.einsum("rp,krd->kpd", rng.random((6, 36)).astype(np.float32), truth)
    regressors, details = factored(mixed, 6)
    assert (regressors.shape, details.shape) == ((5, 6, 4), (6, 36))
    np.testing.assert_allclose(np.einsum("rp,krd->kpd", details, regressors), mixed, rtol=1e-3, atol=1e-3)


def test_too_few_patches_and_foreign_files_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), texture(0, 40))
    recipe = Recipe(name="a+", architecture="a+", scale=2, data=(str(tmp_path / "a.png"),), patch=16)
    with pytest.raises(UsageError, match=r"the images hold \d+ patches that are not blank; A\+ needs 2048"):
        train_aplus(recipe, tmp_path / "run")
    network = shipped_networks()["fast", 2]
    assert not aplus.is_aplus(network)
    with pytest.raises(WeightsError, match=r"holds no A\+ regressors"):
        aplus.load(network)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_shipped(scale: int) -> None:
    path = aplus.shipped()[scale]
    assert path.stat().st_size < 12e6
    said = hear()
    method = open_method("a+", scale, engine="auto")
    assert said == []
    assert method is not None
    lr = texture(9, 40)
    sr, ms = method(lr)
    method.close()
    assert ms > 0
    assert sr.shape == (40 * scale, 40 * scale)
    assert np.abs(sr.astype(int) - resize(lr, *sr.shape)).mean() > 0.2, "it does something"


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_shipped_is_above_bicubic_on_other_patients(data: Path, scale: int) -> None:
    model = aplus.load(aplus.shipped()[scale])
    found = gain_over_bicubic(model.upscale, load_pairs(str(data / "test" / "cle_*"), scale))
    assert found > 0.5
    assert found == pytest.approx(model.about.metrics["test_gain_db"], abs=0.02)
