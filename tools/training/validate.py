"""What a network does on images kept aside: layers that are silent, and how faithful it is."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from clesr.engines.common.image import Pixels
from clesr.engines.view import field_of_view
from clesr.pipeline.fidelity import Tiles, decibels, difference
from clesr.pipeline.sources.simulator.phantom import Phantom
from clesr.tools.data.degrade import degrade
from clesr.tools.evaluation.gain import upscale_image

PERCENTILE = 1.0
PHANTOMS = range(1_000_000, 1_000_020)  # seeds


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


@functools.cache  # drawing them takes seconds
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
    _, tiles = Tiles(field_of_view(lr)).errors(difference(again, lr))
    return [decibels(float(error), 255) for error in tiles[tiles >= 0]]
