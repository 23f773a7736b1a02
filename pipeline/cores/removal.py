"""The core pattern removed from frames: the brightness of each core, made even by the calibration, and interpolated
linearly between the cores."""

from __future__ import annotations

import numpy as np

from clesr.engines.common.image import Image
from clesr.pipeline.cores.calibration import CoreCalibration
from clesr.pipeline.cores.triangles import gather, lines


class CoreRemoval:
    """Removes the cores of ``calibration`` from frames; called by one thread, whose buffers it keeps.

    A frame of the flat field itself becomes an even one, as bright as the median of its cores. Outside of the bundle
    frames become black.
    """

    def __init__(self, calibration: CoreCalibration) -> None:
        self.calibration = calibration
        flat, inside = calibration.flat, calibration.map >= 0
        margin = int(calibration.facts.spacing) + 2  # of what the cores at the border gather
        top, left = (max(0, int(low) - margin) for low in calibration.places.min(0)[::-1])
        bottom, right = (int(high) + margin + 1 for high in calibration.places.max(0)[::-1])
        self._box = slice(top, bottom), slice(left, right)
        self._lines = lines(calibration.places - np.array([left, top], np.float32))
        self._gain = np.float32(np.median(flat)) / flat
        self._pixels = np.flatnonzero(inside)
        corners = calibration.triangles[calibration.map[inside]]
        self._corners = np.ascontiguousarray(corners.T, np.intp)
        self._weights = np.ascontiguousarray(calibration.weights.T)
        self._parts = np.empty_like(self._weights)

    def __call__(self, image: Image) -> Image:
        """``image`` (H, W) without its cores, as a new array of its dtype. Raises UsageError for another size."""
        self.calibration.check((image.shape[0], image.shape[1]))
        part = image[self._box].astype(np.float32)
        values = gather(part, self._lines, len(self._gain), self.calibration.facts.spacing)
        values *= self._gain
        parts = self._parts
        for part, corners in zip(parts, self._corners, strict=True):
            np.take(values, corners, out=part, mode="clip")
        np.multiply(parts, self._weights, out=parts)
        total = np.add(parts[0], parts[1], out=parts[0])
        total += parts[2]
        np.rint(total, out=total)
        np.clip(total, 0, np.iinfo(image.dtype).max, out=total)
        removed = np.zeros(image.shape, image.dtype)
        removed.ravel()[self._pixels] = total  # a view: the array is new
        return removed
