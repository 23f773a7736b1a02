"""3x3 convolutions with a quarter of the multiplications, for engines that compute in FP32.

Two rewrites, both equal to the network in exact arithmetic:

- A convolution by minimal filtering, F(4x4, 3x3) of Lavin and Gray (arXiv 1509.09308): each 4x4 square
  of the output costs 36 multiplications a pair of channels instead of 144, as 36 matrix products.
- DenseNet's integration layer before the last pixel shuffle instead of after it: each pixel is projected to
  the layer's nine taps, so what is shuffled has 9 channels and not 128.

Images are (H, W, C) here. Rounding errors are some ten times those of the direct convolution: a few 1e-6
of the range in FP32, a fraction of a 16-bit level, but far too much in BF16 or FP16.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clesr.engines.models import DenseNet, UpStage

TILE = 4  # output samples of one tile along a line
READ = TILE + 2  # input samples that they need
STRIP_VALUES = 36 * 8192 * 512  # products held at once, which bounds the memory: 604 MB

FILTER = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)  # G in the publication


def forward_line(d: list[Tensor]) -> list[Tensor]:
    """Six samples of a line to the six values that are multiplied (the publication's transposed B)."""
    even, odd = d[4] - 4 * d[2], d[3] - 4 * d[1]
    near, far = d[4] - d[2], 2 * (d[3] - d[1])
    return [
        4 * d[0] - 5 * d[2] + d[4],
        even + odd,
        even - odd,
        near + far,
        near - far,
        4 * d[1] - 5 * d[3] + d[5],
    ]


def inverse_line(m: list[Tensor]) -> list[Tensor]:
    """Six products to four output samples of a line (the publication's transposed A)."""
    sum1, difference1 = m[1] + m[2], m[1] - m[2]
    sum2, difference2 = m[3] + m[4], m[3] - m[4]
    return [
        m[0] + sum1 + sum2,
        difference1 + 2 * difference2,
        sum1 + 4 * sum2,
        difference1 + 8 * difference2 + m[5],
    ]


class TiledUp(nn.Module):
    """An :class:`UpStage` for one shape: (H, W, C) -> (2H, 2W, C).

    With ``taps`` (C, K) each pixel is then projected to K channels.
    """

    filters: Tensor
    bias: Tensor
    taps: Tensor | None

    def __init__(self, stage: UpStage, height: int, width: int, taps: Tensor | None = None) -> None:
        super().__init__()
        assert stage.conv.bias is not None
        self.height, self.width = height, width
        self.rows, self.columns = math.ceil(height / TILE), math.ceil(width / TILE)
        outputs, self.channels = stage.conv.weight.shape[:2]
        self.strip = max(1, STRIP_VALUES // (READ * READ * self.columns * outputs))
        phase_major = torch.arange(outputs).reshape(-1, 4).T.reshape(-1)
        weight = stage.conv.weight.detach().double()[phase_major]
        filters = torch.einsum("ia,ncab,jb->ijcn", FILTER, weight, FILTER)
        filters = filters.reshape(READ * READ, self.channels, outputs)
        self.register_buffer("filters", filters.float().contiguous())
        self.register_buffer("bias", stage.conv.bias.detach()[phase_major])
        # one copy a place in the tile: libraries are faster at many small products than at one large
        copies = None if taps is None else taps.expand(TILE * TILE, *taps.shape).contiguous()
        self.register_buffer("taps", copies)

    def forward(self, x: Tensor) -> Tensor:
        bottom = self.rows * TILE + 1 - self.height
        right = self.columns * TILE + 1 - self.width
        x = F.pad(x, (0, 0, 1, right, 1, bottom))
        strips = []
        for first in range(0, self.rows, self.strip):
            count = min(self.strip, self.rows - first)
            slab = x[first * TILE : (first + count) * TILE + READ - TILE]
            strips.append(self.arrange(self.convolve(slab, count), count))
        y = torch.cat(strips) if len(strips) > 1 else strips[0]
        return y[: 2 * self.height, : 2 * self.width]

    def convolve(self, slab: Tensor, count: int) -> Tensor:
        """Convolution and ReLU of ``count`` rows of tiles: (row in tile, column in tile, tile, 4C)."""
        tiles = count * self.columns
        span = (count - 1) * TILE + 1
        lines = torch.stack(forward_line([slab[k : k + span : TILE] for k in range(READ)]))
        span = (self.columns - 1) * TILE + 1
        values = torch.stack(forward_line([lines[:, :, k : k + span : TILE] for k in range(READ)]), 1)
        products = torch.matmul(values.reshape(READ * READ, tiles, self.channels), self.filters)
        products = products.reshape(READ, READ, tiles, 4 * self.channels)
        rows = []
        for half in inverse_line([products[k] for k in range(READ)]):
            samples = inverse_line([half[k] for k in range(READ)])
            rows.append(torch.stack([F.relu(sample + self.bias) for sample in samples]))
        return torch.stack(rows)

    def arrange(self, y: Tensor, count: int) -> Tensor:
        """Tiles of phases to rows of the shuffled image."""
        channels = self.channels
        if self.taps is not None:
            y = torch.matmul(y.reshape(TILE * TILE, -1, self.channels), self.taps)
            channels = self.taps.shape[-1]
        y = y.reshape(TILE, TILE, count, self.columns, 2, 2, channels)
        y = y.permute(2, 0, 4, 3, 1, 5, 6)
        return y.reshape(count * TILE * 2, self.columns * TILE * 2, channels)


class TiledDenseNet(nn.Module):
    """``network`` for one LR shape with its up-sampling rewritten: same input and output, a batch of one."""

    last_bias: Tensor

    def __init__(self, network: DenseNet, height: int, width: int) -> None:
        super().__init__()
        self.network = network
        self.height, self.width = height * network.scale, width * network.scale
        weight, bias = network.last.weight.detach()[0], network.last.bias
        assert bias is not None
        self.register_buffer("last_bias", bias.detach())
        taps = [None] * (len(network.up) - 1) + [weight.reshape(len(weight), 9).contiguous()]
        stages = cast(Iterable[UpStage], network.up)
        self.up = nn.ModuleList(
            TiledUp(stage, height << i, width << i, projection)
            for i, (stage, projection) in enumerate(zip(stages, taps, strict=True))
        )

    def forward(self, x: Tensor) -> Tensor:
        features = self.network.features(x)[0].permute(1, 2, 0)
        for stage in self.up:
            features = stage(features)
        padded = F.pad(features.permute(2, 0, 1), (1, 1, 1, 1))
        shifted = [padded[3 * i + j, i:, j:] for i in range(3) for j in range(3)]
        y = sum(tap[: self.height, : self.width] for tap in shifted) + self.last_bias
        return self.network.finish(y[None, None], x)
