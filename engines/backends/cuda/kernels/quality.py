"""What FP8 costs in image quality."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels, supported
from clesr.engines.backends.cuda.kernels.fp8 import calibration_pairs


def fp8_loss(
    module: nn.Module,
    shape: tuple[int, int],
    device: torch.device | str,
    pairs: list[tuple[Tensor, Tensor]] | None = None,
) -> float:
    """PSNR of FP16 minus that of FP8, in dB, against the HR images of ``pairs`` (LR, HR), each (1, 1, h, w) of 8-bit
    levels over 255; by default the calibration images for LR images of ``shape``.

    Raises UnsupportedNetworkError where the kernels do not know ``module``.
    """
    network = supported(module)
    pairs = calibration_pairs(network.scale, shape) if pairs is None else pairs
    return _psnr(network, pairs, device, "fp16") - _psnr(network, pairs, device, "fp8")


def _psnr(
    module: nn.Module, pairs: list[tuple[Tensor, Tensor]], device: torch.device | str, precision: str
) -> float:
    """The mean over ``pairs``; NaN where the network gives no image."""
    found = []
    kernels: DenseNetKernels | None = None
    for lr, hr in pairs:
        if kernels is None or tuple(kernels.lr.shape) != tuple(lr.shape[2:]):
            size = (lr.shape[2], lr.shape[3])
            kernels = DenseNetKernels(module, size, torch.uint8, device, precision=precision, tuned=False)
        kernels.lr.copy_((lr[0, 0] * 255).round())
        kernels.run()
        error = ((kernels.sr.cpu().double() - hr[0, 0].double().cpu() * 255) ** 2).mean()
        found.append(10 * math.log10(255**2 / max(float(error), 1e-9)))
    return sum(found) / len(found)
