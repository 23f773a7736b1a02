"""Images as a bundle of fibre cores samples them, and as a scanner interpolates them: linearly between the cores.

Cores lie as a real bundle's do, found in a raw frame of it, or as those of a hexagonal bundle with jitter. The
interpolation is that of PyFibreBundle (triangular, over the Delaunay triangulation of the cores).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.errors import UsageError
from clesr.engines.common.image import Floats
from clesr.pipeline.cores.triangles import Points, barycentric, lines, pick, triangulate

JITTER = 0.08  # of the spacing: how far cores of the made bundle lie from their lattice
APERTURE = 0.3  # of the spacing: standard deviation of what a core gathers
EXTENT = 128  # spacings a side of the made bundle; larger images see it mirrored
FEWEST = 200  # cores that a pattern must show


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """Cores at ``points`` (N, 2), y and x, in a rectangle of ``extent`` (height, width); both in mean spacings."""

    points: Points
    extent: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Sampling:
    """Where cores lie on an HR image, ``places`` (N, 2) float32, x and y, and what each LR pixel takes of them:
    ``cores`` (H, W, 3) with ``weights`` (H, W, 3)."""

    places: Floats
    aperture: float
    cores: NDArray[np.int32]
    weights: Floats

    def gather(self, hr: Floats) -> Floats:
        """The (N,) intensity of each core on ``hr``."""
        blurred = cv2.GaussianBlur(hr, (0, 0), self.aperture, borderType=cv2.BORDER_REPLICATE)
        return pick(np.asarray(blurred, np.float32), lines(self.places), len(self.places))

    def interpolate(self, intensities: Floats) -> Floats:
        """The LR image (H, W) float32 of (N,) core intensities."""
        return np.asarray(np.einsum("yxk,yxk->yx", intensities[self.cores], self.weights), np.float32)


def check_available() -> None:
    """Raises UsageError where cores cannot be made here, before the first image is."""
    try:
        import scipy.spatial  # noqa: F401
        import threadpoolctl  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError("cores need scipy and threadpoolctl: pip install 'clesr[train]'") from error


@functools.lru_cache(maxsize=512)
def sampling(shape: tuple[int, int], scale: int, spacing: float, pattern: str | None = None) -> Sampling:
    """How LR images of ``shape`` (H, W) come from HR images ``scale`` times as large, cores lying ``spacing`` LR pixels
    apart as in the raw frame ``pattern``, or in the made bundle.

    Raises UsageError where the pattern shows no cores.
    """
    bundle = hexagonal_bundle() if pattern is None else find_bundle(pattern)
    points = _cover(bundle, (shape[0] / spacing + 4, shape[1] / spacing + 4))
    points = (points - 2) * spacing  # LR pixels, two spacings beyond the image at each side
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = np.stack([y.ravel() + 0.5, x.ravel() + 0.5], 1)
    triangles, found = triangulate(points, centres)
    cores = triangles[np.where(found < 0, 0, found)]
    weights = barycentric(points[cores], centres)
    places = (points[:, ::-1] * scale - 0.5).astype(np.float32)
    return Sampling(
        places,
        APERTURE * spacing * scale,
        cores.reshape(*shape, 3),
        weights.reshape(*shape, 3).astype(np.float32),
    )


@functools.cache
def hexagonal_bundle() -> Bundle:
    """Cores on a hexagonal lattice, turned and jittered; always the same."""
    rng = np.random.default_rng(6)
    count = 2 * EXTENT
    rows, columns = np.mgrid[-count:count, -count:count].reshape(2, -1)
    lattice = np.stack([rows * np.sqrt(3) / 2, columns + rows % 2 / 2], 1)
    turn = rng.uniform(0, np.pi / 3)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = lattice @ rotation + rng.normal(0, JITTER, lattice.shape) + EXTENT / 2
    inside = ((points >= 0) & (points < EXTENT)).all(1)
    return Bundle(points[inside], (EXTENT, EXTENT))


@functools.cache
def find_bundle(path: str) -> Bundle:
    """The cores in the square that fits into the bundle shown by the raw frame ``path``.

    Raises UsageError where it cannot be read or shows too few.
    """
    image = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise UsageError(f"{path} cannot be read as an image of a fibre bundle")
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.0)
    around = cv2.GaussianBlur(smooth, (0, 0), 8.0)
    peaks = (smooth == cv2.dilate(smooth, np.ones((5, 5)))) & (smooth > 1.02 * around) & (around > 4)
    found = np.argwhere(peaks).astype(np.float64)
    if len(found) < FEWEST:
        raise UsageError(f"{path} shows {len(found)} fibre cores; {FEWEST} are needed")
    low, high = np.percentile(found, (1, 99), axis=0)
    centre, side = (low + high) / 2, float((high - low).min()) / np.sqrt(2)
    kept = found[(np.abs(found - centre) < side / 2).all(1)]
    spacing = float(np.sqrt(2 / np.sqrt(3) * side**2 / max(len(kept), 1)))
    return Bundle((kept - centre + side / 2) / spacing, (side / spacing, side / spacing))


def pattern_files(folder: str | None) -> tuple[str, ...]:
    """The raw frames of bundles in ``folder``, sorted; none without it."""
    return () if folder is None else tuple(sorted(str(path) for path in Path(folder).glob("*.png")))


def _cover(bundle: Bundle, extent: tuple[float, float]) -> Points:
    """The points of ``bundle``, mirrored at its borders as often as ``extent`` asks, within it."""
    points = bundle.points
    for axis in (0, 1):
        length = bundle.extent[axis]
        parts = []
        for number in range(int(np.ceil(extent[axis] / length))):
            part = points.copy()
            if number % 2:
                part[:, axis] = length - part[:, axis]
            part[:, axis] += number * length
            parts.append(part)
        points = np.concatenate(parts)
        points = points[points[:, axis] < extent[axis]]
    return points
