"""Bicubic resampling with antialiasing, as Pillow and MATLAB do it (Keys' kernel, a = -0.5)."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Level = TypeVar("Level", bound=np.uint8 | np.uint16)

A = -0.5  # Keys 1981; Pillow and MATLAB's imresize
BLOCK = 32  # samples of the new line that one matrix product makes
PRODUCT = 250_000  # multiplications of one product at most: OpenBLAS does 2**18 on the calling thread


def cubic_kernel(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel at distances ``x`` (in samples of the coarser grid)."""
    x = np.abs(x)
    near = ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    far = ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class LineFilter:
    """What each sample of a new line is made of. Shared: read only.

    Sample ``i`` is the sum over ``k`` of ``weights[i, k]``, float32, times sample ``starts[i] + k`` of the old line,
    which has ``size`` samples.
    """

    size: int
    starts: NDArray[np.int64]
    weights: NDArray[np.float32]

    def matrix(self) -> NDArray[np.float32]:
        """All of it, (new, old): for short lines."""
        return self._rows(slice(None), 0, self.size)

    def block(self, which: slice) -> tuple[slice, NDArray[np.float32]]:
        """The rows ``which`` of the matrix, and the columns that they need."""
        starts = self.starts[which]
        begin, end = int(starts[0]), int(starts[-1]) + self.weights.shape[1]
        return slice(begin, end), self._rows(which, begin, end)

    def _rows(self, which: slice, begin: int, end: int) -> NDArray[np.float32]:
        starts, weights = self.starts[which], self.weights[which]
        rows = np.zeros((len(starts), end - begin), np.float32)
        np.put_along_axis(rows, starts[:, None] - begin + np.arange(weights.shape[1]), weights, axis=1)
        return rows


@functools.lru_cache(maxsize=64)
def resampling(n_in: int, n_out: int) -> LineFilter:
    """What resamples a line of ``n_in`` samples to ``n_out``.

    Shrinking widens the kernel by the ratio (antialiasing); at the borders the kernel is cut and normalised again, as
    Pillow does. Weights of a sample sum to one.
    """
    ratio = n_in / n_out
    stretch = max(ratio, 1.0)
    centres = (np.arange(n_out) + 0.5) * ratio - 0.5
    taps = min(math.ceil(4 * stretch), n_in)
    starts = np.clip(np.floor(centres - 2 * stretch).astype(np.int64) + 1, 0, n_in - taps)
    weights = cubic_kernel((starts[:, None] + np.arange(taps) - centres[:, None]) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    return LineFilter(n_in, starts, weights.astype(np.float32))


@functools.lru_cache(maxsize=64)
def _blocks(n_in: int, n_out: int) -> list[tuple[slice, slice, NDArray[np.float32]]]:
    """The matrix of ``resampling`` in BLOCK rows each: which rows, which columns, and what is there."""
    line = resampling(n_in, n_out)
    rows = [slice(first, first + BLOCK) for first in range(0, n_out, BLOCK)]
    return [(which, *line.block(which)) for which in rows]


def resize(image: NDArray[np.uint8 | np.uint16 | np.float32], height: int, width: int) -> NDArray[np.float32]:
    """``image`` (H, W), any real dtype, resampled to (height, width) float32, in the input's units."""
    old = image.astype(np.float32)
    half = np.empty((height, old.shape[1]), np.float32)
    for rows, columns, block in _blocks(old.shape[0], height):
        _multiply(block, old[columns], half[rows])
    new = np.empty((height, width), np.float32)
    for rows, columns, block in _blocks(old.shape[1], width):
        _multiply(block, half[:, columns].T, new[:, rows].T)
    return new


def _multiply(block: NDArray[np.float32], image: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """``out`` becomes ``block`` times ``image``, on the calling thread."""
    strip = max(1, PRODUCT // block.size)
    for left in range(0, image.shape[1], strip):
        np.matmul(block, image[:, left : left + strip], out=out[:, left : left + strip])


def quantise(image: NDArray[np.float32], dtype: np.dtype[Level]) -> NDArray[Level]:
    """``image`` rounded to the nearest level of ``dtype`` (uint8 or uint16) and clipped to its range."""
    rounded = np.rint(image)
    levels: NDArray[Level] = np.clip(rounded, 0, np.iinfo(dtype).max, out=rounded).astype(dtype)
    return levels


def polyphase_taps(scale: int) -> NDArray[np.float32]:
    """Bicubic up-sampling by an even ``scale`` as a convolution: (scale**2, 1, 5, 5) float32.

    Output channel ``i * scale + j`` is the phase at row i, column j of each LR pixel, in the order
    that a pixel shuffle expects. Away from the border this equals :func:`resize`.
    """
    line = line_taps(scale)
    taps = np.einsum("iy,jx->ijyx", line, line).reshape(scale * scale, 1, 5, 5)
    return np.asarray(taps, np.float32)


def line_taps(scale: int) -> NDArray[np.float64]:
    """The same along one line: (scale, 5), the weights of an LR pixel and its two neighbours at each side."""
    if scale % 2:
        raise ValueError(f"scale {scale} is odd; the 5-tap form needs an even scale")
    phases = (np.arange(scale) + 0.5) / scale - 0.5
    return cubic_kernel(np.arange(-2, 3)[None, :] - phases[:, None])
