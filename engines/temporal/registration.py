"""Where the tissue of the present image lay in an earlier one: a shift of the whole, then a smooth field of shifts.

The shift is found by phase correlation of the halved images, the field by least squares over windows (Lucas and
Kanade, 1981), halved and then whole. Both look at what both images have in their field of view alone.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.image import Floats

LEAST = 24  # pixels a side; smaller images are not registered
BAND = 0.15  # cycles a halved pixel, of the Gaussian that shares of frequencies are weighted by
WINDOW = 11  # pixels a side, of the box that is applied twice, in the halved image; the double in the whole one
STEPS = (3, 1)  # of the halved, of the whole image
MOST_STEP = 2.0  # pixels
DAMPING = 1.0  # squared grey levels a pixel: structure weaker than this hardly moves the field


class Registration:
    """For images of one shape (H, W), at least LEAST a side. For one thread."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._half = shape[0] // 2, shape[1] // 2
        self._grid, self._half_grid = positions(shape), positions(self._half)
        self._hann = np.asarray(cv2.createHanningWindow(self._half[::-1], cv2.CV_32F), np.float32)
        y, x = np.fft.fftfreq(self._half[0])[:, None], np.fft.rfftfreq(self._half[1])[None]
        self._band = np.exp(-(x**2 + y**2) / (2 * BAND**2)).astype(np.float32)

    def __call__(
        self, present: Floats, earlier: Floats, seen: Floats, seen_earlier: Floats
    ) -> tuple[Floats, float]:
        """The field (H, W, 2) float32, x and y, with ``present`` at p like ``earlier`` at p + field, in pixels; and how
        many standard deviations the peak of the correlation stands out.

        Images (H, W) float32 in 8-bit grey levels; ``seen`` and ``seen_earlier`` are 1 in their fields of view, else 0.
        """
        images = [self._halved(image) for image in (present, earlier)]
        views = [(self._halved(view) > 0.99).astype(np.float32) for view in (seen, seen_earlier)]
        shift, peak = self._shift(*images, *views)
        field = np.empty((*self._half, 2), np.float32)
        field[:] = shift
        field = _refined(*images, *views, field, self._half_grid, WINDOW, STEPS[0])
        field = np.asarray(cv2.resize(field, self._shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
        field *= np.array([w / h for w, h in zip(self._shape, self._half, strict=True)][::-1], np.float32)
        smooth = [np.asarray(cv2.GaussianBlur(image, (5, 5), 1.0), np.float32) for image in (present, earlier)]
        return _refined(*smooth, seen, seen_earlier, field, self._grid, 2 * WINDOW - 1, STEPS[1]), peak

    def _halved(self, image: Floats) -> Floats:
        return np.asarray(cv2.resize(image, self._half[::-1], interpolation=cv2.INTER_AREA), np.float32)

    def _shift(
        self, present: Floats, earlier: Floats, seen: Floats, seen_earlier: Floats
    ) -> tuple[NDArray[np.float64], float]:
        """The shift, x and y in halved pixels, by phase correlation; and how much its peak stands out."""
        spectra = []
        for image, view in ((present, seen), (earlier, seen_earlier)):
            window = self._hann * cv2.blur(view, (5, 5)) * view
            mean = float((image * window).sum()) / max(float(window.sum()), 1e-6)
            spectra.append(np.fft.rfft2((image - mean) * window))
        product = spectra[1] * np.conj(spectra[0])
        size = np.abs(product)
        product *= self._band / (size + 1e-3 * float(size.max()) + 1e-12)
        surface = np.fft.irfft2(product, s=self._half)
        row, column = divmod(int(surface.argmax()), self._half[1])
        peak = float(surface[row, column]) / max(float(surface.std()), 1e-12)
        lines = surface[row].take(range(column - 1, column + 2), mode="wrap"), surface[:, column].take(
            range(row - 1, row + 2), mode="wrap"
        )
        found = [place + _top(line) for place, line in zip((column, row), lines, strict=True)]
        size_xy = self._half[::-1]
        return np.array([p - n if p > n / 2 else p for p, n in zip(found, size_xy, strict=True)]), peak


def positions(shape: tuple[int, int]) -> Floats:
    """(H, W, 2) float32: x and y of each pixel."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return np.dstack([x, y])


def _top(line: NDArray[np.float64]) -> float:
    """Where the parabola through three values, the middle one the largest, has its top: -0.5 to 0.5."""
    bend = line[0] - 2 * line[1] + line[2]
    return 0.0 if bend >= 0 else float(np.clip((line[0] - line[2]) / (2 * bend), -0.5, 0.5))


def _refined(
    present: Floats,
    earlier: Floats,
    seen: Floats,
    seen_earlier: Floats,
    field: Floats,
    grid: Floats,
    window: int,
    steps: int,
) -> Floats:
    """``field`` after ``steps`` steps towards the least squared difference over each window."""

    def mean(values: Floats) -> Floats:
        box = (window, window)
        return np.asarray(cv2.blur(cv2.blur(values, box), box), np.float32)

    weight = np.asarray(cv2.erode(seen, np.ones((5, 5), np.uint8), borderValue=0), np.float32)
    across, down = (
        np.asarray(cv2.Sobel(present, cv2.CV_32F, dx, dy, ksize=3, scale=1 / 8), np.float32) * weight
        for dx, dy in ((1, 0), (0, 1))
    )
    xx, xy, yy = mean(across * across) + DAMPING, mean(across * down), mean(down * down) + DAMPING
    determinant = xx * yy - xy * xy
    xx, xy, yy = xx / determinant, xy / determinant, yy / determinant
    for _ in range(steps):
        at = grid + field
        found = cv2.remap(earlier, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        known = cv2.remap(seen_earlier, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)  # type: ignore[call-overload]
        inside = weight * (known > 0.999)
        error = (present - found) * inside
        error -= inside * mean(error) / np.maximum(mean(inside), 0.05)
        x, y = mean(across * error), mean(down * error)
        step = np.dstack([yy * x - xy * y, xx * y - xy * x])
        field = field + np.clip(step, -MOST_STEP, MOST_STEP)
    return field
