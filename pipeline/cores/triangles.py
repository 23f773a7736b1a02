"""Linear interpolation between the cores of a bundle, over the triangles that they form, as scanners do it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.image import Floats

APERTURE = 0.2  # of the spacing: standard deviation of what is taken for the light of a core
CUTOFF = 4  # standard deviations after which it counts no more

LINE = 256  # places a row of a map: OpenCV's have fewer than 32768 rows
STRIP = 1 << 20  # places that are looked up together

Points = NDArray[np.float64]
Indices = NDArray[np.int32]


def triangulate(points: Points, places: Points) -> tuple[Indices, Indices]:
    """The Delaunay triangles of ``points`` (N, 2), as (T, 3) indices, and for each of ``places`` (P, 2) the number of
    the triangle that it lies in, -1 outside of all.

    Raises ModuleNotFoundError without scipy and threadpoolctl.
    """
    from scipy.spatial import Delaunay
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # many matrices of 2x2: threads would but wait for one another
        found = Delaunay(points)
        parts = [found.find_simplex(places[at : at + STRIP]) for at in range(0, len(places), STRIP)]
    return found.simplices.astype(np.int32), np.concatenate(parts).astype(np.int32)


def barycentric(corners: Points, places: Points) -> Points:
    """The weights (P, 3) that make each of ``places`` (P, 2) of the three ``corners`` (P, 3, 2) of a triangle. Those of
    a triangle without an area are a third each."""
    first, second, origin = corners[:, 0], corners[:, 1], corners[:, 2]
    a, b, c = first - origin, second - origin, places - origin
    with np.errstate(divide="ignore", invalid="ignore"):
        area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
        u = (c[:, 0] * b[:, 1] - c[:, 1] * b[:, 0]) / area
        v = (a[:, 0] * c[:, 1] - a[:, 1] * c[:, 0]) / area
    weights = np.stack([u, v, 1 - u - v], 1)
    return np.where(np.isfinite(weights).all(1, keepdims=True), weights, 1 / 3)


def lines(places: Floats) -> tuple[Floats, Floats]:
    """``places`` (N, 2), x and y, as maps for ``pick``."""
    x, y = np.pad(places.T, ((0, 0), (0, -len(places) % LINE))).reshape(2, -1, LINE).astype(np.float32)
    return x, y


def pick(image: Floats, maps: tuple[Floats, Floats], count: int) -> Floats:
    """The values (count,) of ``image`` at the places of ``maps``, between its pixels linearly."""
    found = cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found.ravel()[:count], np.float32)


def gather(image: Floats, places: tuple[Floats, Floats], count: int, spacing: float) -> Floats:
    """The brightness (count,) of each core of ``image`` at ``places`` (``lines``)."""
    sigma = APERTURE * spacing
    side = 2 * max(1, round(CUTOFF * sigma)) + 1
    blurred = cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
    return pick(np.asarray(blurred, np.float32), places, count)
