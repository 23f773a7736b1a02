"""FP8 (E4M3) for the doublings: a scale for each output channel's weights and one for each doubling's input."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clesr.engines.backends.cuda.kernels.conv import FP8, FP8_MOST
from clesr.engines.models.densenet import DenseNet

IMAGES = 3
SIDE = 64  # LR pixels of a calibration image at most
ROOM = 1.25  # headroom over the largest activation seen, so that new images seldom saturate


def pack_phases_fp8(weights: Tensor) -> tuple[Tensor, Tensor]:
    """(4C, C_in, 3, 3) as FP8 (4, 3, 3, C_in, C), whose memory runs along taps and C_in as FP8 products want it, and
    the (4, C) FP32 scales that undo the quantisation."""
    phases = weights.float().reshape(-1, 4, *weights.shape[1:]).permute(1, 0, 3, 4, 2).contiguous()
    # (4, C, 3, 3, C_in)
    scales = phases.flatten(2).abs().amax(2).clamp(min=1e-12) / FP8_MOST
    packed = (phases / scales[..., None, None, None]).to(FP8)
    return packed.permute(0, 2, 3, 4, 1), scales


@torch.inference_mode()
def activation_gains(module: DenseNet, shape: tuple[int, int]) -> list[float]:
    """What each doubling's input is multiplied by to fill E4M3, from the fixed calibration images."""
    device = module.last.weight.device
    most = [0.0] * len(module.up)
    for lr, _hr in calibration_pairs(module.scale, shape):
        features = module.features(lr.to(device))
        for i, stage in enumerate(module.up):
            most[i] = max(most[i], float(features.abs().amax()))
            features = stage(features)
    return [FP8_MOST / (ROOM * max(value, 1e-6)) for value in most]


def calibration_pairs(scale: int, shape: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """Fixed pairs (1, 1, h, w) and (1, 1, sh, sw) in [0, 1], of 8-bit levels: bright cells with dark borders, shaded,
    with noise, at several cell sizes; LR is HR degraded as in training (antialiased bicubic)."""
    height, width = (min(side, SIDE) * scale for side in shape)
    pairs = []
    for index in range(IMAGES):
        hr = _cells(height, width, cell=12.0 * (index + 1), seed=index)
        lr = F.interpolate(hr, scale_factor=1 / scale, mode="bicubic", antialias=True)
        pairs.append(((lr.clamp(0, 1) * 255).round() / 255, hr))
    return pairs


def _cells(height: int, width: int, *, cell: float, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    count = max(4, int(height * width / cell**2))
    centres = torch.rand(count, 2, generator=random) * torch.tensor([height, width])
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([y, x], 2).reshape(-1, 2).float()
    near = torch.cdist(pixels, centres).topk(2, largest=False).values
    border = torch.sigmoid((near[:, 1] - near[:, 0] - 3) * 1.5).reshape(height, width)
    shade = 0.6 + 0.3 * torch.sin(x / 37.0 + seed) * torch.cos(y / 53.0)
    noise = torch.randn(height, width, generator=random) * 0.03
    image = (border * shade * 0.8 + 0.1 + noise).clamp(0, 1)
    return ((image * 255).round() / 255)[None, None]
