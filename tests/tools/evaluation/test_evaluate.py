from __future__ import annotations

import csv
import json
import shutil
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from commands import Run

from clesr.engines.common.resample import resize
from clesr.engines.levels import estimate_levels
from clesr.engines.models.registry import LEVELS, build_model
from clesr.engines.models.weights import Descriptor, load_model, save_model, shipped
from clesr.tools import evaluation
from clesr.tools.data.degradations import parse_degradations
from clesr.tools.data.degrade import degrade
from clesr.tools.data.images import read_gray
from clesr.tools.evaluation import methods
from clesr.tools.evaluation.evaluate import ImageScore, bootstrap, from_json, summarise
from clesr.tools.evaluation.methods import Method, label_methods
from clesr.tools.evaluation.metrics import psnr


@pytest.fixture
def run(run: Run) -> Run:
    return partial(run, "clesr", "evaluate")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two smooth images, one of them of a size that no scale divides."""
    folder = tmp_path / "test"
    folder.mkdir()
    for i, shape in enumerate(((96, 80), (101, 77))):
        noise = np.random.default_rng(i).integers(0, 256, shape, np.uint8)
        cv2.imwrite(str(folder / f"{i}.bmp"), cv2.GaussianBlur(noise, (0, 0), 2.5))
    return folder


@pytest.mark.slow
def test_the_command_as_a_user_types_it(run: Run, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, table, err = run(
        "--data", images, "--scales", 2, 4, "--methods", "nearest", "bicubic", "fast", "--json",
        tmp_path / "rows.json", "-o", out,
    )  # fmt: skip
    assert code == 0, err
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(r["scale"], r["image"], r["method"]) for r in rows] == [
        (scale, image, method)
        for scale in (2, 4)
        for image in ("0.bmp", "1.bmp")
        for method in ("nearest", "bicubic", "fast")
    ]
    assert {"method", "scale", "image", "psnr", "psnr_wrapped", "ssim", "ms"} <= set(rows[0])
    assert all(row["ms"] > 0 and 0 < row["ssim"] < 1 and row["psnr_wrapped"] >= row["psnr"] for row in rows)
    hr = read_gray(images / "1.bmp")[:100, :76]
    expected = psnr(hr, np.kron(degrade(hr, 4), np.ones((4, 4), np.uint8)), np.ones(hr.shape, bool))
    (found,) = (r["psnr"] for r in rows if (r["scale"], r["image"], r["method"]) == (4, "1.bmp", "nearest"))
    assert found == pytest.approx(expected, abs=1e-3)
    assert (out / "table.md").read_text().strip() == table.strip()
    assert "x4, native size, 2 images" in table
    with (out / "rows.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert pictures == [
        "crops-0-x2.png", "crops-0-x4.png", "errors-0-x2.png", "errors-0-x4.png", "gain.png", "scale.png",
    ]  # fmt: skip
    for name in pictures:
        drawn = cv2.imread(str(out / name))
        assert drawn is not None
        assert drawn.std() > 10, "something is on it"


def test_both_sizes_and_scales_with_commas(run: Run, images: Path, tmp_path: Path) -> None:
    code, table, err = run(
        "--data", images / "0.bmp", images / "1.bmp", "--scales", "2,4", "--methods", "bicubic", "--size", "both",
    )  # fmt: skip
    assert code == 0, err
    assert [line for line in table.splitlines() if line.startswith("x")] == [
        "x2, native size, 2 images",
        "x2, shrunk by two first, 2 images",
        "x4, native size, 2 images",
        "x4, shrunk by two first, 2 images",
    ]


def test_degradations_each_by_itself(run: Run, images: Path, tmp_path: Path) -> None:
    code, table, err = run(
        "--data", images, "--degradation", "clean,noise=8", "noise=3+jpeg=60", "--methods", "bicubic", "nearest",
        "--json", tmp_path / "rows.json", "-o", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    assert [line for line in table.splitlines() if line.startswith("x")] == [
        "x4, native size, 2 images",
        "x4, native size, noise=8, 2 images",
        "x4, native size, noise=3+jpeg=60, 2 images",
    ]
    text = (tmp_path / "rows.json").read_text()
    rows = from_json(json.loads(text))
    assert [row.degradation for row in rows[::4]] == ["clean", "noise=8", "noise=3+jpeg=60"]
    hr = read_gray(images / "0.bmp")
    noisy = np.clip(
        np.rint(resize(hr, 24, 20) + np.random.default_rng((0, 2)).standard_normal((24, 20), np.float32) * 8),
        0,
        255,
    )
    expected = psnr(hr, np.kron(noisy.astype(np.uint8), np.ones((4, 4), np.uint8)), np.ones(hr.shape, bool))
    (found,) = (r.psnr for r in rows if (r.method, r.image, r.degradation) == ("nearest", "0.bmp", "noise=8"))
    assert found == pytest.approx(expected, abs=2e-3)
    assert (
        run(
            "--data",
            images,
            "--degradation",
            "noise=8",
            "--methods",
            "nearest",
            "--json",
            tmp_path / "one.json",
        )[0]
        == 0
    )
    alone = from_json(json.loads((tmp_path / "one.json").read_text()))
    assert [row.psnr for row in alone] == [
        row.psnr for row in rows if (row.method, row.degradation) == ("nearest", "noise=8")
    ], "the same noise whatever else is measured"


def test_a_network_with_levels_is_evaluated_on_its_own_estimates(
    run: Run, images: Path, tmp_path: Path
) -> None:
    arguments = {"channels": 4, "depth": 3, "levels": LEVELS}
    module = build_model("fast", 4, arguments)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1, generator=torch.Generator().manual_seed(1))
    path = tmp_path / "told.safetensors"
    save_model(path, module, Descriptor(name="told", architecture="fast", scale=4, arguments=arguments))
    code, _, err = run(
        "--data",
        images / "0.bmp",
        "--degradation",
        "noise=8",
        "--methods",
        path,
        "--json",
        tmp_path / "rows.json",
    )
    assert code == 0, err
    (row,) = from_json(json.loads((tmp_path / "rows.json").read_text()))
    hr = read_gray(images / "0.bmp")
    (degradation,) = parse_degradations("noise=8")
    lr = degradation(hr, 4, np.random.default_rng((0, 2)))
    told = torch.from_numpy(estimate_levels(lr).as_input())[None]
    made = load_model(path).module(torch.from_numpy(lr)[None, None] / 255, told)[0, 0].detach().numpy()
    assert row.psnr == pytest.approx(
        psnr(hr, np.rint(255 * made).astype(np.uint8), np.ones(hr.shape, bool)), abs=0.01
    )


def test_what_has_no_weights_is_said_and_left_out(
    run: Run, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {key: path for key, path in shipped().items() if key != ("srcnn", 4)}
    monkeypatch.setattr(methods, "shipped", lambda: found)
    code, table, err = run("--data", images, "--scales", 4, "--methods", "srcnn", "bicubic", "--no-figures")
    assert code == 0
    assert "srcnn has no weights for x4: left out" in err
    assert "| srcnn |" not in table
    assert "| bicubic |" in table


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scales", 3), "--scales 3 is not one of 2, 4, 8"),
        (("--degradation", "clean,noise=1..2"), "--degradation noise=1..2 is not one degradation"),
        (("--methods", "magic"), "method 'magic' is unknown; choose from all, nearest"),
        (("--picture", "2.bmp"), "--picture 2.bmp is not among the images; there are 0.bmp, 1.bmp"),
    ],
)
def test_wrong_usage_is_one_line(run: Run, images: Path, arguments: tuple[object, ...], words: str) -> None:
    code, _, err = run("--data", images, *arguments)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


def test_images_that_cannot_be_measured(run: Run, tmp_path: Path) -> None:
    code, _, err = run("--data", tmp_path)
    assert code == 2
    assert "no images at" in err
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((9, 30), np.uint8))
    code, _, err = run("--data", tmp_path, "--methods", "bicubic")
    assert code == 2
    assert "small.png is 30x9: too small" in err


def row(method: str, image: str, value: float) -> ImageScore:
    return ImageScore(method, 4, "native", image, value, value, 0.5, 1.0, 1.0, "")


def test_differences_are_paired() -> None:
    """Images differ by much more than methods: only pairs show that one is better."""
    values = np.random.default_rng(0).normal(30, 5, 20)
    rows = [row("bicubic", str(i), v) for i, v in enumerate(values)]
    rows += [row("better", str(i), v + 1 + 0.1 * (i % 2)) for i, v in enumerate(values)]
    base, better = summarise(rows)
    assert better.gain is not None
    assert better.gain.value == pytest.approx(1.05)
    assert 1 < better.gain.low < 1.05 < better.gain.high < 1.1
    assert better.psnr.low < base.psnr.high, "unpaired, the intervals overlap"


def test_the_bootstrap_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(0, 1, 400)
    mean = bootstrap(list(values))
    half = 1.96 * values.std() / 20
    assert mean.value == pytest.approx(values.mean())
    assert mean.low == pytest.approx(values.mean() - half, abs=0.02)
    assert mean.high == pytest.approx(values.mean() + half, abs=0.02)


def test_files_of_one_name_and_images_of_one_name_are_told_apart(
    run: Run, images: Path, tmp_path: Path
) -> None:
    """`clesr train` calls every result weights.safetensors; the same image may be in two folders."""
    weights = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        weights.append(Path(shutil.copy(shipped()["fast", 4], tmp_path / name / "weights.safetensors")))
    code, table, err = run(
        "--data", images / "0.bmp", images / "0.bmp", "--methods", *weights, "bicubic", "--json", tmp_path / "r.json",
    )  # fmt: skip
    assert code == 0, err
    rows = json.loads((tmp_path / "r.json").read_text())
    found = [(r["method"], r["image"]) for r in rows]
    assert found == [(m, i) for i in ("0.bmp", "0.bmp (2)") for m in ("one", "two", "bicubic")]
    assert "- one, two: " in table, "the engine that computed them"


def test_label_methods() -> None:
    assert label_methods(["fast", "a/weights.safetensors", "b/fine.safetensors"]) == {
        "fast": "fast",
        "a/weights.safetensors": "a",
        "b/fine.safetensors": "fine",
    }
    same = ["x/run/weights.safetensors", "y/run/weights.safetensors"]
    assert label_methods(same) == {name: name for name in same}
    assert label_methods(["mine/fast/weights.safetensors"]) == {
        "mine/fast/weights.safetensors": "fast/weights"
    }


def test_an_exact_image_is_no_trouble(run: Run, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((64, 66), 77, np.uint8))
    code, table, err = run(
        "--data", tmp_path, "--methods", "bicubic", "nearest", "--json", tmp_path / "rows.json"
    )
    assert code == 0, err
    assert "1 images lose up to 3 rows and columns, to be a multiple of x4" in err
    assert "| inf [inf, inf] | +0.00 [+0.00, +0.00] |" in table
    text = (tmp_path / "rows.json").read_text()
    assert "Infinity" not in text
    assert summarise(from_json(json.loads(text)))[0].psnr.value == np.inf


def test_what_cannot_be_done_is_said_before_hours_of_computing(
    run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []
    monkeypatch.setattr(Method, "__call__", lambda self, lr: computed.append(self.name))
    code, _, err = run("--data", images, "--scales", 2, 8, "--size", "both", "--methods", "bicubic")
    assert code == 2
    assert "1.bmp is 38x50: too small to measure at x8" in err
    monkeypatch.delitem(sys.modules, "clesr.tools.evaluation.figures", raising=False)
    monkeypatch.delattr(evaluation, "figures", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = run("--data", images, "-o", tmp_path / "out", "--methods", "bicubic")
    assert code == 2
    assert "figures need matplotlib; install it with: pip install 'clesr[train]', or give --no-figures" in err
    assert not computed
