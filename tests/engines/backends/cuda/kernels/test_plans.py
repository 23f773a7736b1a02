"""Every way to run a convolution gives the same sums: on planes with their margin and on plain tensors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from kernel_references import NAN, by_torch, half, packed, weights_of, worst
from torch import Tensor

from clesr.engines.backends.cuda.kernels import conv, tail
from clesr.engines.backends.cuda.kernels.densenet import pack_phases
from clesr.engines.backends.cuda.kernels.plan import _SAFE, Plan, step, usual, worth_measuring
from clesr.engines.backends.cuda.kernels.planes import has_margin, plane

ODD = (33, 47)
SAME = [
    Plan(block_m=512, block_k=16),
    Plan(block_m=256, block_k=32, cache=".ca"),
    Plan(rows=2, block_m=256, block_k=32),
    Plan(rows=4, block_m=256, block_k=32),
    Plan(rows=1, merge=True, block_m=512, block_k=32),
    Plan(rows=2, merge=True, block_m=256, block_k=16),
    Plan(rows=4, merge=True, block_m=256, block_k=32),
]
UP = [
    Plan(block_m=512, block_n=32, block_k=32),
    Plan(block_m=512, block_n=128, block_k=16),
    Plan(rows=2, block_m=256, block_n=64, block_k=32),
    Plan(rows=4, block_m=256, block_n=32, block_k=32),
    Plan(block_m=512, block_n=64, block_k=32, bulk=True),
]


def on_plane(values: Tensor) -> Tensor:
    out = plane(*values.shape, values.dtype, values.device)  # type: ignore[call-arg]
    out.copy_(values)
    return out


def poisoned(height: int, width: int, channels: int, device: str, margin: bool) -> Tensor:
    size = (height, width, channels)
    if not margin:
        return torch.full(size, NAN, dtype=torch.float16, device=device)
    return plane(*size, torch.float16, device).fill_(NAN)


def test_a_plane_has_zeros_around(device: str) -> None:
    x = plane(3, 5, 16, torch.float16, device).fill_(1)
    assert has_margin(x)
    assert has_margin(x[..., :16])
    assert not has_margin(half(3, 5, 16, device=device))
    memory = x.as_strided((x.untyped_storage().nbytes() // 2,), (1,), 0)
    assert memory.sum() == 3 * 5 * 16
    around = x.as_strided((5, 7, 16), (6 * 16, 16, 1), 0)
    assert around[1:4, 1:6].min() == 1
    assert around.sum() == 3 * 5 * 16
    with pytest.raises(ValueError, match="32-bit indices"):
        plane(1 << 15, 1 << 15, 16, torch.float16, "meta")


@pytest.mark.parametrize("margin", [True, False])
@pytest.mark.parametrize("plan", SAME, ids=str)
def test_conv3_by_every_plan(plan: Plan, margin: bool, device: str) -> None:
    x = half(*ODD, 32, device=device)
    weights, bias = weights_of(32, 16, device)
    out = poisoned(*ODD, 48, device, margin)
    conv.conv3(on_plane(x) if margin else x, packed(weights), bias, out[..., 16:32], plan=plan)
    assert worst(out[..., 16:32], by_torch(x, weights, bias).relu()) < 1e-3
    assert out[..., :16].isnan().all()
    assert out[..., 32:].isnan().all()


@pytest.mark.parametrize("plan", SAME[::3], ids=str)
def test_conv3_looks_ahead_by_every_form(plan: Plan, device: str) -> None:
    x = on_plane(half(*ODD, 16, device=device))
    weights, bias = weights_of(16, 64, device)
    out = poisoned(*ODD, 16, device, True)
    scratch = torch.full((*ODD, 48), NAN, dtype=torch.float16, device=device)
    conv.conv3(x, packed(weights), bias, out, scratch=scratch, plan=plan)
    sums = by_torch(x, weights, bias)
    assert worst(out, sums[..., :16].relu()) < 1e-3
    assert worst(scratch, sums[..., 16:]) < 1e-3

    taken = poisoned(*ODD, 16, device, True)
    more, none = weights_of(16, 16, device)[0], torch.zeros(16, device=device)
    conv.conv3(out, packed(more), none, taken, partial=scratch[..., 16:32], plan=plan)
    assert worst(taken, (by_torch(out, more, None) + scratch[..., 16:32]).relu()) < 1e-3


@pytest.mark.parametrize("plan", UP, ids=str)
def test_doublings_by_every_plan(plan: Plan, device: str) -> None:
    x = on_plane(half(*ODD, 32, device=device))
    weights, bias = weights_of(32, 4 * 32, device)
    phases, offsets = pack_phases(weights), bias.reshape(-1, 4).T.contiguous()
    sums = by_torch(x, weights, bias).relu().permute(2, 0, 1)[None]
    wide = F.pixel_shuffle(sums, 2)[0].permute(1, 2, 0)

    out = poisoned(2 * ODD[0], 2 * ODD[1], 32, device, True)
    conv.up_conv3(x, phases, offsets, out, plan=plan)
    assert worst(out, wide) < 1e-3

    last, _ = weights_of(32, 1, device)
    taps = torch.zeros(32, tail.TAPS, dtype=torch.float16, device=device)
    taps[:, :9] = last[0].flatten(1)
    projected = torch.full((*ODD, 4, 9), NAN, dtype=torch.float16, device=device)
    tail.project(x, phases, offsets, taps, projected, plan=plan)
    by_phase = wide.reshape(ODD[0], 2, ODD[1], 2, 32).permute(0, 2, 1, 3, 4).reshape(*ODD, 4, 32)
    assert worst(projected, by_phase @ taps[:, :9].double()) < 2e-3


def test_bulk_copies_refuse_what_they_cannot_read(device: str) -> None:
    weights = pack_phases(weights_of(32, 4 * 32, device)[0])
    x = half(*ODD, 32, device=device)
    with pytest.raises(ValueError, match="reads planes only"):
        conv.bulk_views(x, weights, 64, 64, 32)
    with pytest.raises(ValueError, match="pack them first"):
        conv.bulk_views(on_plane(x), weights.contiguous(), 64, 64, 32)


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 9), (9, 0), (12, 0)])
@pytest.mark.parametrize("kind", _SAFE)
def test_plans_worth_measuring(kind: str, capability: tuple[int, int], precision: str) -> None:
    plans = worth_measuring(kind, capability, precision)
    assert len(set(plans)) == len(plans)
    assert plans[-1] == usual(kind)
    assert capability >= (9, 0) or not any(plan.bulk for plan in plans)
    assert all(plan.rows <= 4 and plan.block_m >= 64 for plan in plans)


def test_a_step_divides_the_channels() -> None:
    assert [step(channels, 64) for channels in (16, 48, 64, 96, 128)] == [16, 16, 64, 32, 64]
