"""Draws pictures of a real CLE still for docs/: cle.png, as a coarser probe would have seen it, enlarged by bicubic and
by clesr, beside the truth; noisy.png, the same for a noisy probe, also by the weights that were trained on clean images
alone; native.png, the still as it is, enlarged beyond what is known; and cores.png, a resolution target through a fibre
bundle, as it is captured and without its cores.

CLESR_DATA=FOLDER python benchmarks/picture.py
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.image import Image, Pixels
from clesr.engines.common.resample import quantise, resize
from clesr.engines.factory import open_engine
from clesr.engines.results import run_frame
from clesr.pipeline.cores.find import find_cores
from clesr.pipeline.cores.removal import CoreRemoval
from clesr.tools.data.degradations import parse_degradations
from clesr.tools.data.images import read_gray
from clesr.tools.data.pairs import noise_of

ROOT = Path(__file__).resolve().parent.parent
STILL, SCALE = "test/cle_compressedCell_VC.png", 4  # M. Aubreville, CC BY 4.0
PART = (224, 176, 192)  # of it: left, top, side, in pixels of the still
NATIVE = {2: (224, 176, 96), 4: (224, 176, 64), 8: (240, 190, 48)}  # of it as it is, for each scale
CLEAN = "8deeb61"  # the commit whose weights were trained on clean images alone
NOISE = 5  # grey levels
BUNDLE = ("fb_usaf1_background.png", "fb_usaf1.png")  # (c) 2023 Michael Hughes, PyFibreBundle, MIT
WHOLE, DETAIL = (180, 20, 920), (640, 480, 200)
PANEL, CAPTION, GAP = 384, 44, 12


def main() -> None:
    """Write the pictures."""
    data = Path(os.environ["CLESR_DATA"])
    _write("cle.png", _coarser(read_gray(data / STILL)))
    _write("noisy.png", _noisier(read_gray(data / STILL)))
    rows = [_native(read_gray(data / STILL), scale, part) for scale, part in NATIVE.items()]
    gap = np.full((GAP, rows[0].shape[1]), 255, np.uint8)
    _write("cores.png", _cores(*(read_gray(data / "fibre_bundle" / name) for name in BUNDLE)))
    _write("native.png", np.vstack([part for row in rows for part in (row, gap)][:-1]))


def _coarser(truth: Pixels) -> Pixels:
    lr = quantise(resize(truth, *(side // SCALE for side in truth.shape)), truth.dtype)
    images = {
        "coarse input": np.repeat(np.repeat(lr, SCALE, 0), SCALE, 1),
        "bicubic x4": quantise(resize(lr, *truth.shape), lr.dtype),
        "clesr x4": _upscaled(lr, "densenet", SCALE),
        "original": truth,
    }
    return _row(images, PART)


def _noisier(truth: Pixels) -> Pixels:
    (noisy,) = parse_degradations(f"noise={NOISE}")
    lr = noisy(truth, SCALE, noise_of(0))
    images = {
        f"noise of {NOISE}": np.repeat(np.repeat(lr, SCALE, 0), SCALE, 1),
        "bicubic x4": quantise(resize(lr, *truth.shape), lr.dtype),
        "trained on clean": _trained_on_clean(lr, SCALE),
        "clesr x4": _upscaled(lr, "fast", SCALE),
        "original": truth,
    }
    return _row(images, PART)


def _native(still: Pixels, scale: int, part: tuple[int, int, int]) -> Pixels:
    left, top, side = (scale * n for n in part)
    images = {
        f"as it is, x{scale}": np.repeat(np.repeat(still, scale, 0), scale, 1),
        "bicubic": quantise(resize(still, *(scale * n for n in still.shape)), still.dtype),
        "trained on clean": _trained_on_clean(still, scale),
        "clesr": _upscaled(still, "fast", scale),
    }
    return _row(images, (left, top, side))


def _cores(flat: Pixels, captured: Pixels) -> Pixels:
    calibration = find_cores(flat.astype(np.float32), top=255)
    removed = CoreRemoval(calibration)(captured)
    images = {"captured": captured, "without its cores": removed}
    whole, part = (
        _row(images, WHOLE),
        _row({"captured, a part": captured, "without its cores": removed}, DETAIL),
    )
    return np.hstack([whole, np.full((whole.shape[0], GAP), 255, np.uint8), part])


def _trained_on_clean(lr: Pixels, scale: int) -> Pixels:
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / f"fast-x{scale}.safetensors"
        shipped = f"{CLEAN}:engines/models/shipped/{weights.name}"
        shown = subprocess.run(["git", "show", shipped], cwd=ROOT, check=True, capture_output=True)
        weights.write_bytes(shown.stdout)
        return _upscaled(lr, str(weights), scale)


def _upscaled(lr: Image, model: str, scale: int) -> Pixels:
    engine = open_engine("auto", model, scale, (lr.shape[0], lr.shape[1]), device="cpu")
    sr = np.asarray(run_frame(engine, lr), np.uint8)
    engine.close()
    return sr


def _row(images: Mapping[str, Image], part: tuple[int, int, int]) -> Pixels:
    gap = np.full((CAPTION + PANEL, GAP), 255, np.uint8)
    columns = [_panel(caption, image, part) for caption, image in images.items()]
    return np.hstack([piece for column in columns for piece in (column, gap)][:-1])


def _panel(caption: str, image: NDArray[np.generic], part: tuple[int, int, int]) -> Pixels:
    left, top, side = part
    shown = cv2.resize(
        np.asarray(image)[top : top + side, left : left + side],
        (PANEL, PANEL),
        interpolation=cv2.INTER_AREA if side > PANEL else cv2.INTER_NEAREST,
    )
    head = np.full((CAPTION, PANEL), 255, np.uint8)
    cv2.putText(head, caption, (2, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 30, 2, cv2.LINE_AA)
    return np.vstack((head, shown)).astype(np.uint8)


def _write(name: str, image: Pixels) -> None:
    cv2.imwrite(str(ROOT / "docs" / name), image, [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
