"""What of an image is seen: the field of view of a probe, and images as a display shows them."""

from __future__ import annotations

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

Outline = NDArray[np.int32]  # (N, 2) corners of a convex shape, x and y, in pixels


def field_of_view(image: Pixels) -> NDArray[np.bool_]:
    """True inside the field of view of ``image`` (H, W) uint8, without the outermost 2 % of a round one's radius."""
    return inside(image.shape, find_outline(image), EDGE)


def find_outline(image: Pixels) -> Outline | None:
    """What surrounds the round field of view of ``image`` (H, W) uint8, whose sides may be cut off; None where the
    whole image counts.

    It is the convex hull of the largest connected part that is not dark, where that is nearly a disc, and all else is
    dark but for burnt-in text.
    """
    height, width = image.shape
    bright = (cv2.medianBlur(image, 5) > DARK).astype(np.uint8)
    _, labels, facts, _ = cv2.connectedComponentsWithStats(bright, connectivity=4)
    areas = facts[1:, cv2.CC_STAT_AREA]
    if not areas.size:
        return None
    largest = 1 + int(areas.argmax())
    if facts[largest, cv2.CC_STAT_WIDTH] < width // 2 or facts[largest, cv2.CC_STAT_HEIGHT] < height // 2:
        return None
    found, _ = cv2.findContours(
        (labels == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    outline = np.asarray(cv2.convexHull(found[0]).reshape(-1, 2), np.int32)
    _, radius = cv2.minEnclosingCircle(outline)
    outside = ~inside(image.shape, outline, 1.0)
    dark = np.count_nonzero(outside)
    if dark < CORNERS * outside.size or np.count_nonzero(bright[outside]) > TEXT * dark:
        return None
    return outline if cv2.contourArea(outline) >= ROUND * np.pi * radius**2 else None


def inside(shape: tuple[int, ...], outline: Outline | None, part: float) -> NDArray[np.bool_]:
    """True in an image of ``shape`` (H, W) inside ``outline``, shrunk about its middle to ``part`` of its size;
    everywhere without one."""
    if outline is None:
        return np.ones(shape, np.bool_)
    (x, y), _ = cv2.minEnclosingCircle(outline)
    middle = np.array((x, y))
    corners = np.rint((middle + part * (outline - middle)) * (1 << FRACTION)).astype(np.int32)
    filled = cv2.fillConvexPoly(np.zeros(shape, np.uint8), corners, 1, shift=FRACTION)
    return np.asarray(filled, np.bool_)


def eight_bits(image: Image) -> NDArray[np.uint8]:
    """``image``, of 16 bits its top eight."""
    return np.asarray(image >> 8 if image.dtype == np.uint16 else image, np.uint8)
