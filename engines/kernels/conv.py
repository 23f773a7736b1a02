"""3x3 convolutions on channels-last images, as implicit matrix products.

Activations are (H, W, C) FP16, one image; sums are FP32. A kernel reads a run of channels of a wider buffer and
writes another run, so that nothing is ever concatenated, and what lies outside the image is zero.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = (8, 16)  # output pixels of a program
MAX_K = 64  # input channels of a step


@triton.jit
def _tile(BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr, width):
    """Rows and columns (M,) of this program's pixels."""
    across = tl.cdiv(width, BLOCK_W)
    program = tl.program_id(0)
    m = tl.arange(0, BLOCK_H * BLOCK_W)
    return (program // across) * BLOCK_H + m // BLOCK_W, (program % across) * BLOCK_W + m % BLOCK_W


@triton.jit
def _product(
    x, weights, total, rows, columns, height, width, x_channels, n_channels, n,
    C_IN: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """``total`` (M, N) plus the convolution: ``weights`` are (3, 3, C_IN, n_channels), ``n`` their columns (N,)."""
    k = tl.arange(0, BLOCK_K)
    for tap in range(9):
        y = rows + tap // 3 - 1
        z = columns + tap % 3 - 1
        inside = (y >= 0) & (y < height) & (z >= 0) & (z < width)
        pixels = x + (y * width + z) * x_channels
        for first in range(0, C_IN, BLOCK_K):
            a = tl.load(pixels[:, None] + (first + k)[None, :], mask=inside[:, None], other=0.0)
            b = tl.load(weights + (tap * C_IN + first + k)[:, None] * n_channels + n[None, :])
            total = tl.dot(a, b, total)
    return total


@triton.jit
def _conv_kernel(
    x, weights, bias, partial, out, scratch, height, width, x_channels, partial_channels, out_channels,
    scratch_channels, C_IN: tl.constexpr, C_OUT: tl.constexpr, C_NOW: tl.constexpr, HAS_PARTIAL: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    rows, columns = _tile(BLOCK_H, BLOCK_W, width)
    n = tl.arange(0, C_OUT)
    pixels = rows * width + columns
    inside = (rows < height) & (columns < width)
    total = tl.zeros((BLOCK_H * BLOCK_W, C_OUT), tl.float32)
    if HAS_PARTIAL:
        added = tl.load(partial + pixels[:, None] * partial_channels + n[None, :], mask=inside[:, None])
        total += added.to(tl.float32)
    else:
        total += tl.load(bias + n)[None, :]
    total = _product(x, weights, total, rows, columns, height, width, x_channels, C_OUT, n, C_IN, BLOCK_K)
    now = inside[:, None] & (n < C_NOW)[None, :]
    tl.store(
        out + pixels[:, None] * out_channels + n[None, :], tl.maximum(total, 0.0).to(tl.float16), mask=now
    )
    if C_NOW < C_OUT:
        later = inside[:, None] & (n >= C_NOW)[None, :]
        tl.store(scratch + pixels[:, None] * scratch_channels + (n - C_NOW)[None, :], total, mask=later)


def conv3(
    x: Tensor,
    weights: Tensor,
    bias: Tensor,
    out: Tensor,
    *,
    partial: Tensor | None = None,
    scratch: Tensor | None = None,
) -> None:
    """``out = relu(conv(x) + bias)``, of channels-last FP16 views (H, W, C) whose channels may be part of a buffer.

    ``weights`` are (3, 3, C_in, C_out) FP16, ``bias`` (C_out,) FP32; channels are multiples of 16, C_out a power of
    two. ``partial`` (H, W, C_out), FP32, is added in place of the bias. Where ``out`` has fewer channels
    than the weights, the sums of the others go to ``scratch`` (H, W, the rest), FP32, without ReLU.
    """
    height, width, c_in = x.shape
    c_out, c_now = weights.shape[-1], out.shape[-1]
    added = x if partial is None else partial
    rest = out if scratch is None else scratch
    grid = (triton.cdiv(height, TILE[0]) * triton.cdiv(width, TILE[1]),)
    _conv_kernel[grid](
        x, weights, bias, added, out, rest, height, width, x.stride(1), added.stride(1), out.stride(1),
        rest.stride(1), C_IN=c_in, C_OUT=c_out, C_NOW=c_now, HAS_PARTIAL=partial is not None,
        BLOCK_K=step(c_in), BLOCK_H=TILE[0], BLOCK_W=TILE[1],
    )  # fmt: skip


@triton.jit
def _first_kernel(
    lr, weights, bias, out, height, width, levels, C_OUT: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr
):  # fmt: skip
    rows, columns = _tile(BLOCK_H, BLOCK_W, width)
    n = tl.arange(0, C_OUT)
    total = tl.zeros((BLOCK_H * BLOCK_W, C_OUT), tl.float32) + tl.load(bias + n)[None, :]
    for tap in range(9):
        y = rows + tap // 3 - 1
        z = columns + tap % 3 - 1
        seen = (y >= 0) & (y < height) & (z >= 0) & (z < width)
        level = tl.load(lr + y * width + z, mask=seen, other=0).to(tl.float32) / levels
        total += level[:, None] * tl.load(weights + tap * C_OUT + n).to(tl.float32)[None, :]
    inside = (rows < height) & (columns < width)
    at = out + (rows * width + columns)[:, None] * C_OUT + n[None, :]
    tl.store(at, tl.maximum(total, 0.0).to(tl.float16), mask=inside[:, None])


def first_conv3(lr: Tensor, weights: Tensor, bias: Tensor, out: Tensor) -> None:
    """``out = relu(conv(lr / levels) + bias)``: (H, W) integer levels to (H, W, C) FP16.

    ``lr`` is uint8 or uint16; ``weights`` are (3, 3, 1, C), ``bias`` (C,) FP32.
    """
    height, width = lr.shape
    grid = (triton.cdiv(height, TILE[0]) * triton.cdiv(width, TILE[1]),)
    _first_kernel[grid](
        lr, weights, bias, out, height, width, levels_of(lr), C_OUT=weights.shape[-1],
        BLOCK_H=TILE[0], BLOCK_W=TILE[1],
    )  # fmt: skip


@triton.jit
def _up_kernel(
    x, weights, bias, out, height, width, x_channels, C_IN: tl.constexpr, C_OUT: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    rows, columns = _tile(BLOCK_H, BLOCK_W, width)
    parts: tl.constexpr = C_OUT // BLOCK_N
    phase = tl.program_id(1) // parts
    n = (tl.program_id(1) % parts) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_H * BLOCK_W, BLOCK_N), tl.float32) + tl.load(bias + phase * C_OUT + n)[None, :]
    total = _product(
        x, weights + phase * 9 * C_IN * C_OUT, total, rows, columns, height, width, x_channels, C_OUT, n,
        C_IN, BLOCK_K,
    )  # fmt: skip
    inside = (rows < height) & (columns < width)
    pixels = (2 * rows + phase // 2) * (2 * width) + 2 * columns + phase % 2
    tl.store(
        out + pixels[:, None] * C_OUT + n[None, :],
        tl.maximum(total, 0.0).to(tl.float16),
        mask=inside[:, None],
    )


def up_conv3(x: Tensor, weights: Tensor, bias: Tensor, out: Tensor) -> None:
    """``out = pixel_shuffle(relu(conv(x) + bias), 2)``: (H, W, C_in) to (2H, 2W, C) FP16, each phase stored in place.

    ``weights`` are phase-major, (4, 3, 3, C_in, C), phase ``2i + j`` going to rows 2y + i, columns 2x + j; ``bias`` is
    (4, C) FP32.
    """
    height, width, c_in = x.shape
    c_out = weights.shape[-1]
    block_n = min(c_out, 128)
    grid = (triton.cdiv(height, TILE[0]) * triton.cdiv(width, TILE[1]), 4 * (c_out // block_n))
    _up_kernel[grid](
        x, weights, bias, out, height, width, x.stride(1), C_IN=c_in, C_OUT=c_out, BLOCK_N=block_n,
        BLOCK_K=step(c_in), BLOCK_H=TILE[0], BLOCK_W=TILE[1],
    )  # fmt: skip


def step(channels: int) -> int:
    """The largest power of two that divides ``channels``, at most MAX_K."""
    return min(channels & -channels, MAX_K)


def levels_of(image: Tensor) -> float:
    """White of an image as the kernels read it."""
    return 255.0 if image.dtype == torch.uint8 else 65535.0
