"""A laboratory's own images, laid out as the paper's: bitmaps of 1024 x 1024 in train/ and test/, two commands."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from clesr.tools.cli import clesr
from clesr.tools.data.phantoms import phantom_images


@pytest.mark.slow
def test_train_and_evaluate_on_a_folder_of_bitmaps(tmp_path: Path) -> None:
    for index, (_, image) in enumerate(phantom_images("demo:?size=1024&images=4&seed=300")):
        folder = tmp_path / ("test" if index == 3 else "train")
        folder.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / f"{index:03d}.bmp"), image)
    run = tmp_path / "run"
    train = ["train", "--data", str(tmp_path / "train"), "--test", str(tmp_path / "test"), "-o", str(run)]
    fast = ["--architecture", "fast", "--scale", "4", "--steps", "60", "--every", "60", "--batch", "8"]
    rows = tmp_path / "rows.json"
    evaluate = ["evaluate", "--data", str(tmp_path / "test"), "--scales", "4", "--json", str(rows)]
    methods = ["--methods", f"bicubic,{run / 'weights.safetensors'}"]
    for arguments in (train + fast, evaluate + methods):
        result = CliRunner().invoke(clesr, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    bicubic, own = json.loads(rows.read_text())
    assert own["image"] == bicubic["image"] == "003.bmp"
    assert own["psnr"] > bicubic["psnr"]
