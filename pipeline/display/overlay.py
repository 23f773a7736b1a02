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


def cover_of(lr: Image, check: Fidelity, shape: tuple[int, int]) -> Canvas:
    """How far colour hides each pixel of an SR image of ``shape`` (H, W), uint8: where it differs from ``lr``."""
    scale = Scale.of(check.limit_db)
    share = (differences(lr, check) - scale.low) * (TOP / (scale.high - scale.low))
    small = cv2.convertScaleAbs(np.maximum(share, 0))
    return np.asarray(cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.uint8)


def tint(canvas: Canvas, cover: Canvas) -> Canvas:
    """``canvas`` (h, w, 3) under the colour of ``cover`` (h, w): 0 is clear, 255 deepest."""
    left, top, width, height = cv2.boundingRect(cover)
    if not width:
        return canvas
    tinted, part = canvas.copy(), np.s_[top : top + height, left : left + width]
    opacity = cv2.LUT(cover[part], _OPACITY)
    coloured = cv2.applyColorMap(cover[part], COLOURS)
    tinted[part] = cv2.blendLinear(canvas[part], coloured, 1 - opacity, opacity)
    return tinted


def legend(width: int, height: int) -> Canvas:
    """The colours from low to high on mid-gray, (height, width, 3)."""
    bar = np.full((height, width, 3), 110, np.uint8)
    return tint(bar, np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1)))


def _colours() -> Canvas:
    """256 colours, (256, 1, 3) blue-green-red, from yellow through orange to magenta: none of them is gray."""
    stops = np.array([[60, 230, 255], [30, 140, 255], [160, 30, 255]], np.float64)
    at = np.linspace(0, 1, len(stops))
    mixed = [np.interp(np.linspace(0, 1, 256), at, stop) for stop in stops.T]
    return np.stack(mixed, 1).astype(np.uint8)[:, None]


COLOURS = _colours()
_OPACITY = np.sqrt(np.linspace(0, 1, 256, dtype=np.float32)) * np.float32(COVER)
