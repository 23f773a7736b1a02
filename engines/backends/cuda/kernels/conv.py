"""3x3 convolutions on channels-last images, as implicit matrix products.

Activations are (H, W, C), one image, in FP16 or FP8; sums are FP32. A kernel reads a run of channels of a wider buffer
and writes another run, so that nothing is ever concatenated, and what lies outside the image is zero. Pixels are
counted in groups of image rows (``_group``): within a group a program has the same columns of every row.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator, assignment"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from clesr.engines.backends.cuda.kernels.plan import (
    AHEAD,
    INTERPRETED,
    NARROW,
    UP,
    WIDE,
    Plan,
    launch,
    launch_options,
    step,
    usual,
)
from clesr.engines.backends.cuda.kernels.planes import has_margin, pitch_of

BLOCK = 128  # pixels of a program of ``first_conv3``
# Sizes differ from image to image: no kernel is compiled anew for one that 16 divides.
SIZES = ["height", "width", "pitch", "out_pitch", "partial_pitch", "scratch_pitch", "lead"]
FP8 = torch.float8_e4m3fn
FP8_MOST = 448.0


@triton.jit
def _enter(EARLY: tl.constexpr):
    """With an early start: let the next kernel start, and wait for the one before."""
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


@triton.jit
def _group(program, height, pitch, ROWS: tl.constexpr, MERGE: tl.constexpr, BLOCK_M: tl.constexpr):
    """The first row, the column and whether they count, (M,), of a program's pixels.

    Pixels are numbered along the first rows of the groups, margin included. A merged program's first and last are
    there for their neighbours only.
    """
    m = tl.arange(0, BLOCK_M)
    if MERGE:
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
def _pixels(
    at, row, column, dy, dx, first, height, width, pitch, x_channels, MARGIN: tl.constexpr, CACHE: tl.constexpr
):  # fmt: skip
    """Channels from ``first`` of the pixels ``dy`` rows below and ``dx`` columns right of the program's: (M, K)."""
    source = at + ((dy * pitch + dx) * x_channels + first)
    if MARGIN:
        a = tl.load(source, cache_modifier=CACHE)
    else:
        y = row + dy
        z = column + dx
        inside = (y >= 0) & (y < height) & (z >= 0) & (z < width)
        a = tl.load(source, mask=inside[:, None], other=0.0, cache_modifier=CACHE)
    return a


@triton.jit
def _dot(a, b, total):
    if a.dtype == tl.float8e4nv:  # Hopper's FP8 sums keep few bits: go to FP32 after every step
        total = tl.dot(a, b, total, max_num_imprecise_acc=a.shape[1])
    else:
        total = tl.dot(a, b, total)
    return total


