"""What a network in training gains over bicubic interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

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
    where the network takes them. Raises WeightsError where these are not its levels."""
    device, names = next(module.parameters()).device, level_names(module)
    if names not in ((), NAMES):
        raise WeightsError(
            f"the network takes {', '.join(names)}; this clesr estimates {', '.join(NAMES)}; train it again"
        )
    levels = [torch.from_numpy(estimate_levels(lr).as_input())[None].to(device)] if names else []
    with torch.inference_mode():
        x = torch.from_numpy(np.ascontiguousarray(lr)).to(device)[None, None].float() / 255
        y = module(x, *levels)[0, 0].clamp(0, 1) * 255
    return np.asarray(y.round().to(torch.uint8).cpu().numpy())
