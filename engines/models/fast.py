"""A small network for video rate without a GPU."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import msgspec
import torch
import torch.nn.functional as F
from msgspec import Meta
from msgspec.structs import astuple
from torch import Tensor, nn

from clesr.engines.models.layers import BicubicPhases, LevelEmbedding, LevelNames, activated, conv3x3, trusted


class FastSR(nn.Module):
    """Plain 3x3 convolutions whose output is shuffled to pixels and added to the bicubic image."""

    carries_image = True

    class Arguments(msgspec.Struct, forbid_unknown_fields=True):
        channels: Annotated[int, Meta(ge=1, le=4096)] = 32
        depth: Annotated[int, Meta(ge=2, le=256)] = 8
        levels: LevelNames = ()

    def __init__(self, scale: int, **arguments: Any) -> None:
        super().__init__()
        channels, depth, levels = astuple(self.Arguments(**arguments))
        self.scale, self.levels = scale, tuple(levels)
        self.tell = LevelEmbedding(len(levels)) if levels else None
        self.base = BicubicPhases(scale)
        widths = [1] + [channels] * (depth - 1)
        self.body = nn.ModuleList(
            conv3x3(a, b, bool(levels), steered=True) for a, b in itertools.pairwise(widths)
        )
        self.last = conv3x3(channels, scale * scale, bool(levels), steered=True)

    def forward(self, x: Tensor, levels: Tensor | None = None, trust: Tensor | None = None) -> Tensor:
        told = None if self.tell is None else self.tell(levels)
        features = x
        for conv in self.body:
            features = activated(conv, features, told)
        last = self.last(features) if told is None else self.last(features, told)
        phases = self.base(x) + trusted(last, trust)
        return F.pixel_shuffle(torch.clamp(phases, 0, 1), self.scale)
