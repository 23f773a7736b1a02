"""DenseNet's up-sampling with a fifth of the multiplications, for engines that compute in FP32.

Two rewrites, both equal to the network in exact arithmetic:

- The convolutions by minimal filtering, F(6x6, 3x3) of Lavin and Gray (arXiv 1509.09308): each 6x6 square
  of the output costs 64 multiplications a pair of channels instead of 324, as 64 matrix products.
- The integration layer before the last pixel shuffle instead of after it: each pixel is projected to
  the layer's nine taps, so what is shuffled has 9 channels and not 128.

Images are (H, W, C) here. Rounding errors are some ten times those of the direct convolution: 1e-5 of the
range in FP32, a fraction of a 16-bit level after the sigmoid, but far too much in BF16 or FP16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from clesr.engines.models.densenet import DenseNet, UpStage

TILE = 6  # output samples of one tile along a line
READ = TILE + 2  # input samples that they need
STRIP_TILES = 192  # tiles computed at once, so that what lies between the steps stays in the cache

FILTER = torch.tensor(
    [
        [1, 0, 0],
        [-2 / 9, -2 / 9, -2 / 9],
        [-2 / 9, 2 / 9, -2 / 9],
        [1 / 90, 1 / 45, 2 / 45],
        [1 / 90, -1 / 45, 2 / 45],
        [32 / 45, 16 / 45, 8 / 45],
        [32 / 45, -16 / 45, 8 / 45],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)  # G in the publication, for the points 0, 1, -1, 2, -2, 1/2, -1/2


def forward_line(d: list[Tensor]) -> list[Tensor]:
    """Eight samples of a line to the eight values that are multiplied (the publication's transposed B)."""
    even1, odd1 = d[2] + d[6] - 4.25 * d[4], d[1] + d[5] - 4.25 * d[3]
    even2, odd2 = d[6] + 0.25 * d[2] - 1.25 * d[4], 0.5 * d[1] - 2.5 * d[3] + 2 * d[5]
    even3, odd3 = d[6] + 4 * d[2] - 5 * d[4], 2 * d[1] - 2.5 * d[3] + 0.5 * d[5]
    return [
        d[0] - d[6] + 5.25 * (d[4] - d[2]),
        even1 + odd1,
        even1 - odd1,
        even2 + odd2,
        even2 - odd2,
        even3 + odd3,
        even3 - odd3,
        d[7] - d[1] + 5.25 * (d[3] - d[5]),
    ]


def inverse_line(m: list[Tensor]) -> list[Tensor]:
    """Eight products to six output samples of a line (the publication's transposed A)."""
    sum1, difference1 = m[1] + m[2], m[1] - m[2]
    sum2, difference2 = m[3] + m[4], m[3] - m[4]
    sum3, difference3 = m[5] + m[6], m[5] - m[6]
    return [
        m[0] + sum1 + sum2 + sum3,
        difference1 + 2 * difference2 + 0.5 * difference3,
        sum1 + 4 * sum2 + 0.25 * sum3,
        difference1 + 8 * difference2 + 0.125 * difference3,
        sum1 + 16 * sum2 + 0.0625 * sum3,
        difference1 + 32 * difference2 + 0.03125 * difference3 + m[7],
    ]


def map_strips(
    function: Callable[[Tensor], Tensor], x: Tensor, *, count: int, step: int, length: int
) -> Tensor:
    """``function`` of ``count`` strips of ``length`` rows, one every ``step`` rows of ``x``, one below another.

    A function of its own so that engines can make a loop of it.
    """
    if has_torch_function_unary(x):
        mapped: Tensor = handle_torch_function(
            map_strips, (x,), function, x, count=count, step=step, length=length
        )
        return mapped
    return torch.cat([function(x[i * step : i * step + length]) for i in range(count)])


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
        self.columns = math.ceil(width / TILE)
        self.rows = min(math.ceil(height / TILE), max(1, STRIP_TILES // self.columns))  # of tiles, in a strip
        self.strips = math.ceil(height / (TILE * self.rows))
        outputs, self.channels = stage.conv.weight.shape[:2]
        phase_major = torch.arange(outputs).reshape(-1, 4).T.reshape(-1)
        weight = stage.conv.weight.detach().double()[phase_major]
        filters = torch.einsum("ia,ncab,jb->ijcn", FILTER, weight, FILTER)
        self.register_buffer("filters", filters.float().contiguous())
        self.register_buffer("bias", stage.conv.bias.detach()[phase_major])
        self.register_buffer("taps", taps)

    def forward(self, x: Tensor) -> Tensor:
        step = self.rows * TILE
        bottom = self.strips * step + 1 - self.height
        right = self.columns * TILE + 1 - self.width
        x = F.pad(x, (0, 0, 1, right, 1, bottom))
        y = map_strips(self.compute, x, count=self.strips, step=step, length=step + READ - TILE)
        return y[: 2 * self.height, : 2 * self.width]

    def compute(self, strip: Tensor) -> Tensor:
        """The rows of the result that come of one strip of padded input."""
        span = (self.rows - 1) * TILE + 1
        lines = forward_line([strip[k : k + span : TILE] for k in range(READ)])
        products = [self.multiply(line, filters) for line, filters in zip(lines, self.filters, strict=True)]
        halves = [inverse_line(list(column)) for column in zip(*products, strict=True)]
        rows = []
        for i in range(TILE):
            samples = inverse_line([half[i] for half in halves])
            rows.append(torch.stack([F.relu(sample + self.bias) for sample in samples]))
        y, channels = torch.stack(rows), self.channels
        if self.taps is not None:
            channels = self.taps.shape[-1]
            y = torch.matmul(y.reshape(-1, self.channels), self.taps)
        y = y.reshape(TILE, TILE, self.rows, self.columns, 2, 2, channels)
        y = y.permute(2, 0, 4, 3, 1, 5, 6)
        return y.reshape(self.rows * TILE * 2, self.columns * TILE * 2, channels)

    def multiply(self, line: Tensor, filters: Tensor) -> list[Tensor]:
        """READ times (tiles, 4C): one row of the values of all tiles, (rows, W, C) filtered down
        the columns, times that row of the filters."""
        span = (self.columns - 1) * TILE + 1
        values = forward_line([line[:, k : k + span : TILE] for k in range(READ)])
        shape = self.rows * self.columns, self.channels
        return [torch.matmul(v.reshape(*shape), f) for v, f in zip(values, filters, strict=True)]


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

    def forward(self, x: Tensor, trust: Tensor | None = None) -> Tensor:
        features = self.network.features(x)[0].permute(1, 2, 0)
        for stage in self.up:
            features = stage(features)
        padded = F.pad(features.permute(2, 0, 1), (1, 1, 1, 1))
        shifted = [padded[3 * i + j, i:, j:] for i in range(3) for j in range(3)]
        y = sum(tap[: self.height, : self.width] for tap in shifted) + self.last_bias
        return self.network.finish(y[None, None], x, trust)
