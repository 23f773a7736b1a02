"""Draws docs/cle.png: a real CLE still as a coarser probe would have seen it, enlarged by bicubic and by clesr.

CLESR_DATA=FOLDER python benchmarks/picture.py
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.resample import quantise, resize
from clesr.engines.factory import open_engine
from clesr.engines.results import run_frame

ROOT = Path(__file__).resolve().parent.parent
STILL = "test/cle_compressedCell_VC.png"  # M. Aubreville, CC BY 4.0
SCALE = 4
LEFT, TOP, SIDE = 224, 176, 192  # what is shown of it, in pixels of the still
PANEL, CAPTION, GAP = 384, 44, 12


def main() -> None:
    """Write the picture."""
    still = cv2.imread(str(Path(os.environ["CLESR_DATA"]) / STILL), cv2.IMREAD_GRAYSCALE)
    assert still is not None
    truth = np.asarray(still, np.uint8)
    lr = quantise(resize(truth, *(side // SCALE for side in truth.shape)), truth.dtype)
    engine = open_engine("auto", "densenet", SCALE, (lr.shape[0], lr.shape[1]), device="cpu")
    sr = np.asarray(run_frame(engine, lr), np.uint8)
    engine.close()
    images = {
        "coarse input": np.repeat(np.repeat(lr, SCALE, 0), SCALE, 1),
        "bicubic x4": quantise(resize(lr, *truth.shape), lr.dtype),
        "clesr x4": sr,
        "original": truth,
    }
    columns = [_panel(caption, image) for caption, image in images.items()]
    gap = np.full((CAPTION + PANEL, GAP), 255, np.uint8)
    joined = np.hstack([part for column in columns for part in (column, gap)][:-1])
    cv2.imwrite(str(ROOT / "docs" / "cle.png"), joined, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _panel(caption: str, image: NDArray[np.generic]) -> NDArray[np.uint8]:
    part = np.asarray(image)[TOP : TOP + SIDE, LEFT : LEFT + SIDE]
    shown = cv2.resize(part, (PANEL, PANEL), interpolation=cv2.INTER_NEAREST)
    head = np.full((CAPTION, PANEL), 255, np.uint8)
    cv2.putText(head, caption, (2, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 30, 2, cv2.LINE_AA)
    return np.vstack((head, shown)).astype(np.uint8)


if __name__ == "__main__":
    main()
