"""What a network does on images kept aside: its gain over bicubic, and how faithful it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clesr.engines.common.errors import WeightsError
from clesr.engines.common.resample import quantise, resize
from clesr.engines.models.registry import level_names
from clesr.pipeline.fidelity import Tiles, decibels, squared_difference
from clesr.pipeline.noise import NAMES, estimate_levels
from clesr.pipeline.sources.simulator.phantom import Phantom
from clesr.pipeline.view import field_of_view
from clesr.tools.evaluation.metrics import psnr
from clesr.tools.training.data import Pair
from clesr.tools.training.degrade import degrade

PERCENTILE = 1.0
PHANTOMS = range(1_000_000, 1_000_020)  # seeds

Pixels = NDArray[np.uint8]


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


def gain_over_bicubic(module: nn.Module, pairs: list[Pair]) -> float:
    """Mean true PSNR of ``module`` minus that of bicubic, dB, inside the field of view; nan without ``pairs``."""
    gains = []
    for pair in pairs:
        bicubic = quantise(resize(pair.lr, *pair.hr.shape), pair.hr.dtype)
        sr = upscale_image(module, pair.lr)
        gains.append(psnr(pair.hr, sr, pair.mask) - psnr(pair.hr, bicubic, pair.mask))
    return float(np.mean(gains)) if gains else math.nan


def silent_layers(module: nn.Module, lr: Pixels) -> int:
    """How many of the layers before the last put out no value above zero for ``lr`` (H, W) uint8.

    Their ReLUs pass nothing on, and no gradient back: they will not recover.
    """
    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d)][:-1]
    silent: list[nn.Module] = []

    def look(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        if not bool((output > 0).any()):
            silent.append(layer)

    hooks = [layer.register_forward_hook(look) for layer in layers]
    try:
        upscale_image(module, lr)
    finally:
        for hook in hooks:
            hook.remove()
    return len(silent)


def phantoms() -> list[Pixels]:
    """Frames as a probe measures them, of seeds that no training draws."""
    return [Phantom(128, seed).measured(2).astype(np.uint8, copy=False) for seed in PHANTOMS]


def fidelity_limit(
    module: nn.Module, scale: int, images: list[Pixels], noisy: Sequence[Pixels] = ()
) -> dict[str, float] | None:
    """How far SR images, degraded again, may lie from what was measured: the 1st percentile of their PSNR in dB.

    Taken over the tiles that the live check looks at (pipeline/fidelity.py) of ``images`` (H, W) uint8, for a single
    image says little about the worst that is usual, and the worst tile of each ``noisy`` one: images that were
    shrunk have lost the noise that live frames have. None where ``images`` have no tile in the field of view.
    """
    found = [level for lr in images for level in agreement(module, scale, lr)]
    if not found:
        return None
    found += [min(agreement(module, scale, lr)) for lr in noisy]
    return {"limit_db": round(float(np.percentile(found, PERCENTILE)), 2), "tiles": len(found)}


def agreement(module: nn.Module, scale: int, lr: Pixels) -> list[float]:
    """PSNR in dB of each tile in the field of view between ``lr`` and what ``module`` makes of it, degraded again."""
    again = degrade(upscale_image(module, lr), scale)
    _, tiles = Tiles(field_of_view(lr)).errors(squared_difference(again, lr))
    return [decibels(float(error), 255) for error in tiles[tiles >= 0]]
