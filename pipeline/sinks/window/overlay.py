"""Where an SR image, degraded again, differs from what was measured: as colour over the image."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.view import field_of_view
from clesr.pipeline.fidelity import difference, smoothed
from clesr.pipeline.frame import Fidelity, Image

SIGMA = 4.0  # LR pixels over which differences are averaged
ASSUMED_DB = 40.0  # where colour begins for models without a limit
VARIES = 1.25  # times the limit: what is averaged here is smaller than the tiles that it was made of
RIM = np.ones((5, 5), np.uint8)
FULL = 3.0  # times the difference at which colour begins: the deepest colour
COVER = 0.55  # of the image that the deepest colour covers
TOP = 255.0

Canvas = NDArray[np.uint8]


class Scale(NamedTuple):
    """Differences in 8-bit grey levels (root mean square): where colour begins, and where it is deepest."""

    low: float
    high: float

    @classmethod
    def of(cls, limit_db: float | None) -> Scale:
        """Colour begins a little beyond the limit of the weights: what is usual stays as it is."""
        low = VARIES * TOP * 10 ** (-(ASSUMED_DB if limit_db is None else limit_db) / 20)
        return cls(low, FULL * low)


def differences(lr: Image, check: Fidelity) -> NDArray[np.float32]:
    """The root mean square of the smoothed difference around each pixel of ``lr`` (H, W), float32, in 8-bit grey
    levels; 0 outside the field of view and at its rim, where images are bicubic."""
    seen = field_of_view(lr).astype(np.uint8)
    inside = cv2.erode(seen, RIM, borderValue=1)
    found = smoothed(difference(check.reprojected, lr) * inside)
    squared = cv2.GaussianBlur(np.square(found), (0, 0), SIGMA) * inside
    return np.asarray(np.sqrt(np.maximum(squared, 0)) * (TOP / np.iinfo(lr.dtype).max), np.float32)


def paint(canvas: Canvas, lr: Image, check: Fidelity) -> None:
    """Colour ``canvas`` (h, w, 3), which shows the SR image, where that differs from ``lr``."""
    scale = Scale.of(check.limit_db)
    share = (differences(lr, check) - scale.low) / (scale.high - scale.low)
    height, width = canvas.shape[:2]
    share = cv2.resize(np.clip(share, 0, 1), (width, height), interpolation=cv2.INTER_LINEAR)
    cover = cv2.convertScaleAbs(share, None, TOP)
    canvas[:] = blend(canvas, cover)


def blend(canvas: Canvas, cover: Canvas) -> Canvas:
    """``canvas`` (h, w, 3) under the colour of ``cover`` (h, w): 0 is clear, 255 deepest."""
    return np.asarray(cv2.blendLinear(canvas, COLOURS[cover], 1 - _OPACITY[cover], _OPACITY[cover]), np.uint8)


def legend(width: int, height: int) -> Canvas:
    """The colours from low to high on mid-gray, (height, width, 3)."""
    bar = np.full((height, width, 3), 110, np.uint8)
    return blend(bar, np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1)))


def _colours() -> Canvas:
    """256 colours, blue-green-red, from yellow through orange to magenta: none of them is gray."""
    stops = np.array([[60, 230, 255], [30, 140, 255], [160, 30, 255]], np.float64)
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(np.linspace(0, 1, 256), at, stop) for stop in stops.T], 1).astype(np.uint8)


COLOURS = _colours()
_OPACITY = np.sqrt(np.linspace(0, 1, 256, dtype=np.float32)) * np.float32(COVER)
