"""The cores of a fibre bundle, found on a frame of a flat field by PyFibreBundle."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from clesr.engines.common.errors import MissingDependencyError, UsageError, told_as
from clesr.engines.common.image import Floats
from clesr.pipeline.cores.calibration import BundleFacts, CoreCalibration, decode, encode_cores
from clesr.pipeline.cores.triangles import Points, gather, lines, triangulate

INSTALL = "pip install 'clesr[bundle]'"
FEWEST = 100  # cores of a bundle
LONGEST_PERIOD, SHORTEST_PERIOD = 30.0, 2.0  # pixels, of the pattern that is looked for
LARGEST = 2048  # pixels a side that it is looked for in
BRIGHT = 15  # pixels a side over which the bundle is told from the darkness around it
CLEAR = 2.5  # times as strong as longer periods: a pattern of cores, and no tissue
WORKING = 14.5  # pixels between cores where PyFibreBundle finds them: below it merges neighbours
OUTSIDE = 0.12  # of the bundle's brightness and contrast: no core is so dark
AREA = 1.5  # spacings: standard deviation of what contrast is measured over
WHITE = 0.998  # of full scale: a saturated core
SAME = 0.5  # spacings: two that lie closer are one
DEAD = 0.5  # of its neighbours' brightness over what lies between the cores
HOLE = 0.85  # spacings from a place to all cores around it: one is missing there; 0.58 is usual
AROUND = 6  # neighbours of a core
WIDEST_GAP = 2.3  # radians without a neighbour: a hole inside, and not a place at the rim


def find_cores(
    flat: Floats, *, top: float, frames: int = 1, dead: float = DEAD, name: str = ""
) -> CoreCalibration:
    """The calibration of the bundle that ``flat`` (H, W) shows, in grey levels of which ``top`` is white: the mean of
    so many ``frames`` of a flat field. Cores that are darker than the share ``dead`` of their neighbours are dead: the
    image is interpolated across them.

    Raises UsageError where no bundle is seen, MissingDependencyError without PyFibreBundle.
    """
    image = np.asarray(flat, np.float32)
    coarse = estimate_spacing(image)
    candidates = _candidates(image, coarse)
    if len(candidates) < FEWEST:
        raise UsageError(
            f"{len(candidates)} cores are seen, at least {FEWEST} are needed; give sharp frames of an evenly lit bundle"
        )
    spacing = float(np.median(_neighbours(candidates)[0]))
    places = _apart(candidates, image, SAME * spacing)
    spacing = float(np.median(_neighbours(places)[0]))
    places = places[~_dark(image, places, spacing, dead)]
    maps = lines(places.astype(np.float32))
    values = np.clip(gather(image, maps, len(places), spacing) / top, 1e-6, 1)
    y, x = np.indices(image.shape)
    pixels = np.stack([x.ravel(), y.ravel()], 1).astype(np.float64)
    places = places.astype(np.float32).astype(np.float64)  # as they are kept
    triangles, inside = triangulate(places, pixels)
    facts = BundleFacts(
        shape=(image.shape[0], image.shape[1]),
        spacing=spacing,
        saturated=int((_pixels(image, places) >= WHITE * top).sum()),
        frames=frames,
    )
    arrays: dict[str, Any] = {
        "places": places,
        "flat": values,
        "dead": _holes(places, triangles, spacing),
        "triangles": triangles,
        "map": inside.reshape(image.shape),
    }
    return decode(encode_cores(facts, **arrays), name)


def estimate_spacing(image: Floats) -> float:
    """Pixels between the cores of ``image``, by the ring that they make in its spectrum. Raises UsageError without one:
    tissue is weaker the finer it is."""
    bright = cv2.blur(image, (BRIGHT, BRIGHT))
    lit = bright > bright.min() + 0.3 * (bright.max() - bright.min())
    part = image[_middle(lit.any(1)), _middle(lit.any(0))]
    height, width = part.shape
    part = part - cv2.GaussianBlur(part, (0, 0), LONGEST_PERIOD)
    part *= np.hanning(height)[:, None] * np.hanning(width)
    power = np.abs(np.fft.rfft2(part)) ** 2
    side = max(height, width)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)) * side
    rings = np.rint(radius).astype(int).ravel()
    profile = np.bincount(rings, power.ravel()) / np.maximum(np.bincount(rings), 1)
    smooth = cv2.GaussianBlur(profile[None].astype(np.float32), (0, 0), 2).ravel()
    first, last = int(side / LONGEST_PERIOD), int(side / SHORTEST_PERIOD)
    peak = first + int(np.argmax(smooth[first:last])) if last > first else 0
    if not peak or not smooth[peak] > CLEAR * smooth[first : peak + 1].min():
        raise UsageError(
            "no pattern of fibre cores is seen; give sharp frames of an evenly lit bundle, with 2.5 to 30 pixels a core"
        )
    return float(side / peak * 2 / np.sqrt(3))  # rows of a hexagonal lattice are closer than its points


def _middle(lit: Any) -> slice:
    """From the first to the last that is ``lit``, or as many in the middle as are looked at."""
    numbers = np.flatnonzero(lit)
    first, end = (int(numbers[0]), int(numbers[-1]) + 1) if len(numbers) else (0, len(lit))
    spare = max(0, end - first - LARGEST) // 2
    return slice(first + spare, end - spare)


def _candidates(image: Floats, spacing: float) -> Points:
    """Where cores may be: (N, 2), x and y."""
    needed = f"finding fibre cores needs PyFibreBundle; run: {INSTALL}"
    with told_as(MissingDependencyError, needed, ModuleNotFoundError):
        from pybundle import find_cores as peaks
    height, width = image.shape
    around = cv2.GaussianBlur(image, (0, 0), 2 * spacing)
    detail = cv2.GaussianBlur(image, (0, 0), 0.15 * spacing) - around
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), AREA * spacing))
    lit = (around > OUTSIDE * np.percentile(around, 99)) & (contrast > OUTSIDE * np.percentile(contrast, 99))
    even = np.where(lit, np.clip(detail / np.maximum(contrast, 1e-6) + 2, 0, 6), 0).astype(np.float32)
    size = round(width * WORKING / spacing), round(height * WORKING / spacing)
    larger = cv2.resize(even, size, interpolation=cv2.INTER_CUBIC if spacing < WORKING else cv2.INTER_AREA)
    if not larger.any():
        return np.empty((0, 2))
    x, y = peaks(np.maximum(larger, 0), WORKING)
    places = np.stack([(x + 0.5) * width / size[0] - 0.5, (y + 0.5) * height / size[1] - 0.5], 1)
    places = np.clip(places, 0, (width - 1, height - 1))
    return np.asarray(places[_pixels(even, places) > 0])


def _neighbours(places: Points) -> tuple[Points, Any]:
    """Distances and numbers (N, AROUND) of the cores around each."""
    from scipy.spatial import cKDTree

    distances, numbers = cKDTree(places).query(places, AROUND + 1)
    return distances[:, 1:], numbers[:, 1:]


def _apart(places: Points, image: Floats, least: float) -> Points:
    """``places`` without the darker one of two that are closer than ``least``."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(places).query_pairs(least, output_type="ndarray")
    values = _pixels(image, places)
    kept = np.ones(len(places), bool)
    kept[np.where(values[pairs[:, 0]] < values[pairs[:, 1]], pairs[:, 0], pairs[:, 1])] = False
    return places[kept]


