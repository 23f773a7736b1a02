"""Training images: read once, kept in memory as HR and LR pairs, sampled as patches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.pipeline.errors import UsageError
from clesr.tools.training.degrade import crop_to_multiple, degrade

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg", ".pgm")
BLANK = 2.0  # standard deviation in 8-bit grey levels under which a patch teaches nothing
TRIES = 20  # draws of a patch before a blank one is taken after all


@dataclass(frozen=True, slots=True)
class Pair:
    """One training image: (sH, sW) HR and (H, W) LR, uint8, and how often it is drawn."""

    name: str
    hr: NDArray[np.uint8]
    lr: NDArray[np.uint8]
    weight: float


def read_gray(path: Path) -> NDArray[np.uint8]:
    """The image in ``path`` as (H, W) uint8; 16-bit images are brought to 8 bits by their own maximum.

    Raises UsageError where the file cannot be decoded.
    """
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise UsageError(f"{path} cannot be read as an image; remove it or convert it to PNG")
    if image.dtype != np.uint8:
        image = np.rint(image * (255.0 / max(float(image.max()), 1.0))).astype(np.uint8)
    return np.ascontiguousarray(image)


def image_files(entry: str) -> list[Path]:
    """The image files of a folder, a glob pattern or one file, sorted by name."""
    path = Path(entry)
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES]
    elif path.is_file():
        found = [path]
    else:
        found = [p for p in path.parent.glob(path.name) if p.suffix.lower() in SUFFIXES]
    if not found:
        raise UsageError(f"no images at {entry}; give a folder or pattern with {', '.join(SUFFIXES)}")
    return sorted(found)


def halve(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``image`` shrunk by two: finer structure for its pixels than the original has."""
    return degrade(crop_to_multiple(image, 2), 2)


def make_pair(name: str, image: NDArray[np.uint8], scale: int, patch: int, weight: float) -> Pair:
    """``image`` and its degraded copy; raises UsageError where it is smaller than a patch."""
    hr = crop_to_multiple(image, scale)
    if min(hr.shape) < patch:
        height, width = image.shape
        raise UsageError(
            f"{name} is {width}x{height}, smaller than a patch of {patch}; remove it or lower --patch"
        )
    return Pair(name, np.ascontiguousarray(hr), degrade(hr, scale), weight)


class Patches:
    """Random patches from ``pairs``; step ``n`` always gives the same batch for the same seed.

    Patches are drawn in proportion to the image's weight, flipped and turned at random. Blank ones
    are drawn again.
    """

    def __init__(self, pairs: list[Pair], *, scale: int, patch: int, batch: int, seed: int) -> None:
        if patch % scale:
            raise UsageError(f"--patch {patch} is no multiple of the scale {scale}")
        if not pairs:
            raise UsageError("there are no training images; give --data")
        self.pairs, self.scale, self.size = pairs, scale, patch // scale
        self.batch, self.seed = batch, seed
        weights = np.array([pair.weight for pair in pairs], np.float64)
        self.odds = weights / weights.sum()

    def __call__(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """LR (B, 1, p/s, p/s) and HR (B, 1, p, p) float32 in [0, 1] for training step ``step``."""
        rng = np.random.default_rng((self.seed, step))
        drawn = [self._draw(rng) for _ in range(self.batch)]
        lr = np.stack([low for low, _ in drawn])[:, None].astype(np.float32)
        hr = np.stack([high for _, high in drawn])[:, None].astype(np.float32)
        return lr / np.float32(255), hr / np.float32(255)

    def _draw(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        for _ in range(TRIES):
            pair = self.pairs[rng.choice(len(self.pairs), p=self.odds)]
            y = int(rng.integers(pair.lr.shape[0] - self.size + 1))
            x = int(rng.integers(pair.lr.shape[1] - self.size + 1))
            s, n = self.scale, self.size
            hr = pair.hr[s * y : s * (y + n), s * x : s * (x + n)]
            if hr.std() >= BLANK:
                break
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        patches = [np.rot90(p, turns) for p in (pair.lr[y : y + n, x : x + n], hr)]
        low, high = (np.fliplr(p) if flip else p for p in patches)
        return low, high
