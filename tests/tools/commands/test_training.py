from __future__ import annotations

import csv
import errno
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from commands import Run
from random_models import random_model

from clesr.engines.common.errors import ClesrError, UsageError
from clesr.engines.factory import open_engine
from clesr.engines.models.densenet import DenseNet
from clesr.engines.models.fast import FastSR
from clesr.engines.models.layers import BicubicUp
from clesr.engines.models.registry import LEVELS, NETWORKS, level_names
from clesr.engines.models.weights import load_model
from clesr.engines.results import run_frame
from clesr.engines.view import field_of_view
from clesr.tools.commands.train import train
from clesr.tools.data.degrade import crop_to_multiple, degrade, degrade_part
from clesr.tools.data.images import MOST_FRAMES, read_entry
from clesr.tools.data.pairs import make_pair
from clesr.tools.evaluation.gain import upscale_image
from clesr.tools.evaluation.metrics import psnr
from clesr.tools.training import checkpoint
from clesr.tools.training import publish as publishing
from clesr.tools.training.patches import VALIDATED, Patches, load_data, split_weight
from clesr.tools.training.publish import publish
from clesr.tools.training.recipe import Recipe, TrainingSchedule
from clesr.tools.training.single_process import SingleProcess
from clesr.tools.training.train import Progress, Trainer, TrainingStopped
from clesr.tools.training.validate import silent_layers

pytestmark = pytest.mark.usefixtures("few_phantoms")


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


