"""All dense blocks in one launch, against float64, and the flags that order the programs."""

from __future__ import annotations

import pytest
import torch
from kernel_references import NAN, half
from torch import Tensor, nn

from clesr.engines.backends.cuda.kernels import trunk
from clesr.engines.backends.cuda.kernels.conv import programs
from clesr.engines.backends.cuda.kernels.densenet import _look_ahead, pack_biases
from clesr.engines.backends.cuda.kernels.plan import Plan
from clesr.engines.backends.cuda.kernels.planes import planes
from clesr.engines.models.densenet import DenseBlock

PLANS = [
    Plan(rows=2, merge=True, block_m=128, block_k=32),
    pytest.param(Plan(rows=4, merge=True, block_m=64, block_k=32), marks=pytest.mark.slow),
]


def half_of(conv: nn.Conv2d, device: str) -> Tensor:
    return conv.weight.detach().permute(2, 3, 1, 0).to(device).half()


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("blocks", [1, 2])
def test_dense_blocks(plan: Plan, blocks: int, device: str) -> None:
    shape = (9, 37)
    modules = [DenseBlock(128, 8, 16) for _ in range(blocks)]
    layers = [[half_of(conv, device) for conv in _look_ahead(module)] for module in modules]
    named = {f"blocks.{i}.{name}": p for i, m in enumerate(modules) for name, p in m.named_parameters()}
    biases = pack_biases({**named, "low.0.bias": torch.zeros(5), "low.1.bias": torch.zeros(7)})[12:]
    buffers = planes(3, *shape, 128, torch.float16, device)
    buffers[:2] = NAN
    buffers[2] = half(*shape, 128, device=device)
    scratch = torch.full((*shape, 48), NAN, dtype=torch.float16, device=device)
    flags = torch.full((64,), -7, dtype=torch.int32, device=device)
    tiles = programs(shape[0], shape[1] + 1, plan)
    biases = biases.reshape(blocks, 8, 64).to(device)
    trunk.dense_blocks(buffers, scratch, trunk.pack_trunk(layers), biases, flags, plan, 5)

    expected = buffers[2].double().permute(2, 0, 1)[None].cpu()
    with torch.inference_mode():
        for module in modules:
            expected = module.double()(expected)
    found = buffers[(blocks + 1) % 2].double().permute(2, 0, 1)[None].cpu()
    assert (found - expected).abs().max() < 4e-3 * expected.abs().max()
    assert sorted(set(flags.tolist())) == [0, 8 * blocks]
    assert (flags != 0).sum() == tiles


@pytest.mark.parametrize("pitch", [6, 48, 257, 1025])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_the_tiles_that_are_waited_for_hold_all_that_is_read(pitch: int, rows: int) -> None:
    plan = Plan(rows=rows, merge=True, block_m=64)
    size, near = plan.block_m - 2, trunk.near_tiles(pitch, plan)
    tile = 100
    first, last = tile * size - 1, (tile + 1) * size  # with the halo of its own columns
    read = range(first - pitch, last + pitch + 1)
    owners = {index // size for index in (read[0], read[-1])}
    assert owners <= set(range(tile - near // 2, tile - near // 2 + near))
