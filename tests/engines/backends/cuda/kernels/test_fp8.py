"""FP8: the kernels against the same numbers in float64, and what it costs in quality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_references import NAN, by_torch, half, weights_of, worst
from PIL import Image

from clesr.engines.backends.cuda import engine as cuda_engine
from clesr.engines.backends.cuda.kernels import conv, quality, tail
from clesr.engines.backends.cuda.kernels.conv import FP8
from clesr.engines.backends.cuda.kernels.densenet import UnsupportedNetworkError
from clesr.engines.backends.cuda.kernels.fp8 import activation_gains, calibration_pairs, pack_phases_fp8
from clesr.engines.backends.cuda.kernels.plan import Plan
from clesr.engines.backends.cuda.kernels.planes import plane
from clesr.engines.common.errors import EngineError
from clesr.engines.models.densenet import DenseNet
from clesr.engines.models.registry import build_model
from clesr.engines.models.weights import find_model

SHAPE = (9, 18)
PLANS = [Plan(block_m=256, block_n=64, block_k=32), Plan(block_m=256, block_n=32, block_k=32, bulk=True)]


def test_weights_are_scaled_by_output_channel() -> None:
    weights = torch.randn(8, 16, 3, 3) * torch.logspace(-3, 3, 8)[:, None, None, None]
    packed, scales = pack_phases_fp8(weights)
    assert (packed.shape, packed.dtype, scales.shape) == ((4, 3, 3, 16, 2), FP8, (4, 2))
    undone = (packed.float() * scales[:, None, None, None, :]).permute(4, 0, 3, 1, 2).reshape(8, 16, 3, 3)
    largest = weights.abs().amax((1, 2, 3), keepdim=True)
    assert ((undone - weights).abs() / largest).max() < 1 / 16
    assert packed.float().abs().amax((1, 2, 3)).eq(448).all()


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_doublings_in_fp8(plan: Plan, device: str) -> None:
    x = plane(*SHAPE, 32, FP8, device)
    x.copy_((half(*SHAPE, 32, device=device) * 300).to(FP8))
    weights, bias = weights_of(32, 4 * 32, device)
    packed, scales = pack_phases_fp8(weights)
    offsets, gain = bias.reshape(-1, 4).T.contiguous(), scales / 300

    seen = (packed.float() * scales[:, None, None, None, :]).permute(4, 0, 3, 1, 2).reshape(128, 32, 3, 3)
    sums = by_torch(x.float() / 300, seen, bias).relu().permute(2, 0, 1)[None]
    wide = F.pixel_shuffle(sums, 2)[0].permute(1, 2, 0)
    out = plane(2 * SHAPE[0], 2 * SHAPE[1], 32, torch.float16, device).fill_(NAN)
    conv.up_conv3(x, packed, offsets, out, gain=gain, plan=plan)
    on_card = device == "cuda"  # Hopper's FP8 products are summed with 14 bits
    assert worst(out, wide) < (3e-3 if on_card else 1e-3)

    small = plane(2 * SHAPE[0], 2 * SHAPE[1], 32, FP8, device)
    conv.up_conv3(x, packed, offsets, small, gain=gain, out_gain=200.0, plan=plan)
    expected = (wide * 200).clamp(max=448)
    assert ((small.double() - expected).abs() <= expected / (14 if on_card else 15) + 2**-9).all()
    assert small.double().max() == 448

    taps = torch.zeros(32, tail.TAPS, dtype=torch.float16, device=device)
    taps[:, :9] = weights_of(32, 1, device)[0][0].flatten(1)
    projected = torch.full((*SHAPE, 4, 9), NAN, dtype=torch.float16, device=device)
    tail.project(x, packed, offsets, taps, projected, gain=gain, plan=plan)
    by_phase = wide.reshape(SHAPE[0], 2, SHAPE[1], 2, 32).permute(0, 2, 1, 3, 4).reshape(*SHAPE, 4, 32)
    assert worst(projected, by_phase @ taps[:, :9].double()) < (5e-3 if on_card else 2e-3)


@pytest.mark.parametrize("dtype", [torch.float16, FP8])
def test_hand_over_adds_scales_and_saturates(dtype: torch.dtype, device: str) -> None:
    x, low = (plane(*SHAPE, 16, torch.float16, device) for _ in range(2))
    x.copy_(half(*SHAPE, 16, device=device))
    low.copy_(half(*SHAPE, 16, device=device))
    out = plane(*SHAPE, 16, dtype, device)
    conv.hand_over(x, low, out, 300.0)
    expected = (x.float() + low.float()) * 300
    if dtype == FP8:
        expected = expected.clamp(max=448)
    assert ((out.float() - expected).abs() <= expected / (15 if dtype == FP8 else 1000)).all()
    assert out.float().isfinite().all()


def test_gains_leave_room() -> None:
    module = build_model("densenet", 4, {"blocks": 1, "skip": "add"})
    assert isinstance(module, DenseNet)
    gains = activation_gains(module, (12, 12))
    with torch.inference_mode():
        most = max(float(module.features(lr).amax()) for lr, _ in calibration_pairs(4, (12, 12)))
    assert len(gains) == 2
    assert gains[0] * most == pytest.approx(448 / 1.25)


def test_calibration_images_are_fixed_and_have_structure() -> None:
    pairs = calibration_pairs(4, (16, 20))
    for (lr, hr), (reprojected, _) in zip(pairs, calibration_pairs(4, (16, 20)), strict=True):
        assert (lr.shape, hr.shape) == ((1, 1, 16, 20), (1, 1, 64, 80))
        assert torch.equal(lr, reprojected)
        assert lr.std() > 0.05
        assert torch.equal((lr * 255).round(), lr * 255)


def test_fp8_is_refused_where_it_costs_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    module = build_model("densenet", 2, {"blocks": 1})
    for loss, words in (
        (0.2, "fp8 loses 0.20 dB against fp16 .* use --precision fp16"),
        (float("nan"), "fp8 loses nan"),
    ):
        monkeypatch.setattr(quality, "fp8_loss", lambda *_, loss=loss: loss)
        with pytest.raises(EngineError, match=words):
            cuda_engine.check_fp8(module, (8, 8), "cpu")
    monkeypatch.setattr(quality, "fp8_loss", lambda *_: 0.05)
    cuda_engine.check_fp8(module, (8, 8), "cpu")


def test_fp8_is_refused_for_other_networks() -> None:
    with pytest.raises(EngineError, match="fp8 cannot run this model: the kernels run densenet, not FastSR"):
        cuda_engine.check_fp8(build_model("fast", 4, {}), (8, 8), "cpu")
    with pytest.raises(UnsupportedNetworkError):
        cuda_engine.build_network(build_model("fast", 4, {}), (8, 8), torch.uint8, "cpu", "fp8")


@pytest.mark.slow
def test_fp8_keeps_the_quality_of_real_images(data: Path, device: str) -> None:
    """The shipped x2 network on a piece of a test image, and on calibration images."""
    module = find_model("densenet", 2).module
    files = sorted((data / "test").glob("*.png"))[:1]
    pairs = []
    for file in files:
        hr = np.asarray(Image.open(file).convert("L"))
        top, left = (side // 2 - 32 for side in hr.shape)
        piece = torch.from_numpy(hr[top : top + 64, left : left + 64].astype(np.float32) / 255)[None, None]
        lr = F.interpolate(piece, scale_factor=0.5, mode="bicubic", antialias=True).clamp(0, 1)
        pairs.append(((lr * 255).round() / 255, piece))
    assert pairs
    assert quality.fp8_loss(module, (32, 32), device, pairs) <= cuda_engine.FP8_LOSS
