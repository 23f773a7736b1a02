"""What a network in training gains over bicubic interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import nn

from clesr.engines.common.image import Pixels
from clesr.engines.common.resample import quantise, resize
from clesr.engines.reference import reference_image
from clesr.tools.data.pairs import Pair
from clesr.tools.evaluation.metrics import psnr


def gain_over_bicubic(run: Callable[[Pixels], Pixels], pairs: Sequence[Pair]) -> float:
    """Mean true PSNR of ``run`` minus that of bicubic, dB, inside the field of view; nan without ``pairs``."""
    gains = []
    for pair in pairs:
        bicubic = quantise(resize(pair.lr, *pair.hr.shape), pair.hr.dtype)
        gains.append(psnr(pair.hr, run(pair.lr), pair.mask) - psnr(pair.hr, bicubic, pair.mask))
    return float(np.mean(gains)) if gains else math.nan


def upscale_image(module: nn.Module, lr: Pixels) -> Pixels:
    """The SR image (sH, sW) uint8 of ``lr`` (H, W) uint8, in FP32 on the module's device."""
    return np.asarray(reference_image(module, lr, device=str(next(module.parameters()).device)), np.uint8)
