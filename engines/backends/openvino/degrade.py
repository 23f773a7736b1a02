"""The degradation of an SR image as an OpenVINO graph, so that all threads of the engine share it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov  # type: ignore[import-untyped]
import openvino.opset13 as ops  # type: ignore[import-untyped]
from numpy.typing import NDArray

from clesr.engines.common.resample import Level, cubic_kernel, quantise

BLOCK = 16  # LR columns that one group of channels makes: the float32 numbers of a vector register


class GraphDegrader:
    """The degradation of SR images for LR ``shape`` (H, W), by graphs that ``prepared`` compiles."""

    def __init__(
        self, shape: tuple[int, int], scale: int, prepared: Callable[[ov.Model], ov.InferRequest]
    ) -> None:
        self._width = shape[1]
        self._requests = {
            np.dtype(dtype): prepared(degrading_graph(shape, scale, dtype)) for dtype in (np.uint8, np.uint16)
        }

    def __call__(self, sr: NDArray[Level]) -> NDArray[Level]:
        """The LR image (H, W) of ``sr`` (scale * H, scale * W), in its dtype, rounded."""
        request = self._requests[sr.dtype]
        request.set_input_tensor(ov.Tensor(sr, shared_memory=True))
        request.infer(share_outputs=True)
        return quantise(request.get_output_tensor().data[:, : self._width], sr.dtype)


def degrading_graph(shape: tuple[int, int], scale: int, dtype: type[np.generic]) -> ov.Model:
    """SR image (scale * H, scale * W) of ``dtype`` in, LR image (H, W') float32 out, not rounded; W' is W rounded up to
    whole blocks, and what is beyond W is of no meaning. ``shape`` is (H, W), ``scale`` even.

    The numbers are those of :class:`~clesr.engines.degrade.Degrader`: zeros beyond the border, and each sum divided by
    the weights that lie inside. The channels are runs of ``cell`` pixels in a line, which is the order in memory, so
    that nothing is moved: lines are shrunk in each channel by itself, columns across the channels.
    """
    height, width = shape
    cells, cell = 2 * -(-width // BLOCK), BLOCK * scale // 2
    margin = 3 * scale // 2
    sr = ops.parameter([height * scale, width * scale], dtype, "sr")
    x = ops.convert(sr, np.float32)
    if width % BLOCK:
        x = ops.pad(x, _ints(0, 0), _ints(0, cells * cell - width * scale), "constant")
    x = ops.reshape(x, _ints(1, height * scale, cells, cell), False)
    x = ops.transpose(x, _ints(0, 3, 1, 2))
    taps = cubic_kernel((np.arange(4 * scale) - 2 * scale + 0.5) / scale) / scale
    down = np.tile(taps, (cell, 1)).reshape(cell, 1, 1, -1, 1)
    x = ops.group_convolution(x, _floats(down), [scale, 1], [margin, 0], [margin, 0], [1, 1])
    x = ops.multiply(x, _floats(_norms(taps, height, scale).reshape(1, 1, -1, 1)))
    reach = -(-margin // cell)
    across = np.zeros((BLOCK, (2 + 2 * reach) * cell))
    for column, weights in enumerate(across):
        first = reach * cell + column * scale - margin
        weights[first : first + len(taps)] = taps
    kernels = across.reshape(BLOCK, -1, 1, cell).transpose(0, 3, 2, 1)
    x = ops.convolution(x, _floats(kernels), [1, 2], [0, reach], [0, reach], [1, 1])
    norms = np.ones(cells // 2 * BLOCK)
    norms[:width] = _norms(taps, width, scale)
    x = ops.multiply(x, _floats(norms.reshape(1, 1, -1, BLOCK).transpose(0, 3, 1, 2)))
    x = ops.reshape(ops.transpose(x, _ints(0, 2, 3, 1)), _ints(height, -1), False)
    return ov.Model([x.output(0)], [sr], "degrade")


def _norms(taps: NDArray[np.float64], count: int, scale: int) -> NDArray[np.float64]:
    """What each of ``count`` sums of a line is multiplied by, because taps beyond its ends do not count."""
    inside = np.pad(np.ones(count * scale), 3 * scale // 2)
    return 1 / (np.lib.stride_tricks.sliding_window_view(inside, len(taps))[::scale] @ taps)


def _ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def _floats(values: NDArray[np.float64]) -> ov.Node:
    return ops.constant(np.ascontiguousarray(values, np.float32))
