"""The end of DenseNet: the last doubling, the last convolution and the image, without the widest feature map.

``project`` does what the last doubling does, and multiplies each new pixel's channels by the last convolution's nine
taps at once: 36 numbers an LR pixel go to memory in place of 512. ``finish`` sums each pixel's nine neighbours,
adds the logit of the bicubic image, and stores integer levels.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from clesr.engines.kernels.conv import TILE, _product, _tile, levels_of, step
from clesr.engines.models import LOGIT_MARGIN

TAPS = 16  # nine, filled up to what a matrix unit wants
BLOCK = 256  # pixels of a program of ``finish``


@triton.jit
def _project_kernel(
    x, weights, bias, last, out, height, width, x_channels, C_IN: tl.constexpr, C_OUT: tl.constexpr,
    N_TAPS: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    rows, columns = _tile(BLOCK_H, BLOCK_W, width)
    phase = tl.program_id(1)
    n = tl.arange(0, C_OUT)
    taps = tl.arange(0, N_TAPS)
    total = tl.zeros((BLOCK_H * BLOCK_W, C_OUT), tl.float32) + tl.load(bias + phase * C_OUT + n)[None, :]
    total = _product(
        x, weights + phase * 9 * C_IN * C_OUT, total, rows, columns, height, width, x_channels, C_OUT, n,
        C_IN, BLOCK_K,
    )  # fmt: skip
    features = tl.maximum(total, 0.0).to(tl.float16)
    projected = tl.dot(features, tl.load(last + n[:, None] * N_TAPS + taps[None, :]))
    inside = (rows < height) & (columns < width)
    at = out + ((rows * width + columns) * 4 + phase)[:, None] * 9 + taps[None, :]
    tl.store(at, projected.to(tl.float16), mask=inside[:, None] & (taps < 9)[None, :])


def project(x: Tensor, weights: Tensor, bias: Tensor, last: Tensor, out: Tensor) -> None:
    """(H, W, C_in) FP16 to (H, W, 4, 9) FP16: of phase ``p`` of each pixel, what it gives to its nine neighbours.

    ``weights`` (4, 3, 3, C_in, C) and ``bias`` (4, C) are as for ``up_conv3``; ``last`` (C, 16) FP16 are the last
    convolution's weights by channel and tap, zero from the tenth on.
    """
    height, width, c_in = x.shape
    grid = (triton.cdiv(height, TILE[0]) * triton.cdiv(width, TILE[1]), 4)
    _project_kernel[grid](
        x, weights, bias, last, out, height, width, x.stride(1), C_IN=c_in, C_OUT=weights.shape[-1], N_TAPS=TAPS,
        BLOCK_K=step(c_in), BLOCK_H=TILE[0], BLOCK_W=TILE[1],
    )  # fmt: skip


@triton.jit
def _finish_kernel(
    projected, lr, base, bias, out, height, width, levels, margin, SCALE: tl.constexpr, HAS_BASE: tl.constexpr,
    N: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0) * N + tl.arange(0, N)
    sr_width = width * SCALE
    inside = index < height * SCALE * sr_width
    row, column = index // sr_width, index % sr_width
    total = tl.zeros((N,), tl.float32) + tl.load(bias)
    for tap in range(9):
        y = row + tap // 3 - 1
        x = column + tap % 3 - 1
        seen = inside & (y >= 0) & (y < height * SCALE) & (x >= 0) & (x < sr_width)
        pixel = (y // 2) * (sr_width // 2) + x // 2
        at = projected + (pixel * 4 + (y % 2) * 2 + x % 2) * 9 + tap
        total += tl.load(at, mask=seen, other=0.0).to(tl.float32)
    if HAS_BASE:
        level = tl.zeros((N,), tl.float32)
        phase = (row % SCALE) * SCALE + column % SCALE
        for tap in range(25):
            y = tl.minimum(tl.maximum(row // SCALE + tap // 5 - 2, 0), height - 1)
            x = tl.minimum(tl.maximum(column // SCALE + tap % 5 - 2, 0), width - 1)
            seen_level = tl.load(lr + y * width + x, mask=inside, other=0).to(tl.float32) / levels
            level += seen_level * tl.load(base + phase * 25 + tap)
        level = tl.minimum(tl.maximum(level, margin), 1.0 - margin)
        total += tl.log(level / (1.0 - level))
    value = levels / (1.0 + tl.exp(-total))
    low = tl.floor(value)
    rest = value - low
    odd = low - 2.0 * tl.floor(low * 0.5)
    up = (rest > 0.5) | ((rest == 0.5) & (odd == 1.0))
    tl.store(out + index, (low + up.to(tl.float32)).to(out.dtype.element_ty), mask=inside)


def finish(projected: Tensor, lr: Tensor, base: Tensor | None, bias: Tensor, out: Tensor) -> None:
    """The SR image of ``projected`` (sH/2, sW/2, 4, 9): levels (sH, sW) in the dtype of ``lr``, halves to even.

    ``lr`` (H, W) is uint8 or uint16; ``base`` the (s * s, 5, 5) FP32 taps of the bicubic image whose logit
    is added, or None; ``bias`` the last convolution's, one FP32.
    """
    height, width = lr.shape
    grid = (triton.cdiv(out.numel(), BLOCK),)
    _finish_kernel[grid](
        projected, lr, bias if base is None else base, bias, out, height, width, levels_of(lr), LOGIT_MARGIN,
        SCALE=out.shape[0] // height, HAS_BASE=base is not None, N=BLOCK,
    )  # fmt: skip