@triton.jit
def _sums(
    x, w, w_mask, row, column, height, width, pitch, x_channels, k_stride, c_in, N: tl.constexpr,
    ROWS: tl.constexpr, MERGE: tl.constexpr, MARGIN: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr,
    CACHE: tl.constexpr,
):  # fmt: skip
    """The convolution's sums: a tuple of (M, N) FP32, one for each row of the group.

    ``w`` (K, N) points at the weights of the first tap's first channels; ``k_stride`` lies between channels, and
    ``c_in`` channels between taps. Channels go by outermost, so that taps meet pixels still in the nearest cache.
    """
    k = tl.arange(0, BLOCK_K)
    at = x + ((row * pitch + column) * x_channels)[:, None] + k[None, :]
    tap_stride = c_in * k_stride
    if ROWS == 1 and not MERGE:
        total = tl.zeros((BLOCK_M, N), tl.float32)
        for index in range(9 * (c_in // BLOCK_K)):
            tap = index % 9
            first = index // 9 * BLOCK_K
            a = _pixels(
                at, row, column, tap // 3 - 1, tap % 3 - 1, first, height, width, pitch, x_channels, MARGIN, CACHE
            )  # fmt: skip
            total = _dot(a, tl.load(w + (tap * tap_stride + first * k_stride)), total)
        totals = (total,)
    else:
        SHIFTS: tl.constexpr = 1 if MERGE else 3
        totals = ()
        for _ in tl.static_range(ROWS):
            totals = totals + (tl.zeros((BLOCK_M, N), tl.float32),)  # noqa: RUF005 - Triton knows no stars
        for index in range(SHIFTS * (c_in // BLOCK_K)):
            shift = index % SHIFTS
            dx = 0 if MERGE else shift - 1
            first = index // SHIFTS * BLOCK_K
            source = w + (shift * tap_stride + first * k_stride)
            if MERGE:
                up = tl.load(source, mask=w_mask, other=0.0)
                middle = tl.load(source + 3 * tap_stride, mask=w_mask, other=0.0)
                down = tl.load(source + 6 * tap_stride, mask=w_mask, other=0.0)
            else:
                up = tl.load(source)
                middle = tl.load(source + 3 * tap_stride)
                down = tl.load(source + 6 * tap_stride)
            above = _pixels(at, row, column, -1, dx, first, height, width, pitch, x_channels, MARGIN, CACHE)
            here = _pixels(at, row, column, 0, dx, first, height, width, pitch, x_channels, MARGIN, CACHE)
            done = ()
            for r in tl.static_range(ROWS):
                below = _pixels(
                    at, row, column, r + 1, dx, first, height, width, pitch, x_channels, MARGIN, CACHE
                )  # fmt: skip
                total = _dot(above, up, totals[r])
                total = _dot(here, middle, total)
                total = _dot(below, down, total)
                done = done + (total,)  # noqa: RUF005
                above = here
                here = below
            totals = done
    return totals


@triton.jit
def _shifted(total, column, width, C_OUT: tl.constexpr, BLOCK_M: tl.constexpr):
    """The sums (M, C_OUT) of merged columns (M, 4 x C_OUT): left, middle and right tap, and nothing."""
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
    C_NOW: tl.constexpr, HAS_PARTIAL: tl.constexpr, ROWS: tl.constexpr, MERGE: tl.constexpr, MARGIN: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, CACHE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    _enter(EARLY)
    row, column, counts = _group(tl.program_id(0), height, pitch, ROWS, MERGE, BLOCK_M)
    N: tl.constexpr = 4 * C_OUT if MERGE else C_OUT
    c = tl.arange(0, N)
    w = weights + (c // C_OUT * C_IN + tl.arange(0, BLOCK_K)[:, None]) * C_OUT + (c % C_OUT)[None, :]
    w_mask = (c < 3 * C_OUT)[None, :] & (tl.arange(0, BLOCK_K) >= 0)[:, None]
    totals = _sums(
        x, w, w_mask, row, column, height, width, pitch, x_channels, C_OUT, C_IN, N, ROWS, MERGE, MARGIN, BLOCK_M,
        BLOCK_K, CACHE,
    )  # fmt: skip
    n = tl.arange(0, C_OUT)
    for r in tl.static_range(ROWS):
        total = _shifted(totals[r], column, width, C_OUT, BLOCK_M) if MERGE else totals[r]
        y = row + r
        inside = counts & (y < height) & (column < width)
        if HAS_PARTIAL:
            at = partial + ((y * partial_pitch + column) * partial_channels)[:, None] + n[None, :]
            total += tl.load(at, mask=inside[:, None], other=0.0).to(tl.float32)
        else:
            total += tl.load(bias + n)[None, :]
        at = out + ((y * out_pitch + column) * out_channels)[:, None] + n[None, :]
        now = inside[:, None] & (n < C_NOW)[None, :]
        tl.store(at, tl.maximum(total, 0.0).to(out.dtype.element_ty), mask=now)
        if C_NOW < C_OUT:
            at = scratch + ((y * scratch_pitch + column) * scratch_channels)[:, None] + (n - C_NOW)[None, :]
            later = inside[:, None] & (n >= C_NOW)[None, :]
            tl.store(at, total.to(scratch.dtype.element_ty), mask=later)


def conv3(
    x: Tensor,
    weights: Tensor,
    bias: Tensor,
    out: Tensor,
    *,
    partial: Tensor | None = None,
    scratch: Tensor | None = None,
    plan: Plan | None = None,
    early: bool = False,
) -> None:
    """``out = relu(conv(x) + bias)``, of channels-last FP16 views (H, W, C) whose channels may be part of a buffer.

    ``weights`` are (3, 3, C_in, C_out) FP16, ``bias`` (C_out,) FP32; channels are multiples of 16, C_out a power of
    two. ``partial`` (H, W, C_out) is added in place of the bias. Where ``out`` has fewer channels
    than the weights, the sums of the others go to ``scratch`` (H, W, the rest), without ReLU. ``x`` may be a
    plane, which is faster. ``early`` as in ``launch_options``.
    """
    height, width, c_in = x.shape
    c_out, c_now = weights.shape[-1], out.shape[-1]
    plan = plan or usual(kind_of(c_out))
    added = x if partial is None else partial
    rest = out if scratch is None else scratch
    launch(
        _conv_kernel, programs(height, pitch_of(x), plan),
        x, weights, bias, added, out, rest, height, width, pitch_of(x), x.stride(1), pitch_of(added), added.stride(1),
        pitch_of(out), out.stride(1), pitch_of(rest), rest.stride(1), C_IN=c_in, C_OUT=c_out, C_NOW=c_now,
        HAS_PARTIAL=partial is not None, ROWS=plan.rows, MERGE=plan.merge, MARGIN=has_margin(x),
        BLOCK_M=plan.block_m, BLOCK_K=step(c_in, plan.block_k), CACHE=plan.cache, EARLY=early and not INTERPRETED,
        **launch_options(plan.warps, plan.stages, early),
    )  # fmt: skip


def kind_of(c_out: int) -> str:
    """The kind of plan for a convolution to ``c_out`` channels at the same resolution."""
    return NARROW if c_out <= 16 else AHEAD if c_out <= 64 else WIDE


def programs(height: int, pitch: int, plan: Plan) -> int:
    """How many programs cover an image by ``plan``."""
    return int(triton.cdiv(triton.cdiv(height, plan.rows) * pitch, plan.block_m - 2 * plan.merge))


@triton.jit(do_not_specialize=SIZES)
def _first_kernel(
    lr, weights, bias, out, height, width, out_pitch, levels, C_OUT: tl.constexpr, BLOCK_M: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    _enter(EARLY)
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
    tl.store(at, tl.maximum(total, 0.0).to(tl.float16), mask=(row < height)[:, None])


def first_conv3(lr: Tensor, weights: Tensor, bias: Tensor, out: Tensor, *, early: bool = False) -> None:
    """``out = relu(conv(lr / levels) + bias)``: (H, W) integer levels to (H, W, C) FP16, all C of its buffer.

    ``lr`` is uint8 or uint16; ``weights`` are (3, 3, 1, C), ``bias`` (C,) FP32.
    """
    height, width = lr.shape
    block = 8192 if INTERPRETED else BLOCK
    launch(
        _first_kernel, triton.cdiv(height * width, block),
        lr, weights, bias, out, height, width, pitch_of(out), float(torch.iinfo(lr.dtype).max),
        C_OUT=weights.shape[-1], BLOCK_M=block, EARLY=early and not INTERPRETED, **launch_options(early=early),
    )  # fmt: skip


@triton.jit
def _bulk_sums(
    x, w, origin, n_first, pitch, C_IN: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr, K_FIRST: tl.constexpr,
):  # fmt: skip
    """As ``_sums`` for one row, by tensor descriptors: ``x`` of (pixels, C_in) of a plane, ``w`` of (9 C_in, N), or of
    its transpose where K_FIRST is false; ``origin`` is the program's first pixel."""
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for index in range(9 * (C_IN // BLOCK_K)):
        tap = index % 9
        first = index // 9 * BLOCK_K
        a = x.load([origin + (tap // 3 - 1) * pitch + tap % 3 - 1, first])
        if K_FIRST:
            b = w.load([tap * C_IN + first, n_first])
        else:
            b = w.load([n_first, tap * C_IN + first]).T
        total = _dot(a, b, total)
    return (total,)


@triton.jit
def _up_sums(
    x, weights, row, column, part, origin, height, width, pitch, x_channels, phase_stride, k_stride, n_stride,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, ROWS: tl.constexpr, MARGIN: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, CACHE: tl.constexpr, BULK: tl.constexpr,
):  # fmt: skip
    """The sums of columns ``part * BLOCK_N`` on, of all four phases' channels one after the other. BULK is 1 for
    weights with channels in rows, 2 for their transpose, 0 without the tensor copy engine."""
    if BULK > 0:
        totals = _bulk_sums(
            x, weights, origin, part * BLOCK_N, pitch, C_IN, BLOCK_M, BLOCK_N, BLOCK_K, BULK == 1
        )
    else:
        n = part * BLOCK_N + tl.arange(0, BLOCK_N)
        k = tl.arange(0, BLOCK_K)
        w = weights + (k * k_stride)[:, None] + (n // C_OUT * phase_stride + n % C_OUT * n_stride)[None, :]
        totals = _sums(
            x, w, n, row, column, height, width, pitch, x_channels, k_stride, C_IN, BLOCK_N, ROWS, False, MARGIN,
            BLOCK_M, BLOCK_K, CACHE,
        )  # fmt: skip
    return totals


@triton.jit(do_not_specialize=SIZES)
def _up_kernel(
    x, weights, bias, gain, out, out_pitch, out_channels, out_gain, height, width, pitch, x_channels, lead,
    phase_stride, k_stride, n_stride, C_IN: tl.constexpr, C_OUT: tl.constexpr, HAS_GAIN: tl.constexpr,
    ROWS: tl.constexpr, MARGIN: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    CACHE: tl.constexpr, BULK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    _enter(EARLY)
    PARTS: tl.constexpr = 4 * C_OUT // BLOCK_N
    program, part = tl.program_id(0) // PARTS, tl.program_id(0) % PARTS
    row, column, counts = _group(program, height, pitch, ROWS, False, BLOCK_M)
    totals = _up_sums(
        x, weights, row, column, part, lead + program * BLOCK_M, height, width, pitch, x_channels, phase_stride,
        k_stride, n_stride, C_IN, C_OUT, ROWS, MARGIN, BLOCK_M, BLOCK_N, BLOCK_K, CACHE, BULK,
    )  # fmt: skip
    n = part * BLOCK_N + tl.arange(0, BLOCK_N)
    phase = (n // C_OUT)[None, :]
    for r in tl.static_range(ROWS):
        total = totals[r]
        if HAS_GAIN:
            total *= tl.load(gain + n)[None, :]
        total = tl.maximum(total + tl.load(bias + n)[None, :], 0.0)
        if out.dtype.element_ty == tl.float8e4nv:
            total = tl.minimum(total * out_gain, 448.0)
        y = (2 * (row + r))[:, None] + phase // 2
        pixel = y * out_pitch + 2 * column[:, None] + phase % 2
        inside = counts & (row + r < height) & (column < width)
        tl.store(
            out + pixel * out_channels + (n % C_OUT)[None, :],
            total.to(out.dtype.element_ty),
            mask=inside[:, None],
        )


def up_conv3(
    x: Tensor,
    weights: Tensor,
    bias: Tensor,
    out: Tensor,
    *,
    gain: Tensor | None = None,
    out_gain: float = 1.0,
    plan: Plan | None = None,
    early: bool = False,
) -> None:
    """``out = pixel_shuffle(relu(conv(x) + bias), 2)``: (H, W, C_in) to (2H, 2W, C) FP16, each phase stored in place.

    ``weights`` are phase-major, (4, 3, 3, C_in, C), phase ``2i + j`` going to rows 2y + i, columns 2x + j; ``bias`` is
    (4, C) FP32. ``x`` and ``weights`` may both be FP8: then ``gain`` (4, C) FP32 undoes their scales. An FP8 ``out``
    gets ``out_gain`` times the result.
    """
    plan = plan or usual(UP)
    block_n = min(4 * weights.shape[-1], plan.block_n)
    more = (out, pitch_of(out), out.stride(1), out_gain)
    launch_up(_up_kernel, x, weights, bias, gain, more, plan, block_n, early)


def launch_up(
    kernel: Any, x: Tensor, weights: Tensor, bias: Tensor, gain: Tensor | None, more: tuple[Any, ...], plan: Plan,
    block_n: int, early: bool, **constants: int,
) -> None:  # fmt: skip
    """Start a ``kernel`` that begins as ``_up_kernel`` and takes ``more`` behind the gain, and ``constants``."""
    c_in, c_out = weights.shape[-2:]
    block_k = step(c_in, plan.block_k)
    bulk = 0 if not plan.bulk else 2 if weights.stride(3) == 1 else 1
    source = bulk_views(x, weights, plan.block_m, block_n, block_k) if bulk else (x, weights)
    launch(
        kernel, programs(x.shape[0], pitch_of(x), plan) * (4 * c_out // block_n),
        *source, bias, bias if gain is None else gain, *more, *x.shape[:2], pitch_of(x), x.stride(1),
        x.storage_offset() // x.stride(1), weights.stride(0), weights.stride(3), weights.stride(4), C_IN=c_in,
        C_OUT=c_out, HAS_GAIN=gain is not None, ROWS=plan.rows, MARGIN=has_margin(x), BLOCK_M=plan.block_m,
        BLOCK_N=block_n, BLOCK_K=block_k, CACHE=plan.cache, BULK=bulk, EARLY=early and not INTERPRETED,
        **constants, **launch_options(plan.warps, plan.stages, early),
    )  # fmt: skip


def bulk_views(x: Tensor, weights: Tensor, block_m: int, block_n: int, block_k: int) -> tuple[object, object]:
    """Tensor descriptors of a plane as (pixels, C) and of phase-major weights as (9 C_in, 4 C) or its transpose.

    Raises ValueError where they do not lie so: ``pack_phases`` makes weights that do.
    """
    from triton.tools.tensor_descriptor import TensorDescriptor

    if not has_margin(x) or x.shape[2] != x.stride(1):
        raise ValueError("the tensor copy engine reads planes only; use another plan")
    memory = x.as_strided((x.untyped_storage().nbytes() // x.element_size(),), (1,), 0)
    pixels = memory.view(-1, x.stride(1))
    _, _, _, c_in, c_out = weights.shape
    rows, columns = 9 * c_in, 4 * c_out
    if weights.stride()[::3] == (c_out, columns) and weights.stride(4) == 1:
        flat, block = weights.as_strided((rows, columns), (columns, 1)), [block_k, block_n]
    elif weights.stride(3) == 1 and weights.stride(4) == rows:
        flat, block = weights.as_strided((columns, rows), (rows, 1)), [block_n, block_k]
    else:
        raise ValueError("weights of these strides cannot be read by the tensor copy engine; pack them first")
    source = TensorDescriptor.from_tensor(pixels, [block_m, block_k])
    return source, TensorDescriptor.from_tensor(flat, block)


@triton.jit(do_not_specialize=SIZES)
def _hand_over_kernel(
    x, low, out, gain, height, width, pitch, x_channels, low_channels, out_channels, C: tl.constexpr,
    HAS_LOW: tl.constexpr, BLOCK_M: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    _enter(EARLY)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    row, column = m // width, m % width
    pixel, c = (row * pitch + column)[:, None], tl.arange(0, C)[None, :]
    inside = (row < height)[:, None] & (c >= 0)
    value = tl.load(x + pixel * x_channels + c, mask=inside, other=0.0).to(tl.float32)
    if HAS_LOW:
        value += tl.load(low + pixel * low_channels + c, mask=inside, other=0.0).to(tl.float32)
    value *= gain
    if out.dtype.element_ty == tl.float8e4nv:
        value = tl.minimum(value, 448.0)
    tl.store(out + pixel * out_channels + c, value.to(out.dtype.element_ty), mask=inside)


def hand_over(x: Tensor, low: Tensor | None, out: Tensor, gain: float, *, early: bool = False) -> None:
    """``out = gain * (x + low)``, of planes (H, W, C), without ``low`` where it is None; C a power of two.

    ``x`` and ``low`` are FP16 and not negative, ``out`` is FP16 or FP8, and may be ``x``.
    """
    height, width, channels = x.shape
    block = 8192 if INTERPRETED else 32
    launch(
        _hand_over_kernel, triton.cdiv(height * width, block),
        x, x if low is None else low, out, gain, height, width, pitch_of(x), x.stride(1),
        (x if low is None else low).stride(1), out.stride(1), C=channels, HAS_LOW=low is not None, BLOCK_M=block,
        EARLY=early and not INTERPRETED, **launch_options(early=early),
    )  # fmt: skip
