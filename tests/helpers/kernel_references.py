"""Convolutions in float64 that kernels are compared with, and fresh numbers for them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clesr.engines.backends.cuda.kernels.planes import plane

NAN = float("nan")


def half(*size: int, device: str) -> Tensor:
    return torch.rand(size, dtype=torch.float16, device=device)


def weights_of(c_in: int, c_out: int, device: str) -> tuple[Tensor, Tensor]:
    """(C_out, C_in, 3, 3) that FP16 holds exactly, and a bias."""
    spread = (2 / (9 * c_in)) ** 0.5
    return (torch.randn(c_out, c_in, 3, 3, device=device) * spread).half(), torch.randn(c_out, device=device)


def by_torch(x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of channels-last ``x`` in float64, without ReLU."""
    offset = None if bias is None else bias.double()
    y = F.conv2d(x.double().permute(2, 0, 1)[None], weights.double(), offset, padding=1)
    return y[0].permute(1, 2, 0)


def on_plane(values: Tensor) -> Tensor:
    """FP16 ``values`` (H, W, C) as a plane."""
    height, width, channels = values.shape
    return plane(height, width, channels, values.device).copy_(values)


def poisoned(height: int, width: int, channels: int, device: str) -> Tensor:
    """A plane of NaN with its margin of zeros."""
    return plane(height, width, channels, device).fill_(NAN)


def packed(weights: Tensor) -> Tensor:
    return weights.permute(2, 3, 1, 0).contiguous()


def worst(found: Tensor, expected: Tensor) -> float:
    """The largest difference; NaN where ``found`` was not written everywhere."""
    return float((found.double() - expected).abs().max() / expected.abs().max().clamp(min=1))
