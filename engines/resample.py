"""Bicubic resampling with antialiasing, as Pillow and MATLAB do it (Keys' kernel, a = -0.5)."""

from __future__ import annotations

import functools
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from clesr.pipeline.frame import Image

Level = TypeVar("Level", bound=np.uint8 | np.uint16)

A = -0.5  # Keys 1981; Pillow and MATLAB's imresize


def cubic_kernel(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel at distances ``x`` (in samples of the coarser grid)."""
    x = np.abs(x)
    near = ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    far = ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


@functools.lru_cache(maxsize=64)
def resample_matrix(n_in: int, n_out: int) -> NDArray[np.float32]:
    """The (n_out, n_in) float32 matrix that resamples a line of ``n_in`` samples to ``n_out``.

    Shrinking widens the kernel by the ratio (antialiasing); at the borders the kernel is cut
    and normalised again, as Pillow does. Rows sum to one. The array is shared: read only.
    """
    ratio = n_in / n_out
    stretch = max(ratio, 1.0)
    centres = (np.arange(n_out) + 0.5) * ratio - 0.5
    weights = cubic_kernel((np.arange(n_in)[None, :] - centres[:, None]) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = weights.astype(np.float32)
    matrix.setflags(write=False)
    return matrix


def resize(image: Image, height: int, width: int) -> NDArray[np.float32]:
    """``image`` (H, W), any real dtype, resampled to (height, width) float32, in the input's units."""
    rows = resample_matrix(image.shape[0], height)
    columns = resample_matrix(image.shape[1], width)
    return np.asarray(rows @ image.astype(np.float32) @ columns.T, np.float32)


def quantise(image: NDArray[np.float32], dtype: np.dtype[Level]) -> NDArray[Level]:
    """``image`` rounded to the nearest level of ``dtype`` (uint8 or uint16) and clipped to its range."""
    levels: NDArray[Level] = np.clip(np.rint(image), 0, np.iinfo(dtype).max).astype(dtype)
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
