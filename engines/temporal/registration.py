"""Where the tissue of the present image lay in an earlier one: a shift of the whole, then a smooth field of shifts.

The shift is found by phase correlation of the halved images, the field by least squares over windows (Lucas and
Kanade, 1981), in the halved images and then in the whole ones. Each looks at what both images have in their field of
view alone.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.image import Floats

LEAST = 24  # pixels a side; smaller images are not registered
CELL = 4  # pixels a side; the field has one vector a cell
WINDOW = 9  # cells a side of the box that is applied twice
STEPS = (3, 1)  # in the halved images, in the whole ones
MOST_STEP = 1.0  # cells
DAMPING = 1.0  # squared grey levels a pixel: structure weaker than this hardly moves the field
BAND = 0.15  # cycles a halved pixel, of the Gaussian by which frequencies count


class Registration:
    """For images of one shape (H, W), at least LEAST a side. For one thread."""

    def __init__(self, shape: tuple[int, int]) -> None:
        height, width = shape
        half = height // 2, width // 2
        cells = -(-height // CELL), -(-width // CELL)
        self._levels = (_Level(half, cells), _Level(shape, cells))
        self._half = half
        self._hann = np.asarray(cv2.createHanningWindow(half[::-1], cv2.CV_32F), np.float32)
        y, x = np.fft.fftfreq(half[0])[:, None], np.fft.rfftfreq(half[1])[None]
        self._band = np.exp(-(x**2 + y**2) / (2 * BAND**2)).astype(np.float32)
        self._cell = np.array([n / c for n, c in zip(shape, cells, strict=True)][::-1], np.float32)

    def __call__(
        self, present: Floats, earlier: Floats, seen: Floats, seen_earlier: Floats
    ) -> tuple[Floats, float]:
        """The field (cells, cells, 2) float32, x and y, with ``present`` at p like ``earlier`` at p + field, in cells;
        and how many standard deviations the peak of the correlation stands out.

        Images (H, W) float32 in 8-bit grey levels; ``seen`` and ``seen_earlier`` are 1 in their fields of view, else 0.
        """
        half, half_earlier = (resized(image, self._half) for image in (present, earlier))
        view, view_earlier = (
            (resized(v, self._half) > 0.99).astype(np.float32) for v in (seen, seen_earlier)
        )
        shift, peak = self._shift(half, half_earlier, view, view_earlier)
        halved, whole = self._levels
        field = np.empty((*halved.cells, 2), np.float32)
        field[:] = shift * (np.array(present.shape[::-1]) / np.array(self._half[::-1])) / self._cell
        field = halved.refine(half, half_earlier, view, view_earlier, field, STEPS[0])
        smooth, smooth_earlier = (
            np.asarray(cv2.GaussianBlur(image, (5, 5), 1.0), np.float32) for image in (present, earlier)
        )
        return whole.refine(smooth, smooth_earlier, seen, seen_earlier, field, STEPS[1]), peak

    def _shift(
        self, present: Floats, earlier: Floats, seen: Floats, seen_earlier: Floats
    ) -> tuple[NDArray[np.float64], float]:
        """The shift, x and y in halved pixels, by phase correlation; and how much its peak stands out."""
        spectra = []
        for image, view in ((present, seen), (earlier, seen_earlier)):
            window = self._hann * cv2.blur(view, (5, 5)) * view
            mean = np.float32((image * window).sum() / max(float(window.sum()), 1e-6))
            spectra.append(np.fft.rfft2((image - mean) * window))
        product = spectra[1] * np.conj(spectra[0])
        size = np.abs(product)
        product *= self._band / (size + np.float32(1e-3 * float(size.max()) + 1e-12))
        surface = np.asarray(np.fft.irfft2(product, s=self._half), np.float32)
        row, column = divmod(int(surface.argmax()), self._half[1])
        peak = float(surface[row, column]) / max(float(surface.std()), 1e-12)
        shift = [_top(surface[row], column), _top(surface[:, column], row)]
        return np.array(shift), peak


class _Level:
    """Images of one resolution ``shape``, and the field of ``cells``."""

    def __init__(self, shape: tuple[int, int], cells: tuple[int, int]) -> None:
        self.shape, self.cells = shape, cells
        self._positions = Positions(cells, shape)

    def refine(
        self, present: Floats, earlier: Floats, seen: Floats, seen_earlier: Floats, field: Floats, steps: int
    ) -> Floats:
        """``field`` after ``steps`` steps towards the least squared difference over each window, whatever the
        difference of the windows' means."""
        weight = np.asarray(cv2.erode(seen, np.ones((5, 5), np.uint8), borderValue=0), np.float32)
        slope_x, slope_y = (
            np.asarray(cv2.Sobel(present, cv2.CV_32F, dx, dy, ksize=3, scale=1 / 8), np.float32) * weight
            for dx, dy in ((1, 0), (0, 1))
        )
        xx, xy, yy = (
            self._mean(a * b) for a, b in ((slope_x, slope_x), (slope_x, slope_y), (slope_y, slope_y))
        )
        xx, yy = xx + DAMPING, yy + DAMPING
        determinant = xx * yy - xy * xy
        cell = [c / n for n, c in zip(self.shape, self.cells, strict=True)][::-1]
        for _ in range(steps):
            at = self._positions(field)
            error = present - remapped(earlier, at)
            inside = weight * (remapped(seen_earlier, at, outside=0) > 0.999)
            error *= inside
            offset = self._mean(error) / np.maximum(self._mean(inside), 0.05)
            x = self._mean(slope_x * error) - offset * self._mean(slope_x * inside)
            y = self._mean(slope_y * error) - offset * self._mean(slope_y * inside)
            step = np.dstack(
                [(yy * x - xy * y) / determinant * cell[0], (xx * y - xy * x) / determinant * cell[1]]
            )
            field = field + np.clip(step, -MOST_STEP, MOST_STEP).astype(np.float32)
        return field

    def _mean(self, values: Floats) -> Floats:
        """The mean over the window around each cell."""
        box = (WINDOW, WINDOW)
        return np.asarray(cv2.blur(cv2.blur(resized(values, self.cells), box), box), np.float32)


