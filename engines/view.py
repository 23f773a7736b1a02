"""What of an image is seen: the field of view of a probe, and images as a display shows them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.image import Image

TILE = 32  # LR pixels a side: about what an operator looks at when a structure draws the eye
DARK = 8  # 8-bit grey levels; corners outside a round field of view are black up to JPEG noise
EDGE = 0.98  # of the radius: the outermost ring is the scanner's mask, not tissue


def field_of_view(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """True inside the field of view of ``image`` (H, W) uint8.

    With four dark corners the view is taken to be round: the circle around what is not dark, its
    outermost 2 % cut off. Otherwise the whole image counts.
    """
    height, width = image.shape
    k = max(2, min(height, width) // 20)
    corners = (image[:k, :k], image[:k, -k:], image[-k:, :k], image[-k:, -k:])
    everything = np.ones(image.shape, np.bool_)
    if any(np.percentile(corner, 95) > DARK for corner in corners):
        return everything
    bright = (cv2.medianBlur(image, 5) > DARK).astype(np.uint8)
    columns, rows = np.flatnonzero(bright.any(0)), np.flatnonzero(bright.any(1))
    if len(columns) < width // 2 or len(rows) < height // 2:
        return everything
    cx, cy = (columns[0] + columns[-1]) / 2, (rows[0] + rows[-1]) / 2
    radius = EDGE * min(columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1) / 2
    y, x = np.ogrid[:height, :width]
    return np.asarray((x - cx) ** 2 + (y - cy) ** 2 <= radius**2)


def eight_bits(image: Image) -> NDArray[np.uint8]:
    """``image``, of 16 bits its top eight."""
    return np.asarray(image >> 8 if image.dtype == np.uint16 else image, np.uint8)