def log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_training_learns_and_describes_itself(images: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    patterns = tmp_path / "patterns"
    trainer = Trainer(
        recipe(images, steps=60, learning_rate=3e-3, core_patterns=str(patterns)), tmp_path / "run"
    )
    trainer.run(lambda p: losses.append(p.loss), every=20)
    assert np.mean(losses[-19:]) < np.mean(losses[:19])
    model = load_model(publish(trainer))
    training = model.descriptor.training
    assert training["images"] == ["0.png", "0.png / 2", "2.png", "2.png / 2"]
    assert training["held_out"] == ["1.png"]
    assert training["core_patterns"] == "patterns"
    assert str(tmp_path) not in repr(model.descriptor), "where the images lay is nobody's business"
    assert (training["steps"], training["seed"], training["batch"]) == (60, 0, 2)
    assert model.descriptor.metrics["validation_gain_db"] == pytest.approx(
        float(log(tmp_path / "run")[-1]["gain_db"]), abs=1e-3
    )
    assert model.descriptor.fidelity is not None
    assert 20 < model.descriptor.fidelity["limit_db"] < 80
    card = (tmp_path / "run" / "MODEL_CARD.md").read_text()
    assert model.sha256 in card
    assert "0.png" in card
    assert cv2.imread(str(tmp_path / "run" / "curves.png")) is not None


@pytest.mark.parametrize("stop_at", [1, 8, 9])
def test_stopped_and_resumed_is_trained_in_one_go_to_the_bit(
    images: Path, tmp_path: Path, stop_at: int
) -> None:
    straight = Trainer(recipe(images), tmp_path / "straight")
    straight.run(every=4)
    broken = Trainer(recipe(images), tmp_path / "broken")
    with pytest.raises(TrainingStopped):
        broken.run(every=4, stopping=lambda: broken.step + 1 >= stop_at)
    resumed = Trainer(recipe(images), tmp_path / "broken")
    assert resumed.step == stop_at
    resumed.run(every=4)
    ours, theirs = straight.module.state_dict(), resumed.module.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert [row["step"] for row in log(tmp_path / "broken")] == ["4", "8", "12"]


def test_killed_without_warning_it_goes_on_from_the_last_checkpoint(images: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.step == 9:
            raise Killed

    straight = Trainer(recipe(images), tmp_path / "straight")
    straight.run(every=4)
    with pytest.raises(Killed):
        Trainer(recipe(images), tmp_path / "broken").run(kill, every=4)
    resumed = Trainer(recipe(images), tmp_path / "broken")
    assert resumed.step == 8
    resumed.run(every=4)
    ours, theirs = straight.module.state_dict(), resumed.module.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


TWO = """
import json, sys
from pathlib import Path
from clesr.tools.training.recipe import Recipe
from clesr.tools.training.train import Trainer
trainer = Trainer(Recipe(**json.loads(sys.argv[1])), Path(sys.argv[2]))
trainer.run(every=1)
"""


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(images: Path, tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO)
    numbers = {
        "name": "tiny", "architecture": "fast", "scale": 2, "arguments": {"channels": 4, "depth": 3},
        "data": [str(images)], "steps": 8, "batch": 4, "patch": 16, "hold_out": 3, "learning_rate": 3e-3,
    }  # fmt: skip
    for processes in (1, 2):
        arguments = [str(script), json.dumps(numbers), str(tmp_path / str(processes))]
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc_per_node",
            str(processes),
            *arguments,
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": "29511"},
        )
        assert done.returncode == 0, done.stderr
    one, two = ([float(row["loss"]) for row in log(tmp_path / str(n))] for n in (1, 2))
    assert len(one) == 8
    assert one == pytest.approx(two, rel=1e-5)
    assert one[-1] != pytest.approx(one[0], rel=1e-3), "the curve moves"


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_without_lightning_one_process_trains_the_same(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    ends = []
    for name in ("with", "without"):
        if name == "without":
            monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
        trainer = Trainer(recipe(images, precision=precision), tmp_path / name)
        assert isinstance(trainer.fabric, SingleProcess) == (name == "without")
        trainer.run(every=6)
        ends.append(trainer)
    for key, value in ends[0].module.state_dict().items():
        torch.testing.assert_close(ends[1].module.state_dict()[key], value, rtol=0, atol=0)
    assert log(tmp_path / "with")[-1]["loss"] == log(tmp_path / "without")[-1]["loss"]


def test_the_command_wants_what_it_will_need_at_the_end(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(
        UsageError, match=r"training needs lightning; install it with: pip install 'clesr\[train\]'"
    ):
        train.main(["--data", str(images), "-o", "run"], standalone_mode=False)


def test_a_failed_write_keeps_the_checkpoint_before(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    trainer = Trainer(recipe(images), folder)

    def full(_descriptor: int) -> None:
        if trainer.step >= 8:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        ClesrError, match=r"No space left on device; free some space, .*; then give the same command"
    ):
        trainer.run(every=4)
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint.pt", "log.csv"]
    assert Trainer(recipe(images), folder).step == 4


def test_a_full_disk_is_found_before_the_first_step(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    trainer = Trainer(recipe(images), tmp_path / "run")
    with pytest.raises(ClesrError, match="No space left"):
        trainer.run()
    assert trainer.step == 0


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / checkpoint.NAME).write_bytes(b"PK nothing")
    with pytest.raises(ClesrError, match=r"checkpoint\.pt is damaged"):
        checkpoint.load(tmp_path)


def test_a_checkpoint_that_states_more_than_it_holds_takes_no_memory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / checkpoint.NAME, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    with pytest.raises(
        ClesrError, match=r"checkpoint\.pt is damaged \(it states 1048576 bytes, more than it has\)"
    ):
        checkpoint.load(tmp_path)


def test_a_run_from_before_an_option_was_there_goes_on(images: Path, tmp_path: Path) -> None:
    Trainer(recipe(images), tmp_path).run()
    state = checkpoint.load(tmp_path)
    assert state is not None
    kept = json.loads(state["recipe"])
    del kept["shift"]
    checkpoint.save(tmp_path, {**state, "recipe": json.dumps(kept)})
    assert Trainer(recipe(images), tmp_path).step == 12
    with pytest.raises(UsageError, match="a run with other shift"):
        Trainer(recipe(images, shift=True), tmp_path)


def test_a_run_with_other_options_is_not_taken_up(images: Path, tmp_path: Path) -> None:
    Trainer(recipe(images), tmp_path).run()
    with pytest.raises(UsageError, match="batch"):
        Trainer(recipe(images, batch=3), tmp_path)


def test_weights_of_another_scale_start_the_trunk(images: Path, tmp_path: Path) -> None:
    trained = Trainer(recipe(images), tmp_path / "x2")
    trained.run()
    first = publish(trained)
    second = Trainer(recipe(images, scale=4, init=str(first)), tmp_path / "x4")
    taken, given = second.module.state_dict(), load_model(first).module.state_dict()
    assert torch.equal(taken["body.1.weight"], given["body.1.weight"])


def test_a_teacher_is_followed(images: Path, tmp_path: Path) -> None:
    """A pupil of an untrained teacher, which is bicubic, stays there; one of the truth does not."""

    def gain(name: str, **changes: object) -> float:
        trainer = Trainer(recipe(images, learning_rate=3e-3, **changes), tmp_path / name)
        trainer.run()
        if name == "teacher":
            publish(trainer)
        return float(log(tmp_path / name)[-1]["gain_db"])

    untrained = gain("teacher", steps=1, decay=1e-12, milestones=(0,))
    taught = str(tmp_path / "teacher" / "weights.safetensors")
    assert gain("pupil", teacher=taught, teacher_share=1.0, steps=60) == pytest.approx(untrained, abs=0.01)
    assert gain("free", teacher=taught, teacher_share=0.0, steps=60) > untrained + 0.2
    with pytest.raises(UsageError, match="teacher is for scale 2, not 4"):
        Trainer(recipe(images, scale=4, teacher=taught), tmp_path / "x4")


MIX = ("clean", "noise=1..9@2", "jpeg=40..90", "point")


@pytest.fixture
def no_phantoms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fidelity limit from held-out images alone: publishing takes a moment, not seconds."""
    monkeypatch.setattr(publishing, "phantoms", list)


@pytest.mark.usefixtures("no_phantoms")
def test_a_network_is_told_what_befell_its_images(images: Path, tmp_path: Path) -> None:
    """Its weights are loaded again with what they take, and say what they were trained on."""
    arguments = {"channels": 4, "depth": 3, "levels": LEVELS}
    run = Trainer(recipe(images, degradation=MIX, arguments=arguments, steps=20), tmp_path / "run")
    run.run(every=10)
    assert len(run.measured) == len(VALIDATED) * len(run.held)
    model = load_model(publish(run))
    assert level_names(model.module) == LEVELS
    shifts = [value for key, value in model.module.state_dict().items() if key.endswith("shift")]
    assert all(bool(shift.any()) for shift in shifts), "learned"
    assert model.descriptor.training["degradation"] == list(MIX)
    gains = model.descriptor.metrics["validation_gains_db"]
    assert set(gains) == set(VALIDATED)
    assert model.descriptor.metrics["validation_gain_db"] == gains["clean"]
    card = (tmp_path / "run" / "MODEL_CARD.md").read_text()
    assert "noise=1..9@2" in card
    assert "noise=5: " in card
    lr = run.held[0].lr
    engine = open_engine("auto", model, 2, (lr.shape[0], lr.shape[1]))
    assert np.abs(run_frame(engine, lr).astype(int) - upscale_image(model.module, lr)).max() <= 4
    engine.close()


def test_a_network_with_levels_of_others_is_refused() -> None:
    told = random_model("fast", 2, channels=4, depth=3, levels=("noise", "mood"))
    with pytest.raises(
        UsageError, match="takes noise, mood beside the image; this clesr estimates noise, detail"
    ):
        open_engine("auto", told, 2, (16, 16))


def test_balanced_patches_count_by_what_bicubic_leaves(images: Path, tmp_path: Path) -> None:
    """A patch whose bicubic error is larger counts for less; the same network and patches otherwise."""
    plain = Trainer(recipe(images, degradation=MIX), tmp_path / "plain")
    even = Trainer(recipe(images, degradation=MIX, balanced=True), tmp_path / "even")
    patches = [torch.from_numpy(part) for part in even.patches(0, even.share)]
    bicubic = (BicubicUp(2)(patches[0]).clamp(0, 1) - patches[1]).abs() * patches[2]
    shares = 1 / (bicubic.mean((1, 2, 3)) / 0.02 + 0.2)
    each = [plain._loss(*(part[i : i + 1] for part in patches)).item() for i in range(len(shares))]
    expected = float((torch.tensor(each) * shares).mean())
    assert even._loss(*patches).item() == pytest.approx(expected, rel=1e-4)
    assert expected != pytest.approx(plain._loss(*patches).item(), rel=0.01)


def test_a_mix_is_taken_up_again_to_the_bit(images: Path, tmp_path: Path) -> None:
    straight = Trainer(recipe(images, degradation=MIX), tmp_path / "straight")
    straight.run(every=6)
    broken = Trainer(recipe(images, degradation=MIX), tmp_path / "broken")
    with pytest.raises(TrainingStopped):
        broken.run(every=6, stopping=lambda: broken.step + 1 >= 7)
    resumed = Trainer(recipe(images, degradation=MIX), tmp_path / "broken")
    resumed.run(every=6)
    ours, theirs = straight.module.state_dict(), resumed.module.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.usefixtures("no_phantoms")
def test_the_command_takes_degradations_and_its_recipe_repeats_them(images: Path, tmp_path: Path) -> None:
    options = [
        "--data", str(images), "--architecture", "fast", "--channels", "4", "--depth", "3", "--levels", "--scale", "2",
        "--degradation", "noise=2..6", "--degradation", "clean@2", "--batch", "2", "--patch", "16", "--steps", "2",
    ]  # fmt: skip
    train.main([*options, "-o", str(tmp_path / "one")], standalone_mode=False)
    again = ["--recipe", str(tmp_path / "one" / "recipe.toml"), "-o", str(tmp_path / "two")]
    train.main(again, standalone_mode=False)
    one, two = (load_model(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert two.descriptor.training["degradation"] == ["noise=2..6", "clean@2"]
    assert one.sha256 == two.sha256


def test_where_nothing_is_held_out_the_loss_alone_is_told(images: Path, tmp_path: Path, run: Run) -> None:
    words = ("clesr", "train", "--data", str(images), "-o", str(tmp_path / "run"), "--architecture", "fast")
    code, _, err = run(*words, "--hold-out", "0", "--steps", "5", "--every", "2", "--batch", "2")
    assert code == 0, err
    told = [line for line in err.splitlines() if line.startswith("step ")]
    assert [line.partition(":")[0] for line in told] == ["step 2", "step 4", "step 5"]
    assert not [line for line in told if "nan" in line or "bicubic" in line]
    assert [row["gain_db"] for row in log(tmp_path / "run")] == ["", "", ""]


def test_a_network_of_another_package_is_trained(images: Path, tmp_path: Path, run: Run) -> None:
    NETWORKS.add("copied", FastSR)  # type: ignore[arg-type]
    try:
        code, _, err = run(
            "clesr", "train", "--data", images, "--architecture", "copied", "--scale", "2",
            "--steps", "2", "--batch", "2", "--patch", "16", "--every", "2", "-o", tmp_path / "run",
        )  # fmt: skip
        assert code == 0, err
        assert isinstance(load_model(tmp_path / "run" / "weights.safetensors").module, FastSR)
    finally:
        NETWORKS.remove("copied")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--architecture", "shallow"],
            "--architecture 'shallow' is not one of densenet, srcnn, fast, densenet-paper, a+",
        ),
        (["--architecture", "srcnn", "--levels"], "--levels goes with densenet and fast, not with srcnn"),
        (["--degradation", "fog=2"], "--degradation fog=2: 'fog' is not one of clean"),
    ],
)
def test_options_of_degradations_that_cannot_be(
    images: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        train.main(["--data", str(images), "-o", str(tmp_path / "run"), *options], standalone_mode=False)


def test_the_papers_schedule() -> None:
    paper = Recipe(name="paper", architecture="densenet", scale=4)
    plan = TrainingSchedule(paper, covering_patches=1280)
    assert (plan.epoch_steps, plan.steps) == (10, 3000)
    assert [plan.learning_rate(step) for step in (0, 499, 500, 1999, 2000, 2999)] == pytest.approx(
        [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5]
    )
    assert (paper.batch, paper.patch, paper.loss) == (128, 64, "l1")
    assert (paper.beta1, paper.beta2, paper.epsilon) == (0.9, 0.999, 1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": 0}, "--batch 0 is not positive"),
        ({"learning_rate": float("nan")}, "--learning-rate nan"),
        ({"schedule": "sometimes"}, "--schedule 'sometimes' is not one of steps, cosine, constant"),
        ({"patch": 15}, "--patch 15 is no multiple of the scale 2"),
        ({"teacher_share": 1.5}, "--teacher-share 1.5"),
        ({"contrast": 0.0}, "--contrast 0.0 is not between 0.05 and 1"),
        ({"contrast": float("nan")}, "--contrast nan is not between"),
    ],
)
def test_recipes_that_cannot_be(images: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        recipe(images, **changes)


def test_stacks_and_recordings_are_images(tmp_path: Path) -> None:
    pages = np.random.default_rng(0).integers(0, 1000, (5, 40, 48)).astype(np.uint16)
    pages[2] = pages[1]
    tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="minisblack")
    found = list(read_entry(str(tmp_path)))
    assert [name for name, _ in found] == [f"stack.tif frame {i}" for i in (0, 1, 3, 4)], "no frame twice"
    np.testing.assert_array_equal(found[2][1], np.rint(pages[3] * (255 / pages.max())))
    many = np.random.default_rng(0).integers(0, 256, (3 * MOST_FRAMES, 16, 16), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", many, photometric="minisblack")
    numbers = [int(name.rpartition(" ")[2]) for name, _ in read_entry(str(tmp_path))]
    assert numbers == list(range(0, 3 * MOST_FRAMES, 4))


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
    assert split_weight(entry) == expected


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
    patches = Patches([pair], scale=2, patch=32, seed=5)
    lr, hr, mask, _ = patches(3, range(4))
    assert lr.shape == (4, 1, 16, 16)
    assert hr.shape == (4, 1, 32, 32)
    assert mask.all()
    np.testing.assert_array_equal(patches(3, range(2, 4))[0], lr[2:])
    assert not np.array_equal(patches(4, range(4))[0], lr)
    inner = degrade((hr[0, 0] * 255).round().astype(np.uint8), 2)[3:-3, 3:-3]
    np.testing.assert_allclose(inner, lr[0, 0, 3:-3, 3:-3] * 255, atol=1.01)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (1, 5), (13, 39), (32, 40)])
def test_a_part_is_degraded_as_an_image_cut_there(top: int, left: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 72), np.uint8)
    part = degrade_part(image, np.s_[top : top + 32, left : left + 32], 4)
    cut = degrade(crop_to_multiple(image[top % 4 :, left % 4 :], 4), 4)[top // 4 :, left // 4 :][:8, :8]
    assert np.abs(part.astype(int) - cut).max() <= 1


def test_shifted_patches_fit_together_and_begin_anywhere() -> None:
    columns = 40 * (np.arange(72) % 4)
    image = (columns + np.random.default_rng(0).integers(0, 30, (64, 1))).astype(np.uint8)
    pair = make_pair("a", image, 4, 16, 1.0)
    for shift, phases in ((False, {0, 3}), (True, {0, 1, 2, 3})):  # 3: flipped
        patches = Patches([pair], scale=4, patch=32, seed=5, shift=shift)
        lr, hr, _, _ = patches(0, range(32))
        assert set((np.rint(hr[:, 0, 0, 0] * 255) // 40).astype(int)) == phases
        for one, other in zip(lr[:, 0], hr[:, 0], strict=True):
            inner = degrade(np.rint(other * 255).astype(np.uint8), 4)[2:-2, 2:-2]
            np.testing.assert_allclose(inner, one[2:-2, 2:-2] * 255, atol=1.01)


def test_blank_patches_are_avoided() -> None:
    image = np.zeros((128, 128), np.uint8)
    image[:64, :64] = np.random.default_rng(0).integers(0, 256, (64, 64))
    patches = Patches([make_pair("a", image, 2, 32, 1.0)], scale=2, patch=32, seed=0)
    _, hr, _, _ = patches(0, range(16))
    assert sum(float(p.std()) > 0 for p in hr) >= 15


def test_only_what_is_in_the_field_of_view_is_learned_from() -> None:
    y, x = np.mgrid[:128, :128]
    inside = (x - 63.5) ** 2 + (y - 63.5) ** 2 < 62**2
    image = np.where(inside, np.random.default_rng(0).integers(30, 250, (128, 128)), 0).astype(np.uint8)
    patches = Patches([make_pair("disc", image, 2, 32, 1.0)], scale=2, patch=32, seed=0)
    _, hr, mask, _ = patches(0, range(32))
    assert mask.mean(axis=(1, 2, 3)).min() >= 0.5
    assert mask.min() == 0
    assert (hr[mask == 1] * 255 >= 30 - 1e-3).all()
    assert patches.covering == round(0.96 * np.pi * 62**2 / 32**2)


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


def test_the_dense_network_starts_with_every_layer_alive(images: Path, tmp_path: Path) -> None:
    """Of Kaiming's noise alone, a tenth of what varies would reach the end of the twelfth block."""
    trainer = Trainer(
        recipe(images, architecture="densenet", arguments={"skip": "add"}, patch=32), tmp_path / "run"
    )
    network = trainer.module
    assert isinstance(network, DenseNet)
    assert silent_layers(network, trainer.held[0].lr) == 0
    lr = torch.from_numpy(trainer.held[0].lr)[None, None].float() / 255
    low = lr
    for layer in network.low:
        low = torch.relu(layer(low))
    features = low
    for block in network.blocks:
        features = block(features)
    spread = [f.detach().std((2, 3)).mean().item() for f in (low, features)]
    assert 0.5 < spread[1] / spread[0] < 20


def test_silent_layers_are_reported(images: Path, tmp_path: Path) -> None:
    trainer = Trainer(recipe(images, arguments={"channels": 4, "depth": 4}), tmp_path / "run")
    assert silent_layers(trainer.module, trainer.held[0].lr) == 0
    with torch.no_grad():
        for layer in [m for m in trainer.module.modules() if isinstance(m, torch.nn.Conv2d)][1:3]:
            assert layer.bias is not None
            layer.weight.fill_(-1.0)
            layer.bias.fill_(-0.1)
    assert silent_layers(trainer.module, trainer.held[0].lr) == 2
    told: list[Progress] = []
    trainer.run(told.append, every=6)
    assert told[-1].silent == 2
