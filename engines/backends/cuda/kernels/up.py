"""Doublings: a 3x3 convolution to four phases, each stored in place, so that no shuffle of pixels follows."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from clesr.engines.backends.cuda.kernels.conv import SIZES, direct_sums, enter, group, relu
from clesr.engines.backends.cuda.kernels.plan import BULK, UP, Plan, launch, programs, usual
from clesr.engines.backends.cuda.kernels.planes import check_plane, pitch_of


@triton.jit
def up_sums(
    x, weights, row, column, part, origin, pitch, x_channels, C_IN: tl.constexpr, C_OUT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BY_COPIES: tl.constexpr,
):  # fmt: skip
    """The sums (M, N) FP32 of columns ``part * BLOCK_N`` on, of all four phases' channels one after the other. With
    BY_COPIES ``x`` and ``weights`` are tensor descriptors, and ``origin`` is the program's first pixel."""
    if BY_COPIES:
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for index in range(9 * (C_IN // BLOCK_K)):
            tap = index % 9
            first = index // 9 * BLOCK_K
            a = x.load([origin + (tap // 3 - 1) * pitch + tap % 3 - 1, first])
            total = tl.dot(a, weights.load([tap * C_IN + first, part * BLOCK_N]), total)
    else:
        n = part * BLOCK_N + tl.arange(0, BLOCK_N)
        w = weights + (tl.arange(0, BLOCK_K) * 4 * C_OUT)[:, None] + n[None, :]
        total = direct_sums(
            x, w, row * pitch + column, pitch, x_channels, C_IN, 4 * C_OUT, BLOCK_M, BLOCK_N, BLOCK_K
        )
    return total


@triton.jit(do_not_specialize=SIZES)
def _up_kernel(
    x, weights, bias, out, out_pitch, out_channels, height, width, pitch, x_channels, lead, C_IN: tl.constexpr,
    C_OUT: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    BY_COPIES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    enter(EARLY)
    PARTS: tl.constexpr = 4 * C_OUT // BLOCK_N
    program, part = tl.program_id(0) // PARTS, tl.program_id(0) % PARTS
    row, column, counts = group(program, height, pitch, 1, BLOCK_M)
    total = up_sums(
        x, weights, row, column, part, lead + program * BLOCK_M, pitch, x_channels, C_IN, C_OUT, BLOCK_M, BLOCK_N,
        BLOCK_K, BY_COPIES,
    )  # fmt: skip
    n = part * BLOCK_N + tl.arange(0, BLOCK_N)
    phase = (n // C_OUT)[None, :]
    total = relu(total + tl.load(bias + n)[None, :])
    pixel = (2 * row[:, None] + phase // 2) * out_pitch + 2 * column[:, None] + phase % 2
    inside = counts & (row < height) & (column < width)
    at = out + pixel * out_channels + (n % C_OUT)[None, :]
    tl.store(at, total.to(tl.float16), mask=inside[:, None])


def up_conv3(
    x: Tensor, weights: Tensor, bias: Tensor, out: Tensor, *, plan: Plan | None = None, early: bool = False
) -> None:
    """``out = pixel_shuffle(relu(conv(x) + bias), 2)``: a plane (H, W, C_in) to (2H, 2W, C), both FP16.

    ``weights`` are (3, 3, C_in, 4C) FP16, ``bias`` (4C,) FP32, both by ``pack.phases``: phase ``2i + j`` goes to rows
    2y + i, columns 2x + j.
    """
    plan = plan or usual(UP)
    launch_up(_up_kernel, x, weights, bias, (out, pitch_of(out), out.stride(1)), plan, early)


def launch_up(
    kernel: Any, x: Tensor, weights: Tensor, bias: Tensor, more: tuple[Any, ...], plan: Plan, early: bool,
    **constants: int,
) -> None:  # fmt: skip
    """Start a ``kernel`` that begins as ``_up_kernel`` and takes ``more`` behind the bias, and ``constants``."""
    check_plane(x)
    c_in, columns = weights.shape[-2:]
    block_n, block_k = min(columns, max(plan.block_n, columns // 4)), plan.step(c_in)
    by_copies = plan.form == BULK
    source = _descriptors(x, weights, plan.block_m, block_n, block_k) if by_copies else (x, weights)
    launch(
        kernel, programs(x.shape[0], pitch_of(x), plan) * (columns // block_n),
        *source, bias, *more, *x.shape[:2], pitch_of(x), x.stride(1), x.storage_offset() // x.stride(1), C_IN=c_in,
        C_OUT=columns // 4, BLOCK_M=plan.block_m, BLOCK_N=block_n, BLOCK_K=block_k, BY_COPIES=by_copies,
        plan=plan, early=early, **constants,
    )  # fmt: skip


def _descriptors(x: Tensor, weights: Tensor, block_m: int, block_n: int, block_k: int) -> tuple[object, ...]:
    """Tensor descriptors of a plane's memory as (pixels, C), and of the weights as (9 C_in, 4C)."""
    memory = x.as_strided((x.untyped_storage().nbytes() // x.element_size(),), (1,), 0)
    source = TensorDescriptor.from_tensor(memory.view(-1, x.stride(1)), [block_m, block_k])
    return source, TensorDescriptor.from_tensor(weights.flatten(0, 2), [block_k, block_n])
