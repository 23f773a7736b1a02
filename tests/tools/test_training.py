from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from clesr.engines.weights import load_model
from clesr.pipeline.errors import UsageError
from clesr.tools.evaluation.metrics import field_of_view, psnr
from clesr.tools.training.data import Patches, make_pair
from clesr.tools.training.degrade import degrade
from clesr.tools.training.train import Progress, Recipe, Trainer, _split_weight, load_data


class Stop(Exception):
    pass


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (80, 72), np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.GaussianBlur(noise, (0, 0), 1.5))
    return folder


def recipe(images: Path, **changes: object) -> Recipe:
    numbers: dict[str, object] = {
        "name": "tiny", "architecture": "fast", "scale": 2, "arguments": {"channels": 4, "depth": 3},
        "data": (str(images),), "steps": 12, "batch": 2, "patch": 16, "hold_out": 3, "shrunk": 0.5,
    }  # fmt: skip
    return Recipe(**{**numbers, **changes})  # type: ignore[arg-type]


def nothing(_progress: Progress) -> None:
    pass


def test_training_learns_and_describes_itself(images: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    trainer = Trainer(recipe(images, steps=60, learning_rate=3e-3), tmp_path / "run")
    path = trainer.run(lambda p: losses.append(p.loss), every=20)
    assert np.mean(losses[-19:]) < np.mean(losses[:19])
    model = load_model(path)
    training = model.descriptor.training
    assert model.descriptor.arguments == {"channels": 4, "depth": 3}
    assert training["held_out"] == ["1.png"]
    assert training["images"] == ["0.png", "0.png / 2", "2.png", "2.png / 2"]
    assert training["steps"] == 60
    assert (tmp_path / "run" / "log.csv").read_text().count("\n") == 4


def test_interrupted_and_resumed_gives_the_same_weights_bit_for_bit(images: Path, tmp_path: Path) -> None:
    straight = Trainer(recipe(images), tmp_path / "straight")
    straight.run(nothing, every=4)

    def stop(progress: Progress) -> None:
        if progress.step == 9:
            raise Stop

    with pytest.raises(Stop):
        Trainer(recipe(images), tmp_path / "broken").run(stop, every=4)
    resumed = Trainer(recipe(images), tmp_path / "broken")
    assert resumed.step == 8
    resumed.run(nothing, every=4)
    a = load_model(tmp_path / "straight" / "weights.safetensors")
    b = load_model(tmp_path / "broken" / "weights.safetensors")
    assert a.sha256 == b.sha256


def test_a_run_with_other_options_is_not_taken_up(images: Path, tmp_path: Path) -> None:
    Trainer(recipe(images), tmp_path).run(nothing)
    with pytest.raises(UsageError, match="batch"):
        Trainer(recipe(images, batch=3), tmp_path)


def test_weights_of_another_scale_start_the_trunk(images: Path, tmp_path: Path) -> None:
    first = Trainer(recipe(images), tmp_path / "x2").run(nothing)
    second = Trainer(recipe(images, scale=4, init=str(first)), tmp_path / "x4")
    taken, given = second.module.state_dict(), load_model(first).module.state_dict()
    assert torch.equal(taken["body.1.weight"], given["body.1.weight"])


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("folder", ("folder", 1.0)),
        ("folder=3", ("folder", 3.0)),
        ("demo:", ("demo:", 1.0)),
        ("demo:?images=12", ("demo:?images=12", 1.0)),
        ("demo:?images=12=2", ("demo:?images=12", 2.0)),
        ("demo:?images=2&seed=7", ("demo:?images=2&seed=7", 1.0)),
        ("demo:?images=2&seed=7=0.5", ("demo:?images=2&seed=7", 0.5)),
    ],
)
def test_weights_of_data_entries(entry: str, expected: tuple[str, float]) -> None:
    assert _split_weight(entry) == expected


def test_phantoms_are_data_too(images: Path) -> None:
    pairs, _ = load_data(recipe(images, data=("demo:?images=2&size=64",)))
    assert len(pairs) == 2
    assert pairs[0].hr.shape == (64, 64)
    assert not np.array_equal(pairs[0].hr, pairs[1].hr)


@pytest.mark.parametrize("data", ["empty", "missing"])
def test_no_images_is_a_usage_error(tmp_path: Path, data: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images"):
        Trainer(recipe(tmp_path / data), tmp_path / "run")


def test_unreadable_and_small_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"a\.png cannot be read"):
        load_data(recipe(tmp_path))
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(UsageError, match="8x8"):
        load_data(recipe(tmp_path))


def test_patches_fit_together_and_depend_on_the_step_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    pair = make_pair("a", cv2.GaussianBlur(image, (0, 0), 2).astype(np.uint8), 2, 16, 1.0)
    patches = Patches([pair], scale=2, patch=32, batch=4, seed=5)
    lr, hr = patches(3)
    assert lr.shape == (4, 1, 16, 16)
    assert hr.shape == (4, 1, 32, 32)
    np.testing.assert_array_equal(patches(3)[0], lr)
    assert not np.array_equal(patches(4)[0], lr)
    inner = degrade((hr[0, 0] * 255).round().astype(np.uint8), 2)[3:-3, 3:-3]
    np.testing.assert_allclose(inner, lr[0, 0, 3:-3, 3:-3] * 255, atol=1.01)


def test_blank_patches_are_avoided() -> None:
    image = np.zeros((128, 128), np.uint8)
    image[:64, :64] = np.random.default_rng(0).integers(0, 256, (64, 64))
    patches = Patches([make_pair("a", image, 2, 32, 1.0)], scale=2, patch=32, batch=16, seed=0)
    _, hr = patches(0)
    assert sum(float(p.std()) > 0 for p in hr) >= 15


def test_field_of_view() -> None:
    y, x = np.mgrid[:200, :200]
    disc = np.where((x - 99.5) ** 2 + (y - 99.5) ** 2 < 98**2, 120, 0).astype(np.uint8)
    mask = field_of_view(disc)
    assert mask.sum() == pytest.approx(np.pi * (0.98 * 98) ** 2, rel=0.02)
    assert disc[mask].min() == 120
    assert field_of_view(np.full((50, 60), 90, np.uint8)).all()


def test_psnr() -> None:
    a, b = np.full((4, 4), 100, np.uint8), np.full((4, 4), 90, np.uint8)
    b[0, 0] = 0
    mask = np.ones((4, 4), np.bool_)
    mask[0, 0] = False
    assert psnr(a, b, mask) == pytest.approx(10 * np.log10(255**2 / 100))
    assert psnr(a, a, mask) == np.inf
