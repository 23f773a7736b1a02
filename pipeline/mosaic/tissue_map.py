"""One map: a canvas, and the frames that made it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np

from clesr.engines.common.image import Floats
from clesr.pipeline.mosaic.canvas import MapBox, TileCanvas
from clesr.pipeline.mosaic.placement import MOST_LEAN, Found, Placement, Placer

GAP = 8  # frames; after a longer gap nothing is known of the speed
MOST_GAIN = 1.5  # times brighter or darker that a frame is made to match the map
MATCH = 0.5  # power of the difference in brightness that is evened out, so that the map follows the frames in the end
FRAME_BYTES = 512  # about what a line of the list of frames takes in memory


class Placing(StrEnum):
    """What became of a frame on the map."""

    DRAWN = "drawn"
    ELSEWHERE = "elsewhere"  # it shows other tissue, or too little of this one
    FAILED = "failed"  # the engine made no image of it


@dataclass(frozen=True, slots=True)
class MapFrame:
    """A frame of the list that goes with a map: its ``number``, its time in ``seconds``, where it was placed (None
    where it was not), and how well it agreed with the map (1 for the first)."""

    number: int
    seconds: float
    outcome: Placing
    placement: Placement | None = None
    agreement: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class ReadyFrame:
    """A frame that is to be drawn: its ``pixels`` (H, W) and their ``weights``, the same ``reduced`` for registration,
    in 8-bit grey levels, with 1 where it is ``seen``; ``white`` is the highest value of its dtype."""

    number: int
    seconds: float
    pixels: Floats
    weights: Floats
    reduced: Floats
    seen: Floats
    white: float


class TissueMap:
    """A map of frames that ``placer`` places, of ``shape`` (H, W), which begins with ``first``. For one thread."""

    def __init__(self, placer: Placer, first: ReadyFrame) -> None:
        self._placer, self._rows = placer, placer.shape[0]
        self.shape, self.white = placer.shape, first.white
        self.dtype = np.dtype(np.uint8 if first.white == 255 else np.uint16)
        self.frames: list[MapFrame] = []
        self._first: ReadyFrame | None = None  # as long as nothing else was drawn
        self._begin(first, Placement())

    def _begin(self, first: ReadyFrame, placement: Placement) -> None:
        self.canvas, self.count, self._first = TileCanvas(), 1, first
        self._last = self._before = (first.number, placement)
        self._draw(first, placement)
        drawn = MapFrame(first.number, first.seconds, Placing.DRAWN, placement, 1.0)
        self.frames[:1] = [drawn]

    @property
    def bytes(self) -> int:
        """What the map takes in memory, about."""
        return self.canvas.bytes + FRAME_BYTES * len(self.frames)

    @property
    def newest(self) -> Placement:
        """Where the last frame that was drawn lies."""
        return self._last[1]

    def find(self, view: ReadyFrame) -> Found:
        """Where ``view`` lies, as far as it shows tissue of this map."""
        speed = self._speed(view.number)
        ahead = max(0, view.number - self._last[0])
        at = np.array([self.newest.x, self.newest.y]) + speed * (ahead if ahead <= GAP else 0)
        corner = round(float(at[0])), round(float(at[1]))
        mean, weight = self.canvas.read(*corner, self._placer.shape)
        mean *= np.float32(255 / view.white)
        lean = (speed / self._rows).astype(np.float32)
        return self._placer(view.reduced, view.seen, mean, weight, corner, lean)

    def fits(self, found: Found, limit: int) -> bool:
        """Whether the map takes ``limit`` bytes at most when the frame that was ``found`` is drawn, and its picture has
        as many pixels at most."""
        box = self._box(found.placement)
        whole = box.joined(self.canvas.box or box)
        area = (whole.right - whole.left) * (whole.bottom - whole.top)
        frames = FRAME_BYTES * (len(self.frames) + 1)
        return area <= limit and self.canvas.bytes_with(box) + frames <= limit

    def draw(self, view: ReadyFrame, found: Found) -> None:
        """Draw ``view`` where it was ``found``."""
        found, self._first = self._with_first(view, found), None
        self._before, self._last = self._last, (view.number, found.placement)
        gain = min(MOST_GAIN, max(1 / MOST_GAIN, found.gain**MATCH))
        self._draw(view, found.placement, gain, max(found.agreement, 0.0) ** 2)
        self.count += 1
        self.frames.append(
            MapFrame(view.number, view.seconds, Placing.DRAWN, found.placement, found.agreement)
        )

    def _with_first(self, view: ReadyFrame, found: Found) -> Found:
        """With the second frame, ``view``, the speed is known: the first one is drawn again as it leaned. Where the
        second one lies then."""
        first, steps = self._first, view.number - self._last[0]
        if first is None or not 0 < steps <= GAP:
            return found
        speed = np.array([found.placement.x, found.placement.y]) / steps
        lean = np.clip(speed / self._rows, -MOST_LEAN, MOST_LEAN).tolist()
        self._begin(first, Placement(0, 0, *lean))
        again = self.find(view)
        if not again.holds:
            self._begin(first, Placement())
        return again if again.holds else found

    def _speed(self, number: int) -> Floats:
        """SR pixels (x, y) that the probe goes from frame to frame."""
        (before, one), (last, other) = self._before, self._last
        if not 0 < last - before <= GAP or not 0 < number - last <= GAP:
            return np.zeros(2, np.float32)
        return np.array([other.x - one.x, other.y - one.y], np.float32) / np.float32(last - before)

    def _box(self, placement: Placement) -> MapBox:
        """Where a frame of this ``placement`` is drawn."""
        at = self._corners(placement)
        left, top = np.floor(at.min(axis=0)).astype(int).tolist()
        right, bottom = np.ceil(at.max(axis=0)).astype(int).tolist()
        return MapBox(left, top, right + 1, bottom + 1)

    def _draw(self, view: ReadyFrame, placement: Placement, gain: float = 1.0, count: float = 1.0) -> None:
        box = self._box(placement)
        matrix = placement.matrix(self._rows)
        matrix[:, 2] -= box[:2]
        size = box.right - box.left, box.bottom - box.top
        border = cv2.BORDER_REPLICATE
        values = np.asarray(cv2.warpAffine(view.pixels, matrix, size, borderMode=border), np.float32)
        weights = np.asarray(cv2.warpAffine(view.weights, matrix, size), np.float32)
        values *= np.float32(gain)
        weights *= np.float32(count)
        self.canvas.draw(box.left, box.top, values, weights, view.white)

    def outline(self) -> Floats:
        """The corners (4, 2) of the newest frame, x and y on the map."""
        return self._corners(self.newest)

    def _corners(self, placement: Placement) -> Floats:
        height, width = self._placer.shape
        corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], np.float32)
        return np.asarray(corners @ placement.matrix(self._rows).T, np.float32)
