"""All dense blocks in one launch: every program keeps its part of the image and waits for its neighbours only.

A block in one kernel with a tile and its halo in shared memory would compute 42 % more and fill the shared memory, and
Triton has no shared memory to index; through global memory the halo alone would cost more than launches do. So
programs stay, layer after layer, and a flag a tile says how many layers are done there: a tile's next layer starts as
soon as the tiles around it have come as far. This takes away 95 of 96 launches and the waves' ragged ends. All
programs must be on the card at once, which a cooperative launch ensures.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from clesr.engines.backends.cuda.kernels.conv import _group, _shifted, _sums, programs
from clesr.engines.backends.cuda.kernels.plan import INTERPRETED, Plan, launch, launch_options, step
from clesr.engines.backends.cuda.kernels.planes import pitch_of

LAYERS = 8
POLLS = 1 << 20  # of a program's flags in one launch at most: about a second; a frame takes a millisecond
REGISTERS = 1 << 16  # of a multiprocessor
LEAST_NEAR = 16  # tiles a program waits for: fewer would only mean another kernel for narrow images


@triton.jit
def _wait(flags, tile, tiles, layer, polls, NEAR: tl.constexpr):
    """Until ``layer`` layers are done on the tiles around ``tile``; how many of ``polls`` are left then.

    What the others wrote before they raised their flags is seen by this program's threads afterwards: each flag is
    read once more, with acquire order, and then the threads meet.
    """
    near = tile - NEAR // 2 + tl.arange(0, NEAR)
    known = (near >= 0) & (near < tiles)
    done = tl.min(tl.load(flags + near, mask=known, other=1 << 30, volatile=True), 0)
    while (done < layer) & (polls > 0):
        done = tl.min(tl.load(flags + near, mask=known, other=1 << 30, volatile=True), 0)
        polls -= 1
    tl.atomic_add(flags + near, 0, mask=known, sem="acquire", scope="gpu")
    tl.debug_barrier()
    return polls


@triton.jit
def _layer(
    x, weights, bias, scratch, out, flags, layer, adds, polls, height, width, pitch, tiles, c_in, C_OUT: tl.constexpr,
    C_NOW: tl.constexpr, ADDS: tl.constexpr, MERGE: tl.constexpr, ROWS: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr, CACHE: tl.constexpr, CHANNELS: tl.constexpr, NEAR: tl.constexpr,
):  # fmt: skip
    """One layer on this program's tiles; with ADDS, and where ``adds`` is 1, on what waits in ``scratch``. Tiles lie as
    for merged taps, whatever MERGE is. How many of ``polls`` are left."""
    N: tl.constexpr = 4 * C_OUT if MERGE else C_OUT
    c = tl.arange(0, N)
    k = tl.arange(0, BLOCK_K)
    n = tl.arange(0, C_OUT)
    w = weights + (c // C_OUT * c_in + k[:, None]) * C_OUT + (c % C_OUT)[None, :]
    w_mask = (c < 3 * C_OUT)[None, :] & (k >= 0)[:, None]
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        if layer > 0:
            polls = _wait(flags, tile, tiles, layer, polls, NEAR)
        row, column, counts = _group(tile, height, pitch, ROWS, True, BLOCK_M)
        totals = _sums(
            x, w, w_mask, row, column, height, width, pitch, CHANNELS, C_OUT, c_in, N, ROWS, MERGE, True, BLOCK_M,
            BLOCK_K, CACHE,
        )  # fmt: skip
        for r in tl.static_range(ROWS):
            total = _shifted(totals[r], column, width, C_OUT, BLOCK_M) if MERGE else totals[r]
            total += tl.load(bias + n)[None, :]
            y = row + r
            inside = counts & (y < height) & (column < width)
            waiting = scratch + ((y * width + column) * 48)[:, None] + n[None, :]
            if ADDS:
                taken = inside & (y < height * adds)
                total += tl.load(waiting, mask=taken[:, None], other=0.0).to(tl.float32)
            at = out + ((y * pitch + column) * CHANNELS)[:, None] + n[None, :]
            tl.store(at, tl.maximum(total, 0.0).to(tl.float16), mask=inside[:, None] & (n < C_NOW)[None, :])
            if C_NOW < C_OUT:
                tl.store(waiting - C_NOW, total.to(tl.float16), mask=inside[:, None] & (n >= C_NOW)[None, :])
        tl.debug_barrier()
        tl.atomic_xchg(flags + tile, layer + 1, sem="release", scope="gpu")
    return polls


@triton.jit(do_not_specialize=["first", "end", "height", "width", "pitch", "tiles"])
def _trunk_kernel(
    planes, scratch, weights, bias, flags, first, end, height, width, pitch, plane_stride, block_stride, tiles,
    ROWS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, CACHE: tl.constexpr, CHANNELS: tl.constexpr,
    NEAR: tl.constexpr, POLLS: tl.constexpr,
):  # fmt: skip
    """Layers ``first`` to ``end``. Three kinds: a block's first, its fifth with what it looks ahead, and the others,
    which read 16, 32 or 48 channels; so the compiler sees three and not eight."""
    polls = POLLS
    for layer in range(first, end):
        block = layer // 8
        source = tl.where(block == 0, 2, (block + 1) % 2)
        x = planes + source * plane_stride
        out = planes + block % 2 * plane_stride
        w = weights + block * block_stride
        b = bias + layer * 64
        i = layer % 8
        if i == 0:
            polls = _layer(x, w, b, scratch, out, flags, layer, 0, polls, height, width, pitch, tiles, 128, 16,
                           16, False, True, ROWS, BLOCK_M, BLOCK_K, CACHE, CHANNELS, NEAR)  # fmt: skip
        elif i == 4:
            polls = _layer(out, w + 32256, b, scratch, out + 64, flags, layer, 0, polls, height, width, pitch,
                           tiles, 64, 64, 16, False, False, ROWS, BLOCK_M, BLOCK_K, CACHE, CHANNELS,
                           NEAR)  # fmt: skip
        else:
            after = i // 4  # 1 for the layers that add to what was looked ahead
            nth = i % 4  # reads 16 * nth channels; 2304 weights for each 16
            start = 18432 + after * 50688 + nth * (nth - 1) // 2 * 2304
            polls = _layer(out + after * 64, w + start, b, scratch + after * (i - 5) * 16, out + i * 16, flags, layer,
                           after, polls, height, width, pitch, tiles, nth * 16, 16, 16, True, True, ROWS, BLOCK_M, 16,
                           CACHE, CHANNELS, NEAR)  # fmt: skip


def pack_trunk(layers: Sequence[Sequence[Tensor]]) -> Tensor:
    """Weights (blocks, all) FP16 of blocks of eight (3, 3, C_in, C_out), one after the other."""
    return torch.stack([torch.cat([weights.flatten() for weights in block]) for block in layers])


def near_tiles(pitch: int, plan: Plan) -> int:
    """How many tiles around one, a power of two, hold all that its next layer reads."""
    reach = triton.cdiv(pitch + 2, plan.block_m - 2) + 1
    return max(LEAST_NEAR, int(triton.next_power_of_2(2 * reach + 1)))


def dense_blocks(
    planes: Tensor,
    scratch: Tensor,
    weights: Tensor,
    bias: Tensor,
    flags: Tensor,
    plan: Plan,
    multiprocessors: int,
) -> None:
    """All dense blocks: from ``planes[2]`` to ``planes[1]`` for an even number of blocks, else ``planes[0]``.

    ``planes`` (3, H, W, 128) FP16 are three planes, ``scratch`` (H, W, 48) FP16, ``weights`` by
    ``pack_trunk``, ``bias`` (blocks, 8, 64) FP32, ``flags`` int32, one for each program that ``plan`` makes;
    ``plan`` is merged.
    """
    _, height, width, channels = planes.shape
    pitch = pitch_of(planes[0])
    tiles = programs(height, pitch, plan)
    layers = LAYERS * weights.shape[0]
    flags.zero_()
    # One program after the other, as in the interpreter, cannot wait for a neighbour: a launch a layer.
    runs = [(i, i + 1) for i in range(layers)] if INTERPRETED else [(0, layers)]
    options = launch_options(plan.warps, plan.stages)
    if options:
        options["launch_cooperative_grid"] = True
        if plan.share > 1:  # or they would not be there at once
            options["maxnreg"] = REGISTERS // (plan.share * plan.warps * 32)
    for first, end in runs:
        launch(
            _trunk_kernel, min(tiles, plan.share * multiprocessors),
            planes, scratch, weights, bias, flags, first, end, height, width, pitch, planes.stride(0),
            weights.stride(0), tiles, ROWS=plan.rows, BLOCK_M=plan.block_m, BLOCK_K=step(channels, plan.block_k),
            CACHE=plan.cache, CHANNELS=channels, NEAR=near_tiles(pitch, plan), POLLS=POLLS, **options,
        )  # fmt: skip


@functools.cache
def multiprocessors(device: torch.device | str) -> int:
    """How many programs of one a multiprocessor fit on ``device`` at once; in the interpreter any number."""
    if torch.device(device).type != "cuda":
        return 1 << 16
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
