"""From SR back to LR, and what to add to an SR image so that it goes back to the measured one.

The operator is that of training (antialiased bicubic, :mod:`clesr.engines.common.resample`), applied as products of
small bands of its matrix, so that it costs about half a millisecond for 1024x1024 on one core.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from clesr.engines.common.image import Image
from clesr.engines.common.resample import PRODUCT, LineFilter, resampling

BLOCK = 4  # LR pixels that one matrix product makes
CACHED = 2**19  # bytes of an SR image as float32 that are worked on at a time
REACH = 6  # LR pixels from which the correction of an SR pixel comes; those beyond weigh 1 in 1000 together
SETTLED = 128  # LR pixels of a line after which its ends know nothing of each other, to float32

Weights = NDArray[np.float32]


def correction(count: int, scale: int, *, spread: int) -> LineFilter:
    """What turns an error along a line of ``count`` LR pixels into the smallest correction of its ``scale * count`` SR
    pixels that takes it away: the Moore-Penrose inverse of the degradation, ``spread`` LR pixels to each side.

    The degradation is the same at every pixel but near the ends of a line, and so is its inverse, which decays by two
    thirds from one LR pixel to the next: a line longer than SETTLED has the ends and the middle of one of that length.
    """
    inverse = _inverse(min(count, SETTLED), scale)
    length = inverse.shape[1]
    taps = min(2 * spread + 1, count)
    here = np.arange(count)
    there = np.where(here < length // 2, here, np.maximum(length // 2, here - count + length))
    starts = np.clip(here - spread, 0, count - taps)
    rows = there[:, None] * scale + np.arange(scale)
    columns = (starts - here + there)[:, None] + np.arange(taps)
    weights = inverse[rows[:, :, None], columns[:, None, :]].reshape(count * scale, taps)
    return LineFilter(count, starts.repeat(scale), weights)


@functools.lru_cache(maxsize=16)
def _inverse(count: int, scale: int) -> Weights:
    """The Moore-Penrose inverse of the degradation of a line of ``count`` LR pixels, (scale * count, count)."""
    degrade = resampling(count * scale, count).matrix().astype(np.float64)
    return np.linalg.solve(degrade @ degrade.T, degrade).T.astype(np.float32)


class Bands:
    """A line's matrix, which is zero far from its diagonal, cut into blocks of ``height`` rows and the columns that
    these need: ``step`` that go with a block's rows, and ``reach`` before and behind them.

    What is multiplied is padded with ``reach`` zeros in front, and brought to ``length``; of what comes out, ``size``
    long, the rows of the matrix count.
    """

    def __init__(self, line: LineFilter, *, height: int, step: int, reach: int) -> None:
        rows, taps = line.weights.shape
        blocks, width = -(-rows // height), step + 2 * reach
        self.step, self.reach = step, reach
        self.size, self.length = blocks * height, (blocks - 1) * step + width
        row, tap = np.arange(rows), np.arange(taps)
        columns = (line.starts - row // height * step + reach)[:, None] + tap
        weights = np.zeros((self.size, width), np.float32)
        inside = (columns >= 0) & (columns < width)
        weights[np.broadcast_to(row[:, None], inside.shape)[inside], columns[inside]] = line.weights[inside]
        self.weights: Weights = weights.reshape(blocks, height, width)
        self.transposed: Weights = np.ascontiguousarray(self.weights.transpose(0, 2, 1))

    def down(self, image: Weights, out: Weights, which: slice = slice(None)) -> None:
        """``out`` (size, W) becomes the matrix times ``image`` (length, W); both contiguous. Of some of the blocks,
        ``which``: ``image`` begins ``reach`` before the first one's columns."""
        weights = self.weights[which]
        blocks, height, width = weights.shape
        line, item = image.strides
        strips = -(-image.shape[1] * height * width // PRODUCT)
        strip = -(-image.shape[1] // strips)
        for left in range(0, image.shape[1], strip):
            part = image[:, left : left + strip]
            windows = as_strided(part, (blocks, width, part.shape[1]), (self.step * line, line, item))
            target = out.reshape(blocks, height, -1)[..., left : left + strip]
            np.matmul(weights, windows, out=target)

    def across(self, image: Weights, out: Weights) -> None:
        """``out`` (H, size) becomes ``image`` (H, length) times the transposed matrix; both contiguous."""
        blocks, height, width = self.weights.shape
        line, item = image.strides
        windows = as_strided(image, (blocks, image.shape[0], width), (self.step * item, line, item))
        np.matmul(windows, self.transposed, out=out.reshape(-1, blocks, height).transpose(1, 0, 2))


def degrading(count: int, scale: int, block: int) -> Bands:
    """The degradation of a line of ``scale * count`` SR pixels, ``block`` LR pixels at a time."""
    return Bands(resampling(count * scale, count), height=block, step=block * scale, reach=2 * scale)


def correcting(count: int, scale: int, block: int) -> Bands:
    """The correction of a line of ``count`` LR pixels, ``block`` of them at a time."""
    return Bands(
        correction(count, scale, spread=block + REACH), height=block * scale, step=block, reach=REACH
    )


class Degrader:
    """The degradation of SR images of one size, with buffers of its own: for one thread.

    ``shape`` is (H, W) of the LR image.
    """

    def __init__(self, shape: tuple[int, int], scale: int) -> None:
        self.shape, self.scale = shape, scale
        self._rows, self._columns = (degrading(n, scale, BLOCK) for n in shape)
        blocks, rows = len(self._rows.weights), BLOCK * scale
        self._take = min(blocks, max(1, CACHED // (4 * rows * self._columns.length)))
        self._part = np.zeros(((self._take * rows + 4 * scale), self._columns.length), np.float32)
        self._half = np.zeros((self._rows.size, self._columns.length), np.float32)
        self._lr = np.zeros((self._rows.size, self._columns.size), np.float32)
        # Where an image has one pixel, OpenCV 5.1 takes a plain 0.0 for an image of four.
        self._zeros = np.zeros(shape, np.float32)

    def __call__(self, sr: Image) -> Image:
        """The LR image (H, W) of ``sr`` (scale * H, scale * W) uint8 or uint16, in its dtype, rounded."""
        return _levels(self._reduced(sr), self._zeros, sr)

    def reduce(self, sr: Weights) -> Weights:
        """The same of and in float32."""
        return self._reduced(sr).copy()

    def _reduced(self, sr: Image | Weights) -> Weights:
        rows, columns = self._rows, self._columns
        for first in range(0, len(rows.weights), self._take):
            top = first * rows.step - rows.reach  # the row of the image that the part begins with
            begin, end = max(top, 0), min(top + len(self._part), sr.shape[0])
            # What the part holds beyond the image weighs nothing.
            self._part[begin - top : end - top, columns.reach : columns.reach + sr.shape[1]] = sr[begin:end]
            half = self._half[first * BLOCK : (first + self._take) * BLOCK]
            rows.down(self._part, half, slice(first, first + self._take))
        columns.across(self._half, self._lr)
        return self._lr[: self.shape[0], : self.shape[1]]


class Corrector:
    """The smallest correction of SR images of one size that takes an error at LR away. For one thread."""

    def __init__(self, shape: tuple[int, int], scale: int) -> None:
        self.shape, self.scale = shape, scale
        self._rows, self._columns = (correcting(n, scale, BLOCK) for n in shape)
        self._error = np.zeros((self._rows.length, self._columns.length), np.float32)
        self._half = np.zeros((self._rows.length, self._columns.size), np.float32)
        self._change = np.zeros((self._rows.size, self._columns.size), np.float32)

    def __call__(self, sr: Image, lr: Image, reprojected: Image) -> Image:
        """``sr``, whose LR image is ``reprojected`` (H, W), changed so that it becomes ``lr``, up to rounding and
        clipping. A new array of the same dtype."""
        return _levels(sr, self.change(np.subtract(lr, reprojected, dtype=np.float32)), sr)

    def change(self, error: Weights) -> Weights:
        """What to add to an SR image whose LR image lacks ``error`` (H, W): (scale * H, scale * W), both float32.
        Good until the next call."""
        height, width = self.shape
        self._error[REACH : REACH + height, REACH : REACH + width] = error
        self._columns.across(self._error, self._half)
        self._rows.down(self._half, self._change)
        return self._change[: height * self.scale, : width * self.scale]


def _levels(one: Image | Weights, other: Weights, like: Image) -> Image:
    """The sum of ``one`` and ``other``, rounded and clipped to the dtype of ``like``."""
    depth = cv2.CV_8U if like.dtype == np.uint8 else cv2.CV_16U
    levels: Image = cv2.add(one, other, dtype=depth)  # type: ignore[assignment]
    return levels
