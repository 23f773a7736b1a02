"""What of an image is seen: the field of view of a probe, and images as a display shows them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.image import Image, Pixels

TILE = 32  # LR pixels a side: about what an operator looks at when a structure draws the eye
DARK = 8  # 8-bit grey levels; corners outside a round field of view are black up to JPEG noise
EDGE = 0.98  # of the radius: the outermost ring is the scanner's mask, not tissue
TEXT = 0.1  # of what lies outside a round field of view may be written over
ROUND = 0.75  # of the circle around it that a round field of view fills at least, sides cut off
CORNERS = 0.05  # of the image that lies outside a round field of view at least
FRACTION = 4  # bits behind the point of OpenCV's coordinates


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The field of view of an image of ``shape`` (H, W): a convex ``outline`` (N, 2) int32, x and y in pixels; None
    where the whole image counts."""

    shape: tuple[int, int]
    outline: NDArray[np.int32] | None

    def mask(self, part: float = EDGE) -> Pixels:
        """(H, W) uint8: 1 inside the outline shrunk about its middle to ``part`` of its size, else 0."""
        if self.outline is None:
            return np.ones(self.shape, np.uint8)
        (x, y), _ = cv2.minEnclosingCircle(self.outline)
        middle = np.array((x, y))
        corners = np.rint((middle + part * (self.outline - middle)) * (1 << FRACTION)).astype(np.int32)
        filled = cv2.fillConvexPoly(np.zeros(self.shape, np.uint8), corners, 1, shift=FRACTION)
        return np.asarray(filled, np.uint8)


def field_of_view(image: Image) -> NDArray[np.bool_]:
    """True inside the field of view of ``image`` (H, W), without the outermost 2 % of a round one's radius."""
    return find_view(image).mask().astype(np.bool_)


def find_view(image: Image) -> View:
    """The field of view of ``image`` (H, W) uint8 or uint16.

    A round one, whose sides may be cut off, is the convex hull of the largest connected part that is not dark, where
    that is nearly a disc, and all else is dark but for burnt-in text.
    """
    height, width = image.shape
    whole = View((height, width), None)
    bright = (cv2.medianBlur(eight_bits(image), 5) > DARK).astype(np.uint8)
    parts, _ = cv2.findContours(bright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not parts:
        return whole
    largest = max(parts, key=cv2.contourArea)
    _, _, across, down = cv2.boundingRect(largest)
    if across < width // 2 or down < height // 2:
        return whole
    outline = np.asarray(cv2.convexHull(largest).reshape(-1, 2), np.int32)
    _, radius = cv2.minEnclosingCircle(outline)
    found = View(whole.shape, outline)
    outside = found.mask(1.0) ^ 1
    dark = cv2.countNonZero(outside)
    if dark < CORNERS * outside.size or cv2.countNonZero(bright & outside) > TEXT * dark:
        return whole
    return found if cv2.contourArea(outline) >= ROUND * np.pi * radius**2 else whole


def eight_bits(image: Image) -> NDArray[np.uint8]:
    """``image``, of 16 bits its top eight."""
    return np.asarray(image >> 8 if image.dtype == np.uint16 else image, np.uint8)