def _pixels(image: Floats, places: Points) -> Floats:
    """The nearest pixels."""
    found: Floats = image[tuple(np.rint(places[:, ::-1]).astype(int).T)]
    return found


def _dark(image: Floats, places: Points, spacing: float, share: float) -> Any:
    """Which of ``places`` are darker than ``share`` of those around, over the darkness between cores."""
    side = 2 * round(0.6 * spacing) + 1
    between = cv2.blur(cv2.erode(image, np.ones((side, side), np.uint8)), (side, side))
    maps = lines(places.astype(np.float32))
    light = gather(image - between, maps, len(places), spacing)
    least = OUTSIDE * np.percentile(light, 95)
    return (light < least) | (light < share * np.median(light[_neighbours(places)[1]], 1))


def _holes(places: Points, triangles: Any, spacing: float) -> Points:
    """Where a core of the lattice is missing: the middles (D, 2) of circles without a core that are too large."""
    from scipy.spatial import cKDTree

    a, b, c = places[triangles].transpose(1, 0, 2)
    b, c = b - a, c - a
    with np.errstate(divide="ignore", invalid="ignore"):
        area = 2 * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])[:, None]
        squares_b, squares_c = (b * b).sum(1, keepdims=True), (c * c).sum(1, keepdims=True)
        centres = (squares_b * c[:, ::-1] - squares_c * b[:, ::-1]) * (1, -1) / area
    radius = np.hypot(*centres.T)
    wide = np.isfinite(radius) & (radius > HOLE * spacing) & (radius < 2 * spacing)
    order = np.flatnonzero(wide)[np.argsort(-radius[wide], kind="stable")]
    middles, tree = centres[order] + a[order], cKDTree(places)
    if not len(middles):
        return np.empty((0, 2))
    away, near = tree.query(middles, AROUND)
    toward = places[near] - middles[:, None]
    angles = np.sort(np.arctan2(toward[..., 1], toward[..., 0]), 1)
    gaps = np.diff(np.concatenate([angles, angles[:, :1] + 2 * np.pi], 1), axis=1).max(1)
    middles = middles[(gaps < WIDEST_GAP) & (away[:, -2] < 1.4 * spacing)]
    taken: set[int] = set()
    for one, other in sorted(cKDTree(middles).query_pairs(0.6 * spacing)):  # the larger is that of the core
        if one not in taken:
            taken.add(other)
    return np.asarray(np.delete(middles, sorted(taken), axis=0), np.float64)
