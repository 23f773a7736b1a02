"""3x3 convolutions on planes (H, W, C), channels last, as implicit matrix products: FP16, sums in FP32.

A kernel reads a run of channels of a wider buffer and writes another run, so that nothing is ever concatenated. Pixels
are numbered along image rows, margin included; a program of several rows has the same columns of each.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator, assignment"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from clesr.engines.backends.cuda.kernels.plan import INTERPRETED, Plan, launch, plan_kind, programs, usual
from clesr.engines.backends.cuda.kernels.planes import check_plane, pitch_of

# Sizes differ from image to image: no kernel is compiled anew for one that 16 divides.
SIZES = ["height", "width", "pitch", "out_pitch", "partial_pitch", "scratch_pitch", "lead"]


@triton.jit
def enter(EARLY: tl.constexpr):
    """With an early start: let the next kernel start, and wait for the one before."""
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


@triton.jit
def relu(x):
    """What is not a number stays so: ``finish`` must see it."""
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def group(program, height, pitch, ROWS: tl.constexpr, BLOCK_M: tl.constexpr):
    """The first row, the column and whether they count, (M,), of a program's pixels. With several rows (merged) the
    first and last are there for their neighbours only."""
    m = tl.arange(0, BLOCK_M)
    if ROWS > 1:
        index = program * (BLOCK_M - 2) + m - 1
        counts = (m > 0) & (m < BLOCK_M - 1)
    else:
        index = program * BLOCK_M + m
        counts = m >= 0
    end = tl.cdiv(height, ROWS) * pitch
    counts = counts & (index >= 0) & (index < end)
    index = tl.minimum(tl.maximum(index, 0), end - 1)
    return index // pitch * ROWS, index % pitch, counts


@triton.jit
def direct_sums(
    x, w, pixel, pitch, x_channels, C_IN: tl.constexpr, C_ALL: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """The sums (M, N) FP32 of the pixels ``pixel`` (M,). ``w`` (K, N) points at the weights of the first tap's first
    channels, of C_ALL columns. Channels go by outermost, so that taps meet pixels still in the nearest cache."""
    at = x + (pixel * x_channels)[:, None] + tl.arange(0, BLOCK_K)[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for index in range(9 * (C_IN // BLOCK_K)):
        tap = index % 9
        first = index // 9 * BLOCK_K
        a = tl.load(at + (((tap // 3 - 1) * pitch + tap % 3 - 1) * x_channels + first))
        total = tl.dot(a, tl.load(w + (tap * C_IN + first) * C_ALL), total)
    return total


@triton.jit
def _merged_sums(
    x, weights, pixel, pitch, x_channels, C_IN: tl.constexpr, C_OUT: tl.constexpr, ROWS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """A tuple of (M, 4 x C_OUT), one for each row: what a column gives to the pixels right of it, at it and left of it,
    and nothing."""
    k = tl.arange(0, BLOCK_K)
    c = tl.arange(0, 4 * C_OUT)
    at = x + (pixel * x_channels)[:, None] + k[None, :]
    w = weights + (c // C_OUT * C_IN + k[:, None]) * C_OUT + (c % C_OUT)[None, :]
    taps = (c < 3 * C_OUT)[None, :] & (k >= 0)[:, None]
    totals = ()
    for _ in tl.static_range(ROWS):
        totals = totals + (tl.zeros((BLOCK_M, 4 * C_OUT), tl.float32),)  # noqa: RUF005 - Triton knows no stars
    for index in range(C_IN // BLOCK_K):
        first = index * BLOCK_K
        up = tl.load(w + first * C_OUT, mask=taps, other=0.0)
        middle = tl.load(w + (3 * C_IN + first) * C_OUT, mask=taps, other=0.0)
        down = tl.load(w + (6 * C_IN + first) * C_OUT, mask=taps, other=0.0)
        above = tl.load(at + (first - pitch * x_channels))
        here = tl.load(at + first)
        done = ()
        for r in tl.static_range(ROWS):
            below = tl.load(at + ((r + 1) * pitch * x_channels + first))
            total = tl.dot(above, up, totals[r])
            total = tl.dot(here, middle, total)
            total = tl.dot(below, down, total)
            done = done + (total,)  # noqa: RUF005
            above = here
            here = below
        totals = done
    return totals


@triton.jit
def _shifted(total, column, width, C_OUT: tl.constexpr, BLOCK_M: tl.constexpr):
    """The sums (M, C_OUT) of merged columns (M, 4 x C_OUT)."""
    pairs = tl.permute(tl.reshape(total, (BLOCK_M, 2, 2, C_OUT)), (0, 1, 3, 2))
    even, odd = tl.split(pairs)  # left and right; middle and nothing
    left, right = tl.split(tl.permute(even, (0, 2, 1)))
    middle, _nothing = tl.split(tl.permute(odd, (0, 2, 1)))
    m = tl.arange(0, BLOCK_M)
    before = tl.broadcast_to(tl.maximum(m - 1, 0)[:, None], (BLOCK_M, C_OUT))
    after = tl.broadcast_to(tl.minimum(m + 1, BLOCK_M - 1)[:, None], (BLOCK_M, C_OUT))
    left = tl.where((column > 0)[:, None], tl.gather(left, before, 0), 0.0)
    right = tl.where((column < width - 1)[:, None], tl.gather(right, after, 0), 0.0)
    return middle + left + right


@triton.jit(do_not_specialize=SIZES)
def _conv_kernel(
    x, weights, bias, partial, out, scratch, height, width, pitch, x_channels, partial_pitch, partial_channels,
    out_pitch, out_channels, scratch_pitch, scratch_channels, C_IN: tl.constexpr, C_OUT: tl.constexpr,
    C_NOW: tl.constexpr, HAS_PARTIAL: tl.constexpr, ROWS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    enter(EARLY)
    row, column, counts = group(tl.program_id(0), height, pitch, ROWS, BLOCK_M)
    n = tl.arange(0, C_OUT)
    pixel = row * pitch + column
    if ROWS > 1:
        totals = _merged_sums(x, weights, pixel, pitch, x_channels, C_IN, C_OUT, ROWS, BLOCK_M, BLOCK_K)
    else:
        w = weights + (tl.arange(0, BLOCK_K) * C_OUT)[:, None] + n[None, :]
        totals = (direct_sums(x, w, pixel, pitch, x_channels, C_IN, C_OUT, BLOCK_M, C_OUT, BLOCK_K),)
    for r in tl.static_range(ROWS):
        total = _shifted(totals[r], column, width, C_OUT, BLOCK_M) if ROWS > 1 else totals[r]
        y = row + r
        inside = counts & (y < height) & (column < width)
        if HAS_PARTIAL:
            at = partial + ((y * partial_pitch + column) * partial_channels)[:, None] + n[None, :]
            total += tl.load(at, mask=inside[:, None], other=0.0).to(tl.float32)
        else:
            total += tl.load(bias + n)[None, :]
        at = out + ((y * out_pitch + column) * out_channels)[:, None] + n[None, :]
        now = inside[:, None] & (n < C_NOW)[None, :]
        tl.store(at, relu(total).to(out.dtype.element_ty), mask=now)
        if C_NOW < C_OUT:
            at = scratch + ((y * scratch_pitch + column) * scratch_channels)[:, None] + (n - C_NOW)[None, :]
            later = inside[:, None] & (n >= C_NOW)[None, :]
            tl.store(at, total.to(scratch.dtype.element_ty), mask=later)


def conv3(
    x: Tensor, weights: Tensor, bias: Tensor, out: Tensor, *, partial: Tensor | None = None,
    scratch: Tensor | None = None, plan: Plan | None = None, early: bool = False,
) -> None:  # fmt: skip
    """``out = relu(conv(x) + bias)``, (H, W, C) FP16: ``x`` a run of a plane's channels, ``out`` one of any buffer's.

    ``weights`` are (3, 3, C_in, C_out) FP16, ``bias`` (C_out,) FP32; channels are multiples of 16, C_out a power of
    two. ``partial`` (H, W, C_out) is added in place of the bias. Where ``out`` has fewer channels than the weights, the
    sums of the others go to ``scratch`` (H, W, the rest), without ReLU. ``early`` as in ``launch``.
    """
    check_plane(x)
    height, width, c_in = x.shape
    c_out = weights.shape[-1]
    plan = plan or usual(plan_kind(c_out))
    added, rest = x if partial is None else partial, out if scratch is None else scratch
    launch(
        _conv_kernel, programs(height, pitch_of(x), plan),
        x, weights, bias, added, out, rest, height, width, pitch_of(x), x.stride(1), pitch_of(added), added.stride(1),
        pitch_of(out), out.stride(1), pitch_of(rest), rest.stride(1), C_IN=c_in, C_OUT=c_out, C_NOW=out.shape[-1],
        HAS_PARTIAL=partial is not None, ROWS=plan.rows, BLOCK_M=plan.block_m, BLOCK_K=plan.step(c_in), plan=plan,
        early=early,
    )  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def _first_kernel(
    lr, weights, bias, out, status, height, width, out_pitch, levels, C_OUT: tl.constexpr, BLOCK_M: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    enter(EARLY)
    if tl.program_id(0) == 0:
        tl.store(status, 0)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    row, column = m // width, m % width
    n = tl.arange(0, C_OUT)
    total = tl.zeros((BLOCK_M, C_OUT), tl.float32) + tl.load(bias + n)[None, :]
    for tap in range(9):
        y = row + tap // 3 - 1
        z = column + tap % 3 - 1
        seen = (y >= 0) & (y < height) & (z >= 0) & (z < width)
        level = tl.load(lr + y * width + z, mask=seen, other=0).to(tl.float32) / levels
        total += level[:, None] * tl.load(weights + tap * C_OUT + n).to(tl.float32)[None, :]
    at = out + ((row * out_pitch + column) * C_OUT)[:, None] + n[None, :]
    tl.store(at, relu(total).to(tl.float16), mask=(row < height)[:, None])


def first_conv3(
    lr: Tensor, weights: Tensor, bias: Tensor, out: Tensor, status: Tensor, *, early: bool = False
) -> None:
    """``out = relu(conv(lr / levels) + bias)``: (H, W) integer levels to (H, W, C) FP16, all C of its buffer. Sets
    ``status`` (1,) int32 to 0.

    ``lr`` is uint8 or uint16; ``weights`` are (3, 3, 1, C), ``bias`` (C,) FP32.
    """
    height, width = lr.shape
    block = 8192 if INTERPRETED else 128
    launch(
        _first_kernel, triton.cdiv(height * width, block),
        lr, weights, bias, out, status, height, width, pitch_of(out), float(torch.iinfo(lr.dtype).max),
        C_OUT=weights.shape[-1], BLOCK_M=block, early=early,
    )  # fmt: skip
