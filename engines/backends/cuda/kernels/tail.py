"""The end of DenseNet: the last doubling, the last convolution and the image, without the widest feature map.

``project`` does what the last doubling does, and multiplies each new pixel's channels by the last convolution's nine
taps at once: 36 numbers an LR pixel go to memory in place of 512. ``finish`` sums each pixel's nine neighbours,
adds the logit of the bicubic image, and stores integer levels.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from clesr.engines.backends.cuda.kernels.conv import SIZES, enter, group, relu
from clesr.engines.backends.cuda.kernels.plan import INTERPRETED, PROJECT, Plan, launch, usual
from clesr.engines.backends.cuda.kernels.up import launch_up, up_sums
from clesr.engines.models.densenet import LOGIT_MARGIN

TAPS = 16  # nine, filled up to what a matrix unit wants
BLOCK = 128  # LR columns of a program of ``finish``


@triton.jit(do_not_specialize=SIZES)
def _project_kernel(
    x, weights, bias, last, out, height, width, pitch, x_channels, lead, C_IN: tl.constexpr, C_OUT: tl.constexpr,
    N_TAPS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    BY_COPIES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    enter(EARLY)
    PARTS: tl.constexpr = 4 * C_OUT // BLOCK_N
    PHASES: tl.constexpr = BLOCK_N // C_OUT
    program, part = tl.program_id(0) // PARTS, tl.program_id(0) % PARTS
    row, column, counts = group(program, height, pitch, 1, BLOCK_M)
    total = up_sums(
        x, weights, row, column, part, lead + program * BLOCK_M, pitch, x_channels, C_IN, C_OUT, BLOCK_M, BLOCK_N,
        BLOCK_K, BY_COPIES,
    )  # fmt: skip
    n = tl.arange(0, BLOCK_N)
    t = tl.arange(0, PHASES * N_TAPS)
    same = (n // C_OUT)[:, None] == (t // N_TAPS)[None, :]
    taps = tl.load(last + (n % C_OUT)[:, None] * N_TAPS + (t % N_TAPS)[None, :], mask=same, other=0.0)
    features = relu(total + tl.load(bias + part * BLOCK_N + n)[None, :]).to(tl.float16)
    projected = tl.dot(features, taps)
    inside = counts & (row < height) & (column < width)
    pixel = (row * width + column) * 4 + part * PHASES
    at = out + (pixel[:, None] + (t // N_TAPS)[None, :]) * 9 + (t % N_TAPS)[None, :]
    tl.store(at, projected.to(tl.float16), mask=inside[:, None] & (t % N_TAPS < 9)[None, :])


def project(
    x: Tensor, weights: Tensor, bias: Tensor, last: Tensor, out: Tensor, *, plan: Plan | None = None,
    early: bool = False,
) -> None:  # fmt: skip
    """A plane (H, W, C_in) to (H, W, 4, 9) FP16: of phase ``p`` of each pixel, what it gives to its nine neighbours.

    ``weights`` (3, 3, C_in, 4C) and ``bias`` (4C,) are as for ``up_conv3``; ``last`` (C, 16) FP16 are the last
    convolution's weights by channel and tap, zero from the tenth on.
    """
    launch_up(_project_kernel, x, weights, bias, (last, out), plan or usual(PROJECT), early, N_TAPS=TAPS)


@triton.jit(do_not_specialize=SIZES)
def _finish_kernel(
    projected, lr, trust, base, bias, out, status, height, width, levels, margin, SCALE: tl.constexpr,
    HAS_BASE: tl.constexpr, HAS_TRUST: tl.constexpr, LINES: tl.constexpr, N: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """N LR columns of LINES SR rows: (LINES * N, SCALE) pixels, so that the bicubic image's 25 LR pixels are read once
    for SCALE of them; with one row also its taps."""
    enter(EARLY)
    runs = tl.cdiv(width, N)
    m = tl.arange(0, LINES * N)
    row = tl.program_id(0) // runs * LINES + (m // N)[:, None] if LINES > 1 else tl.program_id(0) // runs
    row += tl.zeros((1, 1), tl.int32)
    lr_column = (tl.program_id(0) % runs) * N + m % N
    sub = tl.arange(0, SCALE)
    column = lr_column[:, None] * SCALE + sub[None, :]
    sr_height, sr_width = height * SCALE, width * SCALE
    inside = (lr_column < width)[:, None] & (row < sr_height) & (sub >= 0)[None, :]
    total = tl.zeros((LINES * N, SCALE), tl.float32) + tl.load(bias)
    for tap in range(9):
        y = row + tap // 3 - 1
        x = column + tap % 3 - 1
        seen = inside & (y >= 0) & (y < sr_height) & (x >= 0) & (x < sr_width)
        pixel = (y // 2) * (sr_width // 2) + x // 2
        at = projected + (pixel * 4 + (y % 2) * 2 + x % 2) * 9 + tap
        total += tl.load(at, mask=seen, other=0.0).to(tl.float32)
    broken = inside & (total - total != 0.0)  # infinite, or not a number
    tl.store(status + tl.zeros((LINES * N, SCALE), tl.int32), 1, mask=broken)
    if HAS_TRUST:
        at_lr = (row // SCALE) * width + lr_column[:, None]
        total *= tl.load(trust + at_lr, mask=inside, other=0).to(tl.float32) / 255.0
    if HAS_BASE:
        level = tl.zeros((LINES * N, SCALE), tl.float32)
        taps = base + ((row % SCALE) * SCALE + sub[None, :]) * 25
        for tap in range(25):
            y = tl.minimum(tl.maximum(row // SCALE + tap // 5 - 2, 0), height - 1)
            x = tl.minimum(tl.maximum(lr_column[:, None] + tap % 5 - 2, 0), width - 1)
            seen_level = tl.load(lr + y * width + x).to(tl.float32) / levels
            level += seen_level * tl.load(taps + tap)
        level = tl.minimum(tl.maximum(level, margin), 1.0 - margin)
        total += tl.log(level / (1.0 - level))
    value = levels / (1.0 + tl.exp(-total))
    low = tl.floor(value)
    rest = value - low
    odd = low - 2.0 * tl.floor(low * 0.5)
    up = (rest > 0.5) | ((rest == 0.5) & (odd == 1.0))
    at = out + row * sr_width + column
    tl.store(at, (low + up.to(tl.float32)).to(out.dtype.element_ty), mask=inside)


def finish(
    projected: Tensor, lr: Tensor, base: Tensor | None, bias: Tensor, out: Tensor, status: Tensor,
    trust: Tensor | None = None, *, early: bool = False,
) -> None:  # fmt: skip
    """The SR image of ``projected`` (sH/2, sW/2, 4, 9): levels (sH, sW) in the dtype of ``lr``, halves to even. Sets
    ``status`` (1,) int32 to 1 where a pixel is not finite.

    ``lr`` (H, W) is uint8 or uint16; ``base`` the (s * s, 5, 5) FP32 taps of the bicubic image whose logit
    is added, or None; ``bias`` the last convolution's, one FP32; ``trust`` (H, W) uint8 how far, in 255ths, all
    but the bicubic image counts, or None.
    """
    height, width = lr.shape
    levels = float(torch.iinfo(lr.dtype).max)
    block = min(BLOCK, triton.next_power_of_2(width))
    lines = 64 if INTERPRETED else 1
    count = triton.cdiv(out.shape[0], lines) * triton.cdiv(width, block)
    launch(
        _finish_kernel, count,
        projected, lr, lr if trust is None else trust, bias if base is None else base, bias, out, status, height, width,
        levels, LOGIT_MARGIN, SCALE=out.shape[0] // height, HAS_BASE=base is not None, HAS_TRUST=trust is not None,
        LINES=lines, N=block, early=early,
    )  # fmt: skip
