"""What a network is told of an image beside its pixels.

Networks with ``levels`` (engines/models/layers.py) take them as a second input, and how far they are to be trusted at
each pixel as a third. Whoever submits a frame may give both; an engine that is given neither estimates them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clesr.engines.common.image import Floats, Image, Pixels

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Guidance:
    """``levels`` (L,) float32 as networks take them (``Levels.as_input``); ``trust`` (H, W) uint8: what the network
    adds to the bicubic image counts in 255ths, 0 leaves it bicubic."""

    levels: Floats
    trust: Pixels

    def part(self, down: slice, right: slice) -> Guidance:
        """That of a part of the image, whose levels are those of the whole."""
        return Guidance(self.levels, np.ascontiguousarray(self.trust[down, right]))

    def as_tensors(self, device: str) -> tuple[Tensor, Tensor]:
        """As a network takes them: (1, L) and (1, 1, H, W) float32, the trust in [0, 1]."""
        import torch

        trust = torch.from_numpy(self.trust.astype(np.float32) / 255)
        return torch.from_numpy(self.levels)[None].to(device), trust[None, None].to(device)


def guide(lr: Image) -> Guidance:
    """That of ``lr`` (H, W) uint8 or uint16, by itself alone."""
    from clesr.engines.levels import estimate_levels
    from clesr.engines.trust import faded, trust_map
    from clesr.engines.view import find_view

    view = find_view(lr)
    levels = estimate_levels(lr, view)
    return Guidance(levels.as_input(), faded(trust_map(lr, view), levels))
