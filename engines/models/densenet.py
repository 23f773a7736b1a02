"""DenseNet of Izadi, Moriarty and Hamarneh (MICCAI 2018, arXiv 1806.08338), section 2."""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import torch
import torch.nn.functional as F
from msgspec import Meta
from msgspec.structs import astuple
from torch import Tensor, nn

from clesr.engines.common.parsing import check_choice
from clesr.engines.models.layers import BicubicUp, LevelEmbedding, LevelNames, activated, conv3x3, trusted
from clesr.engines.models.registry import BASES, SKIPS

LOGIT_MARGIN = 1 / 1024  # keeps the logit of a black or white pixel finite, also in FP16


class DenseBlock(nn.Module):
    """``layers`` convolutions of ``growth`` channels; each reads the block's own earlier outputs.

    Only the first layer reads the block's input. The output is all layers' outputs concatenated.
    """

    def __init__(self, channels_in: int, layers: int, growth: int, told: bool = False) -> None:
        super().__init__()
        widths = [channels_in] + [growth * i for i in range(1, layers)]
        self.layers = nn.ModuleList(conv3x3(width, growth, told) for width in widths)

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        outputs: list[Tensor] = []
        for layer in self.layers:
            source = torch.cat(outputs, 1) if outputs else x
            outputs.append(activated(layer, source, told))
        return torch.cat(outputs, 1)


class UpStage(nn.Module):
    """Sub-pixel up-sampling by two: convolution to four times the channels, ReLU, pixel shuffle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = conv3x3(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(F.relu(self.conv(x)), 2)


class DenseNet(nn.Module):
    """The paper's densely connected network with sub-pixel up-sampling.

    ``skip`` is the reading of the connection around the blocks: ``none`` is the paper's text; ``add``
    adds the low-level features to the last block's output; ``low`` and ``all`` are the authors' published
    code (``SRDenseNet`` concatenates the low-level features before up-sampling, ``SRDenseNet_ALL`` feeds
    each block all earlier outputs and squeezes them to twice the width). ``base="bicubic"`` adds
    the logit of the bicubic image before the sigmoid, so that the network learns the difference.
    """

    class Arguments(msgspec.Struct, forbid_unknown_fields=True):
        blocks: Annotated[int, Meta(ge=1, le=64)] = 12
        layers: Annotated[int, Meta(ge=1, le=32)] = 8
        growth: Annotated[int, Meta(ge=1, le=256)] = 16
        skip: str = "none"
        base: str = "none"
        levels: LevelNames = ()

    def __init__(self, scale: int, **arguments: Any) -> None:
        super().__init__()
        blocks, layers, growth, skip, base, levels = astuple(self.Arguments(**arguments))
        check_choice("skip", skip, SKIPS)
        check_choice("base", base, BASES)
        self.scale, self.skip, self.levels = scale, skip, tuple(levels)
        width, told = layers * growth, bool(levels)
        self.tell = LevelEmbedding(len(levels)) if told else None
        self.low = nn.ModuleList([conv3x3(1, width // 2, told), conv3x3(width // 2, width, told)])
        self.blocks = nn.ModuleList(
            DenseBlock(width * (i + 1 if skip == "all" else 1), layers, growth, told) for i in range(blocks)
        )
        self.squeeze = nn.Conv2d(width * (blocks + 1), 2 * width, 1) if skip == "all" else None
        up_width = 2 * width if skip in ("low", "all") else width
        self.up = nn.ModuleList(UpStage(up_width) for _ in range(int(math.log2(scale))))
        self.last = conv3x3(up_width, 1)
        self.base = BicubicUp(scale) if base == "bicubic" else None
        self.carries_image = self.base is not None

    def forward(self, x: Tensor, levels: Tensor | None = None, trust: Tensor | None = None) -> Tensor:
        told = None if self.tell is None else self.tell(levels)
        features = self.features(x, told)
        for stage in self.up:
            features = stage(features)
        return self.finish(self.last(features), x, trust)

    def features(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        """What is up-sampled: (N, C, H, W)."""
        low = x
        for conv in self.low:
            low = activated(conv, low, told)
        return self.trunk(low, told)

    def finish(self, y: Tensor, x: Tensor, trust: Tensor | None = None) -> Tensor:
        """The last convolution's output ``y`` as an image; ``x`` is the network's input."""
        if self.base is not None:
            y = trusted(y, trust)
            level = torch.clamp(self.base(x), LOGIT_MARGIN, 1 - LOGIT_MARGIN)
            y = y + torch.log(level / (1 - level))  # torch.logit, which OpenVINO cannot convert
        return torch.sigmoid(y)

    def trunk(self, low: Tensor, told: Tensor | None = None) -> Tensor:
        if self.squeeze is not None:
            outputs = [low]
            for block in self.blocks:
                outputs.append(block(torch.cat(outputs, 1), told))
            return F.relu(self.squeeze(torch.cat(outputs, 1)))
        features = low
        for block in self.blocks:
            features = block(features, told)
        if self.skip == "add":
            return features + low
        return torch.cat((low, features), 1) if self.skip == "low" else features
