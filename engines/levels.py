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
from numpy.typing import NDArray

from clesr.engines.common.image import Floats, Image
from clesr.engines.view import eight_bits, field_of_view

USUAL = np.array((16.0, 16.0, 2.0, 4.0, 16.0), np.float32)  # grey levels that are an input of 1 to a network
CLIPPED = 3  # grey levels from black or white: pixels there have lost their noise
FEWEST = 64  # pixels that an estimate rests on; with fewer it is 0
FINEST = 0.26  # of the detail of tissue without noise is seen as noise
AROUND, QUIETEST = 7, 2  # pixels a side of a place, and percent of the places: the floor
ENOUGH = 128  # pixels a side that figures are taken of
GRID = 8  # pixels a side of the blocks of JPEG and MPEG
MEDIAN, TENTH = (
    0.6745,
    1.6449,
)  # half, and a tenth, of the magnitudes of a normal variable of deviation 1 are above
HIGH = (1.0, -4.0, 6.0, -4.0, 1.0)  # fourth differences: along both axes, the highest frequencies
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


def estimate_levels(image: Image) -> Levels:
    """The levels of ``image`` (H, W) uint8 or uint16, by what lies in its field of view and is neither black nor
    white."""
    values = image.astype(np.float32)
    if image.dtype == np.uint16:
        values /= 257
    seen = field_of_view(eight_bits(image)) & (values >= CLIPPED) & (values <= 255 - CLIPPED)
    inside = cv2.erode(seen.astype(np.uint8), np.ones((len(HIGH), len(HIGH)), np.uint8), borderValue=0) > 0
    if np.count_nonzero(inside) < FEWEST:
        return Levels(0.0, 0.0, 0.0, _blocks(values, seen), 0.0)
    high, some = _filtered(values, HIGH), _some(inside)
    noise, strong = np.percentile(high[some][inside[some]], (50, 90)) / (MEDIAN, TENTH)
    detail = float(np.median(_filtered(values, MIDDLE)[some][inside[some]])) / MEDIAN
    return Levels(float(noise), detail, float(strong - noise), _blocks(values, seen), _floor(high, inside))


def _floor(high: Floats, inside: NDArray[np.bool_]) -> float:
    """Of the squares of ``high`` around each pixel, the mean where that is least but for a few."""
    around = cv2.erode(inside.astype(np.uint8), np.ones((AROUND, AROUND), np.uint8), borderValue=0) > 0
    if np.count_nonzero(around) < FEWEST:
        around = inside
    power, some = np.asarray(cv2.blur(np.square(high), (AROUND, AROUND)), np.float32), _some(around)
    return math.sqrt(max(0.0, float(np.percentile(power[some][around[some]], QUIETEST))))


def _some(image: NDArray[np.bool_]) -> tuple[slice, slice]:
    """As many of the pixels of a large image as tell as much as all."""
    step = max(1, min(image.shape) // ENOUGH)
    return slice(None, None, step), slice(None, None, step)


def _filtered(values: Floats, taps: tuple[float, ...]) -> Floats:
    """The magnitude of ``values`` through ``taps`` along both axes, which leave the deviation of white noise as it is
    (with second differences of neighbours this is the mask of Immerkaer, 1996)."""
    line = np.asarray(taps, np.float32) / np.float32(np.sqrt(np.sum(np.square(taps))))
    return np.abs(np.asarray(cv2.sepFilter2D(values, cv2.CV_32F, line, line), np.float32))


def _blocks(values: Floats, seen: NDArray[np.bool_]) -> float:
    """The mean of both axes; wherever the grid begins."""
    return (_steps(values, seen) + _steps(values.T, seen.T)) / 2


def _steps(values: Floats, seen: NDArray[np.bool_]) -> float:
    """How far the largest of the eight phases of the columns' steps lies above the middle one."""
    if values.shape[1] < 4 * GRID:
        return 0.0
    step = np.abs(np.diff(values, axis=1))
    excess = step[:, 1:-1] - (step[:, :-2] + step[:, 2:]) / 2
    valid = seen[:, :-3] & seen[:, 1:-2] & seen[:, 2:-1] & seen[:, 3:]
    sums, counts = np.where(valid, excess, 0).sum(0), valid.sum(0)
    phases = [
        float(sums[p::GRID].sum() / counts[p::GRID].sum())
        for p in range(GRID)
        if counts[p::GRID].sum() >= FEWEST
    ]
    return max(phases) - float(np.median(phases)) if len(phases) == GRID else 0.0
