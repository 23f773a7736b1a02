"""SRCNN of Dong, Loy, He and Tang (ECCV 2014)."""

from __future__ import annotations

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clesr.engines.models.layers import BicubicUp


class SRCNN(nn.Module):
    """9-1-5 convolutions of 64 and 32 channels on the bicubic image."""

    class Arguments(msgspec.Struct, forbid_unknown_fields=True):
        pass

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.base = BicubicUp(scale)
        self.features = nn.Conv2d(1, 64, 9, padding=4)
        self.mapping = nn.Conv2d(64, 32, 1)
        self.last = nn.Conv2d(32, 1, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.mapping(F.relu(self.features(self.base(x)))))
        return torch.clamp(self.last(y), 0, 1)