class Positions:
    """From a field of ``cells``, in cells, to where each pixel of an image of ``shape`` finds its own in another of
    this shape. Keeps its result's memory: for one thread."""

    def __init__(self, cells: tuple[int, int], shape: tuple[int, int]) -> None:
        ratio = [n / c for n, c in zip(shape, cells, strict=True)]
        # One cell more on each side, so that positions go on beyond the last centres.
        self._large = tuple(n + 2 * round(r) for n, r in zip(shape, ratio, strict=True))
        self._inner = tuple(slice(round(r), round(r) + n) for n, r in zip(shape, ratio, strict=True))
        self._ratio = np.array(ratio[::-1], np.float32)
        y, x = np.mgrid[: cells[0] + 2, : cells[1] + 2].astype(np.float32)
        steps = [n / (c + 2) for n, c in zip(self._large, cells, strict=True)]
        # Where cells lie after the enlargement, as seen from the first pixel of the image.
        self._cells = np.dstack(
            [
                (v + 0.5) * step - 0.5 - round(r)
                for v, step, r in zip((x, y), steps[::-1], ratio[::-1], strict=True)
            ]
        ).astype(np.float32)
        self._at = np.empty((*self._large, 2), np.float32)

    def __call__(self, field: Floats) -> Floats:
        """(H, W, 2) float32, x and y, for ``cv2.remap``; good until the next call."""
        nodes = np.pad(field, ((1, 1), (1, 1), (0, 0)), mode="edge") * self._ratio + self._cells
        cv2.resize(nodes, self._large[::-1], dst=self._at, interpolation=cv2.INTER_LINEAR)
        return self._at[self._inner]


def resized(image: Floats, shape: tuple[int, int]) -> Floats:
    """``image`` with each pixel of the smaller ``shape`` the mean of the area that it covers."""
    return np.asarray(cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA), np.float32)


def remapped(image: Floats, at: Floats, *, outside: float | None = None, out: Floats | None = None) -> Floats:
    """``image`` at the positions ``at`` (H, W, 2), linearly interpolated; beyond it ``outside``, or its border."""
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    found = cv2.remap(
        image,
        at,
        None,
        cv2.INTER_LINEAR,
        dst=out,
        borderMode=border,
        borderValue=outside or 0.0,
    )
    return np.asarray(found, np.float32)


def _top(line: NDArray[np.float32], place: int) -> float:
    """The place of the peak at ``place`` of a periodic ``line`` to a fraction, by a parabola; negative where it lies in
    the second half."""
    left, middle, right = (float(line[(place + i) % len(line)]) for i in (-1, 0, 1))
    bend = left - 2 * middle + right
    exact = place + (0.0 if bend >= 0 else min(0.5, max(-0.5, (left - right) / (2 * bend))))
    return exact - len(line) if exact > len(line) / 2 else exact
