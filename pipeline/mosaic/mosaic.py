"""The map that grows beside the live view: each frame is drawn where it lies among those before it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.image import Floats, Image, Pixels
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.mosaic.canvas import frame_bytes
from clesr.pipeline.mosaic.placement import KNOWN, Found, Placer
from clesr.pipeline.mosaic.preview import preview
from clesr.pipeline.mosaic.tissue_map import MapFrame, Placing, ReadyFrame, TissueMap

TOGETHER = 3  # frames that fit one another and not the map begin a new one
LEAST_FRAMES = 2  # side by side, for which there is always room
RIM = 1.0  # working pixels along the rim of the field of view that are not drawn

log = SafeLogger(logging.getLogger(__name__))


class Mosaic:
    """Joins the frames of a stream into maps. Each frame is registered to what its map shows at the place where it is
    expected, so that errors do not add up along the way.

    A frame that is not found is left out. TOGETHER such frames in a row that fit one another are a jump to other tissue
    and begin a new map; until then the old one may be found again. A map also ends, told in a line, where it would take
    more than ``limit_mb`` of memory, which is at least that of LEAST_FRAMES side by side. ``on_end`` gets each map that
    has ended, in their order, on the thread of ``add``.

    One thread calls ``add``, ``fail``, ``save`` and ``end``; ``preview`` may be called by any.
    """

    def __init__(self, on_end: Callable[[TissueMap], object], *, limit_mb: float) -> None:
        self._on_end, self._asked = on_end, int(limit_mb * (1 << 20))
        self._lock = Lock()
        self._placer: Placer | None = None
        self._white = 0.0
        self._mask: NDArray[np.bool_] | None = None
        self._map: TissueMap | None = None
        self._next: TissueMap | None = None  # of frames that may show other tissue
        self.maps = 0  # begun so far, of which the last is being drawn

    def add(self, image: Image, number: int, seconds: float, view: NDArray[np.bool_]) -> Placing:
        """Draw the SR ``image`` (H, W) uint8 or uint16 of frame ``number``, of the time ``seconds``, where it belongs.
        ``view`` (h, w), of any size, is true in its field of view."""
        white = float(np.iinfo(image.dtype).max)
        if self._placer is None or (self._placer.shape, self._white) != (image.shape, white):
            self.end()
            self._placer, self._mask = Placer((image.shape[0], image.shape[1])), None
            self._white = white
            self._limit = max(self._asked, LEAST_FRAMES * frame_bytes(self._placer.shape))
            if not self._placer.usable:
                log.warning(f"images of {image.shape[1]}x{image.shape[0]} pixels are too small for a map")
        if not self._placer.usable:
            return Placing.ELSEWHERE
        self._bound()
        return self._place(self._view(self._placer, image, number, seconds, view))

    def fail(self, number: int, seconds: float) -> None:
        """The engine made no image of frame ``number``."""
        self._bound()
        if self._map is not None:
            self._map.frames.append(MapFrame(number, seconds, Placing.FAILED))

    def end(self) -> None:
        """End the map; the next frame begins another."""
        self._give_back()
        if self._map is not None:
            self._on_end(self._map)  # where that fails the map stays, to be handed over again
            with self._lock:
                self._map = None

    @property
    def growing(self) -> bool:
        """Whether there is a map that grows. Any thread."""
        return self._map is not None

    def save(self) -> None:
        """Hand the map over as it is, and go on with it."""
        if self._map is not None:
            self._on_end(self._map)

    def preview(self, width: int, height: int) -> Pixels:
        """The map as a picture (height, width) uint8, as large as fits, with the outline of the newest frame; black
        before there is one."""
        with self._lock:
            return preview(self._map, width, height)

    def _place(self, view: ReadyFrame) -> Placing:
        if self._map is None:
            return self._begin(view)
        found = self._map.find(view)
        if found.holds:
            self._give_back()
            return self._draw(self._map, view, found)
        other = self._next.find(view) if self._next is not None else None
        if self._next is None or other is None or not other.holds:
            self._give_back()
            assert self._placer is not None
            self._next = TissueMap(self._placer, view)
            return Placing.ELSEWHERE
        self._next.draw(view, other)
        return self._jump(self._next) if self._next.count == TOGETHER else Placing.ELSEWHERE

    def _jump(self, begun: TissueMap) -> Placing:
        log.info(f"map {self.maps} ends at frame {begun.frames[0].number}, where other tissue begins")
        self._next = None
        self.end()
        with self._lock:
            self._map = begun
        self.maps += 1
        return Placing.DRAWN

    def _give_back(self) -> None:
        """The frames of the next map are no jump, but cannot be placed."""
        if self._map is not None and self._next is not None:
            self._map.frames += [
                MapFrame(frame.number, frame.seconds, Placing.ELSEWHERE) for frame in self._next.frames
            ]
        self._next = None

    def _begin(self, view: ReadyFrame) -> Placing:
        assert self._placer is not None
        with self._lock:
            self._map = TissueMap(self._placer, view)
        self.maps += 1
        return Placing.DRAWN

    def _draw(self, tissue: TissueMap, view: ReadyFrame, found: Found) -> Placing:
        """Draw ``view`` on ``tissue``, or on a new map where that is full."""
        if not tissue.fits(found, self._limit):
            self._end_full(tissue)
            return self._begin(view)
        with self._lock:
            tissue.draw(view, found)
        return Placing.DRAWN

    def _bound(self) -> None:
        """End the map where the list of its frames, drawn or not, takes it beyond the limit."""
        if self._map is not None and self._map.bytes > self._limit:
            self._end_full(self._map)

    def _end_full(self, tissue: TissueMap) -> None:
        log.warning(
            f"map {self.maps} has reached {self._limit / (1 << 20):.3g} MB with {len(tissue.frames)} frames: it ends, "
            "and another begins; --mosaic-memory allows more"
        )
        self.end()

    def _view(
        self, placer: Placer, image: Image, number: int, seconds: float, view: NDArray[np.bool_]
    ) -> ReadyFrame:
        if self._mask is None or not np.array_equal(view, self._mask):
            self._mask = view.copy()
            self._seen, self._weights = _weights(view, placer)
        pixels = image.astype(np.float32)
        reduced = placer.reduce(pixels)
        reduced *= np.float32(255 / self._white)
        return ReadyFrame(number, seconds, pixels, self._weights, reduced, self._seen, self._white)


def _weights(view: NDArray[np.bool_], placer: Placer) -> tuple[Floats, Floats]:
    """1 where a reduced image is seen, else 0; and how much a pixel (H, W) counts: as the square of
    its distance to the rim, 1 where that is greatest."""
    part = cv2.resize(view.astype(np.float32), placer.working[::-1], interpolation=cv2.INTER_AREA)
    seen = np.pad((part > KNOWN).astype(np.uint8), 1)
    inside = cv2.distanceTransform(seen, cv2.DIST_L2, 5)[1:-1, 1:-1]
    large = np.asarray(cv2.resize(inside, placer.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
    weights = np.square(large / np.float32(max(float(inside.max()), 1.0))) * (large > RIM)
    return seen[1:-1, 1:-1].astype(np.float32), weights
