"""The consistency check: an SR image, degraded again, must agree with the LR image that was measured.

What disagrees was invented by the network, or taken away. The figures are PSNR in dB, the peak being the largest value
of the dtype: over the field of view, and, noise smoothed away, over the tile of 32x32 LR pixels that agrees least,
which is held against the limit that comes with the weights (the first percentile over tiles of validation images).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.degrade import Corrector, Degrader
from clesr.engines.view import TILE, field_of_view
from clesr.pipeline.frame import Fidelity, Image

SMOOTH = np.array([1, 4, 6, 4, 1], np.float32) / 16  # along both axes
PASSED = float(np.square(SMOOTH).sum()) ** 2  # the share of white noise's variance that both let through
STEP = TILE // 2  # between two tiles
MOST_DB = 100.0  # what images without any difference get: a figure that JSON can hold
REFRESH = 64  # frames after which the field of view is looked for again
GARBAGE_DB = 20.0  # below it an image is none of the frame, unless the frame itself varies as much
FLAT = 1 / 32  # of the range: structure of this standard deviation does not vanish wholly in any up-scaling


Errors = NDArray[np.float32]


def difference(one: Image, other: Image) -> Errors:
    """``one`` less ``other``, both (H, W) of one dtype, float32."""
    return np.asarray(cv2.subtract(one, other, dtype=cv2.CV_32F), np.float32)


def smoothed(found: Errors) -> Errors:
    """``found`` (H, W) with a twelfth of its white noise: what a network leaves out of noise is no structure."""
    return np.asarray(cv2.sepFilter2D(found, cv2.CV_32F, SMOOTH, SMOOTH), np.float32)


class Tiles:
    """The field of view ``mask`` (H, W) and the tiles that lie wholly in it, half overlapping, up to every edge."""

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self._mask = None if mask.all() else mask.astype(np.float32)
        self._area = int(mask.sum())
        self._rows, self._columns = (_starts(n) for n in mask.shape)
        self._outside = _over_tiles((~mask).astype(np.float32)) > 0

    def errors(self, found: Errors) -> tuple[float, NDArray[np.float64]]:
        """The mean square of the difference ``found`` (H, W) over the field of view; and of each tile in a grid that of
        the difference smoothed, -1 for a tile not in it. What lies outside the field of view becomes zero in
        ``found``."""
        if self._mask is not None:
            np.multiply(found, self._mask, out=found)
        tiles = _over_tiles(np.square(smoothed(found))) / TILE**2
        tiles[self._outside] = -1.0
        return float(np.square(found).sum()) / max(self._area, 1), tiles

    def at(self, index: int) -> tuple[int, int]:
        """The upper left corner of the ``index``-th tile of the grid, row by row."""
        row, column = divmod(index, len(self._columns))
        return int(self._rows[row]), int(self._columns[column])


class FidelityCheck:
    """The check for images of one size: ``shape`` (H, W) of the LR image. For one thread.

    ``limit_db`` is what the worst tile is held against, None where there is no limit. ``consistent`` corrects each
    image by the smallest change after which it degrades to the measured one.
    """

    def __init__(
        self, shape: tuple[int, int], scale: int, limit_db: float | None = None, *, consistent: bool = False
    ) -> None:
        self.limit_db, self.consistent = limit_db, consistent
        self._degrade = Degrader(shape, scale)
        self._correct = Corrector(shape, scale) if consistent else None
        self._tiles: Tiles | None = None
        self._uses = 0

    def __call__(
        self, lr: Image, sr: Image, reprojected: Sequence[Image] = (), noise: float = 0.0
    ) -> tuple[Image, Fidelity]:
        """``sr`` (scale * H, scale * W), corrected if so asked, and how it agrees with ``lr`` (H, W); uint8 or uint16.

        ``reprojected`` is what the engine has done already: its image degraded, and where it has corrected it, the
        corrected one degraded. ``noise`` is what ``sr`` may lack of that of ``lr``, in 8-bit grey levels: tiles
        are not judged by it.
        """
        own = reprojected[0] if reprojected else self._degrade(sr)
        if self._tiles is None or self._uses % REFRESH == 0:
            self._tiles = Tiles(field_of_view(lr))
        self._uses += 1
        peak = int(np.iinfo(lr.dtype).max)
        mean, tiles = self._tiles.errors(difference(own, lr))
        if noise:
            left = PASSED * (noise * peak / 255) ** 2
            tiles[tiles >= 0] = np.maximum(tiles[tiles >= 0] - left, 0.0)
        db, before_db = decibels(mean, peak), None
        if self._correct is not None:
            sr = sr if len(reprojected) == 2 else self._correct(sr, lr, own)
            corrected = reprojected[1] if len(reprojected) == 2 else self._degrade(sr)
            mean, _ = self._tiles.errors(difference(corrected, lr))
            db, before_db = decibels(mean, peak), db
        worst = int(tiles.argmax()) if tiles.size and tiles.max() >= 0 else None
        worst_db = None if worst is None else decibels(float(tiles.flat[worst]), peak)
        worst_at = None if worst is None else self._tiles.at(worst)
        return sr, Fidelity(db, before_db, worst_db, worst_at, self.limit_db, own)


def no_upscaled_image(lr: Image, found: Fidelity) -> str:
    """Why an image with the figures ``found`` surely is no up-scaled one of ``lr``, in words; empty where it may be.

    Only what no network can do to a frame of a tile's size or more counts: that nothing of its structure is left, or
    that the mean of the frame describes it much better than the image does (an inverted image, another one).
    Whatever a network smooths away of the frame, noise too, costs it no more than the frame's own variance.
    """
    if min(lr.shape) < TILE:
        return ""
    peak = int(np.iinfo(lr.dtype).max)
    if found.reprojected.min() == found.reprojected.max() and float(lr.std()) > FLAT * peak:
        return f"an image of level {found.reprojected.flat[0]} everywhere for a frame with structure"
    db = found.db if found.before_db is None else found.before_db
    if db < GARBAGE_DB and peak**2 / 10 ** (db / 10) > 2 * float(lr[field_of_view(lr)].var()):
        return f"an image {db:.1f} dB from the frame; {GARBAGE_DB:g} dB is the least for a frame like this"
    return ""


def decibels(mean_squared_error: float, peak: int) -> float:
    """PSNR in dB; MOST_DB at most."""
    if mean_squared_error <= 0:
        return MOST_DB
    return min(MOST_DB, 10 * math.log10(peak**2 / mean_squared_error))


def _starts(length: int) -> NDArray[np.int64]:
    """Where tiles begin on a line of ``length`` pixels: each half tile, and flush with the end."""
    if length < TILE:
        return np.empty(0, np.int64)
    return np.unique(np.append(np.arange(0, length - TILE + 1, STEP), length - TILE))


def _over_tiles(values: Errors) -> NDArray[np.float64]:
    """The sums of ``values`` (H, W) over each tile of the grid."""
    return _line_sums(_line_sums(values).T).T.astype(np.float64)


def _line_sums(values: Errors) -> Errors:
    """The sums of TILE rows of ``values`` (H, W) from each of ``_starts`` on, put together from halves."""
    height, width = values.shape
    whole = height // STEP
    halves = values[: whole * STEP].reshape(whole, STEP, width).sum(1)
    sums: Errors = halves[:-1] + halves[1:]
    if height > TILE and height % STEP:
        sums = np.vstack([sums, values[-TILE:].sum(0)])
    return sums
