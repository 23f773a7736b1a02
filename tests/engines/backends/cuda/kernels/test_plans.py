"""Every way to run a convolution gives the same sums, and the table of plans."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from kernel_references import NAN, by_torch, half, on_plane, packed, poisoned, weights_of, worst
from torch import nn

from clesr.engines.backends.cuda import kernels
from clesr.engines.backends.cuda.kernels import conv, pack, tail, up
from clesr.engines.backends.cuda.kernels.plan import (
    AHEAD,
    BULK,
    DIRECT,
    MERGED,
    NARROW,
    PROJECT,
    UP,
    WIDE,
    Plan,
    alternatives,
    programs,
    usual,
)
from clesr.engines.backends.cuda.kernels.planes import check_plane, plane

ODD = (33, 47)
SAME = [
    Plan(DIRECT, 512, 16, 16, 4, 3),
    Plan(DIRECT, 256, 16, 32, 4, 3),
    Plan(MERGED, 256, 16, 16, 4, 3, rows=2),
    Plan(MERGED, 256, 16, 32, 4, 3, rows=4),
]
DOUBLINGS = [
    Plan(DIRECT, 512, 32, 32, 4, 3),
    Plan(DIRECT, 512, 128, 16, 4, 3),
    Plan(BULK, 256, 64, 32, 4, 3),
    Plan(BULK, 128, 128, 16, 4, 3),
]
CARDS = [(8, 0), (8, 9), (9, 0), (10, 0), (12, 0)]


def test_a_plane_has_zeros_around(device: str) -> None:
    x = plane(3, 5, 16, device).fill_(1)
    check_plane(x)
    check_plane(x[..., :8])
    memory = x.as_strided((x.untyped_storage().nbytes() // 2,), (1,), 0)
    assert memory.sum() == 3 * 5 * 16
    around = x.as_strided((5, 7, 16), (6 * 16, 16, 1), 0)
    assert around[1:4, 1:6].min() == 1
    assert around.sum() == 3 * 5 * 16
    with pytest.raises(ValueError, match="32-bit indices"):
        plane(1 << 15, 1 << 15, 16, "meta")


def test_what_is_no_plane_is_refused(device: str) -> None:
    x = half(*ODD, 32, device=device)
    weights, bias = weights_of(32, 16, device)
    with pytest.raises(ValueError, match="planes only"):
        conv.conv3(x, packed(weights), bias, poisoned(*ODD, 16, device))
    with pytest.raises(ValueError, match="planes only"):
        up.up_conv3(x, packed(weights), bias, poisoned(66, 94, 4, device))


@pytest.mark.parametrize("plan", SAME, ids=str)
def test_conv3_by_every_plan(plan: Plan, device: str) -> None:
    x = half(*ODD, 32, device=device)
    weights, bias = weights_of(32, 16, device)
    out = poisoned(*ODD, 48, device)
    conv.conv3(on_plane(x), packed(weights), bias, out[..., 16:32], plan=plan)
    assert worst(out[..., 16:32], by_torch(x, weights, bias).relu()) < 1e-3
    assert out[..., :16].isnan().all()
    assert out[..., 32:].isnan().all()


@pytest.mark.parametrize("plan", SAME[::2], ids=str)
def test_conv3_looks_ahead_by_every_form(plan: Plan, device: str) -> None:
    x = on_plane(half(*ODD, 16, device=device))
    weights, bias = weights_of(16, 64, device)
    out, scratch = poisoned(*ODD, 16, device), poisoned(*ODD, 48, device)
    conv.conv3(x, packed(weights), bias, out, scratch=scratch, plan=plan)
    sums = by_torch(x, weights, bias)
    assert worst(out, sums[..., :16].relu()) < 1e-3
    assert worst(scratch, sums[..., 16:]) < 1e-3

    taken = poisoned(*ODD, 16, device)
    more, none = weights_of(16, 16, device)[0], torch.zeros(16, device=device)
    conv.conv3(out, packed(more), none, taken, partial=scratch[..., 16:32], plan=plan)
    assert worst(taken, (by_torch(out, more, None) + scratch[..., 16:32]).relu()) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("plan", DOUBLINGS, ids=str)
def test_doublings_by_every_plan(plan: Plan, device: str) -> None:
    x = on_plane(half(*ODD, 32, device=device))
    weights, bias = weights_of(32, 4 * 32, device)
    shuffled = nn.Conv2d(32, 4 * 32, 3)
    shuffled.weight.data, shuffled.bias.data = weights.float(), bias  # type: ignore[union-attr]
    phases = pack.phases(shuffled, device)
    sums = by_torch(x, weights, bias).relu().permute(2, 0, 1)[None]
    wide = F.pixel_shuffle(sums, 2)[0].permute(1, 2, 0)

    out = poisoned(2 * ODD[0], 2 * ODD[1], 32, device)
    up.up_conv3(x, *phases, out, plan=plan)
    assert worst(out, wide) < 1e-3

    last, _ = weights_of(32, 1, device)
    taps = torch.zeros(32, tail.TAPS, dtype=torch.float16, device=device)
    taps[:, :9] = last[0].flatten(1)
    projected = torch.full((*ODD, 4, 9), NAN, dtype=torch.float16, device=device)
    tail.project(x, *phases, taps, projected, plan=plan)
    by_phase = wide.reshape(ODD[0], 2, ODD[1], 2, 32).permute(0, 2, 1, 3, 4).reshape(*ODD, 4, 32)
    assert worst(projected, by_phase @ taps[:, :9].double()) < 2e-3


@pytest.mark.parametrize("capability", CARDS)
@pytest.mark.parametrize("kind", [NARROW, AHEAD, WIDE, UP, PROJECT])
def test_a_kind_has_at_most_two_plans(kind: str, capability: tuple[int, int]) -> None:
    plans = alternatives(kind, capability)
    assert 1 <= len(set(plans)) == len(plans) <= 2
    for plan in plans:
        assert plan.form == (MERGED if plan.rows > 1 else plan.form)
        assert plan.rows in ((2, 4) if plan.form == MERGED else (1,))
        assert (plan.form == MERGED) == (kind == NARROW)
        assert plan.form != BULK or (kind in (UP, PROJECT) and capability[0] in (9, 10))
    assert usual(kind).form != BULK, "what runs everywhere needs no copy engine"


def test_narrow_programs_fill_whole_waves_of_an_h200() -> None:
    """132 multiprocessors at 256 x 256 pixels, a program each at a time (180 KiB of shared memory)."""
    waves = [programs(256, 257, plan) / 132 for plan in alternatives(NARROW, (9, 0))]
    assert all(0.95 < wave / -(-wave // 1) <= 1 for wave in waves), waves


def test_a_step_divides_the_channels() -> None:
    plan = Plan(DIRECT, 128, 16, 64, 4, 3)
    assert [plan.step(channels) for channels in (16, 48, 64, 96, 128)] == [16, 16, 64, 32, 64]


def test_the_kernels_stay_small() -> None:
    files = sorted(Path(kernels.__file__).parent.glob("*.py"))
    lines = {file.name: len(file.read_text().splitlines()) for file in files}
    assert len(lines) > 5
    assert sum(lines.values()) < 1000, lines
    assert max(lines.values()) < 250, lines
