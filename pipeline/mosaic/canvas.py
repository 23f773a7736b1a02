"""A picture that grows in any direction: tiles that are made where something is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from clesr.engines.common.image import Floats, Pixels

TILE = 256  # pixels a side
REDUCED = 4  # pixels of a tile, a side, that are one of its overview
MOST_WEIGHT = 8.0  # that what was drawn at a place has at most, so that the map follows tissue that changes
BYTES = 2 * 4 * TILE**2 + (TILE // REDUCED) ** 2  # of a tile

Spot = tuple[int, int]  # row and column of a tile


class MapBox(NamedTuple):
    """A rectangle of a map, in its pixels: ``left`` and ``top`` belong to it, ``right`` and ``bottom`` do not."""

    left: int
    top: int
    right: int
    bottom: int

    def joined(self, other: MapBox) -> MapBox:
        """The smallest box around both."""
        return MapBox(*map(min, self[:2], other[:2]), *map(max, self[2:], other[2:]))


class TileCanvas:
    """The weighted mean of what was drawn at each place, and its weight, 0 where nothing was. Coordinates are of any
    sign. For one thread."""

    def __init__(self) -> None:
        self._tiles: dict[Spot, tuple[Floats, Floats, Pixels]] = {}
        self.box: MapBox | None = None  # around all that was drawn

    @property
    def bytes(self) -> int:
        """What the tiles take in memory."""
        return len(self._tiles) * BYTES

    def bytes_with(self, box: MapBox) -> int:
        """What they would take at most once something is drawn in ``box``."""
        return (len(self._tiles) + sum(spot not in self._tiles for spot, _, _ in _parts(box))) * BYTES

    def draw(self, left: int, top: int, values: Floats, weights: Floats, white: float) -> None:
        """Average ``values`` (H, W), with ``weights`` (H, W) of 0 to 1, into the picture at ``left`` and ``top``.
        ``white`` is the value that is 255 in the overview."""
        box = MapBox(left, top, left + values.shape[1], top + values.shape[0])
        for spot, here, there in _parts(box):
            weight = weights[there]
            if not weight.any():
                continue
            tile = self._tiles.get(spot) or self._new(spot)
            mean, total = tile[0][here], tile[1][here]
            total += weight
            share = np.divide(weight, total, out=np.zeros_like(weight), where=weight > 0)
            mean += (values[there] - mean) * share
            np.minimum(total, np.float32(MOST_WEIGHT), out=total)
            self._reduce(spot, white)
        self.box = box if self.box is None else self.box.joined(box)

    def read(self, left: int, top: int, shape: tuple[int, int]) -> tuple[Floats, Floats]:
        """The mean and the weight (H, W) of what lies at ``left`` and ``top``, both 0 where nothing was drawn."""
        mean, total = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for spot, here, there in _parts(MapBox(left, top, left + shape[1], top + shape[0])):
            if (tile := self._tiles.get(spot)) is not None:
                mean[there], total[there] = tile[0][here], tile[1][here]
        return mean, total

    def overview(self) -> tuple[Pixels, int, int]:
        """The whole picture with one pixel for REDUCED a side, (H, W) uint8, and the ``left`` and ``top`` of its first
        one. Raises ValueError where nothing was drawn."""
        rows, columns = ([spot[axis] for spot in self._tiles] for axis in (0, 1))
        side = TILE // REDUCED
        row, column = min(rows), min(columns)
        picture = np.zeros(((max(rows) - row + 1) * side, (max(columns) - column + 1) * side), np.uint8)
        for (r, c), (_, _, reduced) in self._tiles.items():
            y, x = (r - row) * side, (c - column) * side
            picture[y : y + side, x : x + side] = reduced
        return picture, column * TILE, row * TILE

    def _new(self, spot: Spot) -> tuple[Floats, Floats, Pixels]:
        plane = (TILE, TILE)
        reduced = np.zeros((TILE // REDUCED, TILE // REDUCED), np.uint8)
        made = np.zeros(plane, np.float32), np.zeros(plane, np.float32), reduced
        self._tiles[spot] = made
        return made

    def _reduce(self, spot: Spot, white: float) -> None:
        mean, _, reduced = self._tiles[spot]
        small = cv2.resize(mean, reduced.shape[::-1], interpolation=cv2.INTER_AREA)
        cv2.convertScaleAbs(small, dst=reduced, alpha=255 / white)


def _parts(box: MapBox) -> Iterator[tuple[Spot, tuple[slice, slice], tuple[slice, slice]]]:
    """The tiles that ``box`` touches, each with its part of the tile and of the box."""
    for row in range(box.top // TILE, -(-box.bottom // TILE)):
        for column in range(box.left // TILE, -(-box.right // TILE)):
            y, x = row * TILE, column * TILE
            top, bottom = max(box.top, y), min(box.bottom, y + TILE)
            left, right = max(box.left, x), min(box.right, x + TILE)
            here = slice(top - y, bottom - y), slice(left - x, right - x)
            there = slice(top - box.top, bottom - box.top), slice(left - box.left, right - box.left)
            yield (row, column), here, there


def frame_bytes(shape: tuple[int, int]) -> int:
    """What the tiles of one frame of ``shape`` (H, W) take at most."""
    rows, columns = (-(-side // TILE) + 1 for side in shape)
    return rows * columns * BYTES
