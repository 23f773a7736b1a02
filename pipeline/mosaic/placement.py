"""Where a frame lies on a map: its shift, and how it leans because the probe moved while it was read.

A scanner reads row by row. While it does, the probe goes on, so that each row lies a little farther along than the one
above: the frame is sheared and stretched in proportion to the speed. Nothing else is allowed. Tissue that is pressed or
pulled does not fit, and is not made to fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from clesr.engines.common.image import Floats
from clesr.engines.temporal.registration import CELL, LEAST, Registration, resized

WORKING = 256  # pixels a side, about, of the images that are registered
PEAK = 7.0  # standard deviations of the correlation; a lower peak is other tissue
AGREEING = 0.35  # correlation of the frame with the map where it was placed; less is other tissue
OVERLAP = 0.15  # of the field of view that must lie on known tissue
MOST_LEAN = 0.25  # pixels a row
ROBUST = 0.5  # working pixels: cells that are off by more count for less
WIDE, FINE = 8.0, 1.0  # working pixels: structure between these is compared
PRIOR = 0.02  # of the weight of all cells, for the lean that the speed tells
ROUNDS = 3
KNOWN = 0.99  # of a reduced pixel that is known, at least


@dataclass(frozen=True, slots=True)
class Placement:
    """A frame's row ``v``, from its middle, lies ``x`` + v ``lean_x`` and ``y`` + v ``lean_y`` SR pixels from where
    that row of an unmoved first frame lies."""

    x: float = 0.0
    y: float = 0.0
    lean_x: float = 0.0
    lean_y: float = 0.0

    def matrix(self, rows: int) -> Floats:
        """(2, 3): from a pixel of a frame of so many ``rows`` to its place on the map."""
        middle = (rows - 1) / 2
        return np.array(
            [
                [1, self.lean_x, self.x - self.lean_x * middle],
                [0, 1 + self.lean_y, self.y - self.lean_y * middle],
            ],
            np.float64,
        ).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Found:
    """A ``placement``, and how sure it is: the ``peak`` of the phase correlation in standard deviations, the
    ``agreement`` (correlation) with the map, the part of the view on known tissue, ``overlap``, and how many times as
    bright as the frame the map is there, ``gain``."""

    placement: Placement
    peak: float
    agreement: float
    overlap: float
    gain: float

    @property
    def holds(self) -> bool:
        """Whether it is the same tissue."""
        return self.peak >= PEAK and self.agreement >= AGREEING and self.overlap >= OVERLAP


class Placer:
    """For frames of one ``shape`` (H, W) in SR pixels. For one thread."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.factor = max(1, -(-min(shape) // WORKING))
        self.working = shape[0] // self.factor, shape[1] // self.factor
        self.usable = min(self.working) >= LEAST
        if self.usable:
            self._register = Registration(self.working)
            self._cells = -(-self.working[0] // CELL), -(-self.working[1] // CELL)
            rows = (np.arange(self._cells[0]) + 0.5) * self.working[0] / self._cells[0] - 0.5
            self._rows = np.repeat(rows - (self.working[0] - 1) / 2, self._cells[1])

    def reduce(self, image: Floats) -> Floats:
        """``image`` (H, W) as it is registered."""
        height, width = (side * self.factor for side in self.working)
        return resized(image[:height, :width], self.working)

    def __call__(
        self,
        present: Floats,
        seen: Floats,
        mean: Floats,
        weight: Floats,
        corner: tuple[int, int],
        lean: Floats,
    ) -> Found:
        """Where the reduced frame ``present`` lies, seen where ``seen`` is 1, by the part of the map (H, W) whose left
        upper pixel is ``corner`` (x, y): the ``mean``, and its ``weight``, 0 where nothing is known. ``lean`` (x, y) is
        what the speed lets expect. Images are in 8-bit grey levels."""
        known = self.reduce((weight > 0).astype(np.float32))
        earlier = np.asarray(self.reduce(mean) / np.maximum(known, np.float32(0.01)), np.float32)
        known = (known > KNOWN).astype(np.float32)
        field, peak = self._register(present, earlier, seen, known)
        fit = self._fit(field, present, seen, known, lean)
        one, other = _fine(present, seen), _fine(earlier, known)
        both = seen * (_there(known, fit) > KNOWN)
        one, other = one * both, _there(other, fit) * both
        spread = float(np.sqrt(np.square(one).sum() * np.square(other).sum()))
        bright = float((present * both).sum()), float((_there(earlier, fit) * both).sum())
        (x, y), (lean_x, lean_y) = fit
        place = Placement(
            corner[0] + self.factor * float(x),
            corner[1] + self.factor * float(y),
            float(lean_x),
            float(lean_y),
        )
        return Found(
            place,
            peak,
            agreement=float((one * other).sum()) / max(spread, 1e-6),
            overlap=float(both.sum()) / max(float(seen.sum()), 1.0),
            gain=bright[1] / max(bright[0], 1.0),
        )

    def _fit(self, field: Floats, present: Floats, seen: Floats, known: Floats, lean: Floats) -> Floats:
        """The shift (x, y) in working pixels, and the lean (x, y) in pixels a row, (2, 2), that are nearest to
        ``field`` where both images are seen and have structure."""
        cell = np.array([n / c for n, c in zip(self.working, self._cells, strict=True)][::-1])
        moved = field.reshape(-1, 2) * cell
        slopes = (cv2.Sobel(present, cv2.CV_32F, dx, dy, scale=1 / 8) for dx, dy in ((1, 0), (0, 1)))
        steep = sum(np.square(np.asarray(slope, np.float32)) for slope in slopes)
        structure = np.sqrt(resized(np.asarray(steep, np.float32), self._cells)).ravel()
        shift = np.median(field.reshape(-1, 2), axis=0)
        there = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        both = cv2.warpAffine(resized(known, self._cells), there, self._cells[::-1], flags=flags)
        weight = (both * resized(seen, self._cells)).ravel() * structure
        unknown = np.stack([np.ones_like(self._rows), self._rows], axis=1)
        counts = weight.copy()
        fit = np.zeros((2, 2))
        for _ in range(ROUNDS):
            prior = np.diag([0.0, PRIOR * float(counts.sum()) * self.working[0] ** 2 / 12]) + 1e-9 * np.eye(2)
            normal = unknown.T @ (unknown * counts[:, None]) + prior
            fit = np.linalg.solve(normal, unknown.T @ (moved * counts[:, None]) + prior @ [np.zeros(2), lean])
            off = np.square(moved - unknown @ fit).sum(axis=1)
            counts = weight / (1 + off / ROBUST**2)
        fit[1] = np.clip(fit[1], -MOST_LEAN, MOST_LEAN)
        return np.asarray(fit, np.float32)


def _there(image: Floats, fit: Floats) -> Floats:
    """``image`` as it would lie in a frame of this ``fit``."""
    height, width = image.shape
    matrix = Placement(*map(float, fit.ravel())).matrix(height)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), flags=flags), np.float32)


def _fine(image: Floats, where: Floats) -> Floats:
    """The structure of ``image`` between FINE and WIDE, 0 but ``where`` it counts."""
    share = np.maximum(cv2.GaussianBlur(where, (0, 0), WIDE), np.float32(0.01))
    wide = cv2.GaussianBlur(image * where, (0, 0), WIDE) / share
    return np.asarray(cv2.GaussianBlur((image - wide) * where, (0, 0), FINE), np.float32) * where
