"""What a network in training gains over bicubic interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from clesr.engines.common.errors import WeightsError
from clesr.engines.common.image import Pixels
from clesr.engines.common.resample import quantise, resize
from clesr.engines.models.registry import level_names
from clesr.pipeline.noise import NAMES, estimate_levels
from clesr.tools.data.pairs import Pair
from clesr.tools.evaluation.metrics import psnr


def gain_over_bicubic(upscale: Callable[[Pixels], Pixels], pairs: Sequence[Pair]) -> float:
    """Mean true PSNR of ``upscale`` minus that of bicubic, dB, inside the field of view; nan without ``pairs``."""
    gains = []
    for pair in pairs:
        bicubic = quantise(resize(pair.lr, *pair.hr.shape), pair.hr.dtype)
        gains.append(psnr(pair.hr, upscale(pair.lr), pair.mask) - psnr(pair.hr, bicubic, pair.mask))
    return float(np.mean(gains)) if gains else math.nan


def upscale_image(module: nn.Module, lr: Pixels) -> Pixels:
    """The SR image (sH, sW) uint8 of ``lr`` (H, W) uint8, in FP32 on the module's device; its levels are estimated
    where the network takes them."""
    device = next(module.parameters()).device
    levels = (level_input(module, lr).to(device),) if level_names(module) else ()
    with torch.inference_mode():
        x = torch.from_numpy(np.ascontiguousarray(lr)).to(device)[None, None].float() / 255
        y = module(x, *levels)[0, 0].clamp(0, 1) * 255
    return np.asarray(y.round().to(torch.uint8).cpu().numpy())


def level_input(module: nn.Module, lr: Pixels) -> Tensor:
    """What ``module`` takes of the levels of ``lr``: (1, L). Raises WeightsError where these are not its levels."""
    if level_names(module) != NAMES:
        wanted = ", ".join(level_names(module))
        raise WeightsError(
            f"the network takes {wanted}; this clesr estimates {', '.join(NAMES)}; train it again"
        )
    return torch.from_numpy(estimate_levels(lr).as_input())[None]
