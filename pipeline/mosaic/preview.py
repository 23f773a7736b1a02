"""A map as a small picture for displays."""

from __future__ import annotations

import cv2
import numpy as np

from clesr.engines.common.image import Pixels
from clesr.pipeline.mosaic.canvas import REDUCED
from clesr.pipeline.mosaic.tissue_map import TissueMap

FRACTION = 4  # bits behind the point of OpenCV's coordinates
LARGEST = 2.0  # times the map's own pixels


def preview(tissue: TissueMap | None, width: int, height: int) -> Pixels:
    """``tissue``, as large as fits into (height, width) uint8, in its middle, with the outline of its newest frame."""
    picture = np.zeros((height, width), np.uint8)
    if tissue is None or tissue.canvas.box is None or width < 1 or height < 1:
        return picture
    overview, left, top = tissue.canvas.overview()
    box = tissue.canvas.box
    ratio = min(width / (box.right - box.left), height / (box.bottom - box.top), LARGEST)
    middle = np.array([(box.left + box.right) / 2, (box.top + box.bottom) / 2])
    shift = np.array([width / 2, height / 2]) - 0.5 - ratio * middle  # of a place on the map times the ratio
    step = ratio * REDUCED
    corner = ratio * (np.array([left, top]) + REDUCED / 2 - 0.5) + shift
    if step < 1:  # so that no pixel is passed over
        small = (max(1, round(side * step)) for side in overview.shape[::-1])
        reduced = cv2.resize(overview, tuple(small), interpolation=cv2.INTER_AREA)
        step *= overview.shape[1] / reduced.shape[1]
        overview = np.asarray(reduced, np.uint8)
    matrix = np.array([[step, 0, corner[0]], [0, step, corner[1]]], np.float64)
    cv2.warpAffine(overview, matrix, (width, height), dst=picture, flags=cv2.INTER_LINEAR)
    outline = tissue.outline() * ratio + shift
    points = np.rint(outline * (1 << FRACTION)).astype(np.int32)
    return np.asarray(cv2.polylines(picture, [points], True, 255, 1, cv2.LINE_AA, FRACTION), np.uint8)
