"""How noisy, how detailed and how blocky an image is, estimated from the image itself.

Networks that were trained on these figures take them as further inputs (``arguments["levels"]`` in their descriptor):
another estimator needs other weights. White noise and what sampling without a filter folds down have the same spectrum;
only that the second lies where there is structure tells them apart, by the larger peaks.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import cv2
import numpy as np
from cv2.typing import MatLike

from clesr.engines.common.image import Floats, Image, Pixels
from clesr.engines.view import View, find_view

USUAL = np.array((16.0, 16.0, 2.0, 4.0, 16.0), np.float32)  # grey levels that are an input of 1 to a network
CLIPPED = 3  # grey levels from black or white: pixels there have lost their noise
FEWEST = 64  # pixels that an estimate rests on; with fewer it is 0
FINEST = 0.26  # of the detail of tissue without noise is seen as noise
AROUND, QUIETEST = 7, 2  # pixels a side of a place, and percent of the places: the floor
ENOUGH = 128  # pixels a side that figures are taken of
GRID = 8  # pixels a side of the blocks of JPEG and MPEG
MEDIAN, TENTH = 0.6745, 1.6449  # above these are half, and a tenth, of a normal variable's magnitudes
HIGH = (1.0, -4.0, 6.0, -4.0, 1.0)  # fourth differences: along both axes, the highest frequencies
EXCESS = np.array([[-0.5, 1.0, -0.5]], np.float32)  # of a step over those beside it
MIDDLE = (1.0, 0.0, -2.0, 0.0, 1.0)  # second differences of every other pixel: half of these


@dataclass(frozen=True, slots=True)
class Levels:
    """All in 8-bit grey levels. ``noise`` is the standard deviation of white noise that would leave as much in the
    highest frequencies, ``detail`` the same at half of these: they agree for white noise, and structure makes the
    second larger. ``peaks`` is how far the strongest tenth of the highest frequencies exceeds what such noise would
    have, 0 for noise. ``blocks`` is how far the steps at the borders of 8x8 blocks exceed those beside them. ``floor``
    is the root mean square of the highest frequencies where the image is quietest: noise is everywhere, structure is
    not."""

    noise: float
    detail: float
    peaks: float
    blocks: float
    floor: float

    def as_input(self) -> Floats:
        """(5,) float32 in the order of LEVELS (engines/models/registry.py), of the size of a network's other inputs."""
        return np.array(astuple(self), np.float32) / USUAL

    def assuming(self, noise: float) -> Levels:
        """These levels as if ``noise`` grey levels of white noise were in the image, whatever is, and no blocks.

        Noise adds as much to the squares of both ``noise`` and ``detail``. So their difference is the structure's, and
        says what it leaves in the first without any noise, by the ratio that is usual.
        """
        structure = max(self.detail**2 - self.noise**2, 0.0) / (1 - FINEST**2)
        quiet = max(self.floor**2 - self.noise**2, 0.0)
        squares = (FINEST**2 * structure, structure, quiet)
        noisy, detail, floor = (math.sqrt(square + noise**2) for square in squares)
        return Levels(noisy, detail, self.peaks, min(self.blocks, 0.0), floor)


def estimate_levels(image: Image, view: View | None = None) -> Levels:
    """The levels of ``image`` (H, W) uint8 or uint16, by what lies in its field of view and is neither black nor
    white. ``view`` is that field of view, where it was found already."""
    values = image.astype(np.float32)
    if image.dtype == np.uint16:
        values /= 257
    seen = ((values >= CLIPPED) & (values <= 255 - CLIPPED)).view(np.uint8) & (
        view or find_view(image)
    ).mask()
    inside = _eroded(seen, len(HIGH))
    if cv2.countNonZero(inside) < FEWEST:
        return Levels(0.0, 0.0, 0.0, _blocks(values, seen), 0.0)
    some = _some(inside.shape)
    here = inside[some] > 0
    high = _filtered(values, HIGH)
    middle, strong = _percentiles(high[some][here], 50, 90)
    (coarse,) = _percentiles(_filtered(values, MIDDLE)[some][here], 50)
    noise = middle / MEDIAN
    return Levels(
        noise, coarse / MEDIAN, strong / TENTH - noise, _blocks(values, seen), _floor(high, inside, some)
    )


def _some(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """As many of the pixels of a large image as tell as much as all."""
    step = max(1, min(shape) // ENOUGH)
    return slice(None, None, step), slice(None, None, step)


def _eroded(mask: Pixels, side: int) -> Pixels:
    return np.asarray(cv2.erode(mask, np.ones((side, side), np.uint8), borderValue=0), np.uint8)


def _floor(high: Floats, inside: Pixels, some: tuple[slice, slice]) -> float:
    """Of the squares of ``high`` around each pixel, the mean where that is least but for a few."""
    around = _eroded(inside, AROUND)
    if cv2.countNonZero(around) < FEWEST:
        around = inside
    power = np.asarray(cv2.sqrBoxFilter(high, cv2.CV_32F, (AROUND, AROUND)), np.float32)
    (floor,) = _percentiles(power[some][around[some] > 0], QUIETEST)
    return math.sqrt(max(0.0, floor))


def _filtered(values: Floats, taps: tuple[float, ...]) -> Floats:
    """The magnitude of ``values`` through ``taps`` along both axes, which leave the deviation of white noise as it is
    (with second differences of neighbours this is the mask of Immerkaer, 1996)."""
    line = np.asarray(taps, np.float32) / np.float32(np.sqrt(np.sum(np.square(taps))))
    found = np.asarray(cv2.sepFilter2D(values, cv2.CV_32F, line, line), np.float32)
    return np.abs(found, out=found)


def _blocks(values: Floats, seen: Pixels) -> float:
    """The mean of both axes; wherever the grid begins."""
    down, right = _some(values.shape)
    across = _steps(values[down], seen[down])
    turned = np.asarray(cv2.transpose(values[:, right]), np.float32)
    return (across + _steps(turned, np.asarray(cv2.transpose(seen[:, right]), np.uint8))) / 2


def _steps(values: Floats, seen: Pixels) -> float:
    """How far the largest of the eight phases of the columns' steps lies above the middle one."""
    if values.shape[1] < 4 * GRID:
        return 0.0
    step = cv2.absdiff(values[:, 1:], values[:, :-1])
    excess = cv2.filter2D(step, cv2.CV_32F, EXCESS)[:, 1:-1]
    valid = seen[:, :-3] & seen[:, 1:-2] & seen[:, 2:-1] & seen[:, 3:]
    phase = np.arange(valid.shape[1]) % GRID
    counts = np.bincount(phase, _column_sums(valid), GRID)
    if counts.min() < FEWEST:
        return 0.0
    means = np.bincount(phase, _column_sums(cv2.copyTo(excess, valid)), GRID) / counts
    return float(means.max() - np.median(means))


def _column_sums(values: MatLike) -> Floats:
    return np.asarray(cv2.reduce(values, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32F)[0], np.float32)


def _percentiles(values: Floats, *percent: float) -> list[float]:
    """Without what NumPy's own does beside it, which takes longer than the sorting."""
    ordered = np.sort(values)
    return [float(ordered[round((values.size - 1) * p / 100)]) for p in percent]
