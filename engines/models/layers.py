"""Layers that the networks share.

A network with ``levels`` takes the named figures of each image beside it, (N, len(levels)): a plane of one value
through a convolution adds to its bias, so that is where they go, in every layer (:class:`LevelConv`).
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from clesr.engines.common.resample import polyphase_taps

LevelNames = Annotated[tuple[Annotated[str, Meta(max_length=40)], ...], Meta(max_length=16)]
TOLD = 16  # features that a network makes of an image's levels
STEEP = 16  # how much finer low levels are told apart than high ones


class LevelConv(nn.Conv2d):
    """A 3x3 convolution whose biases move with what is ``told`` of each image, (N, TOLD), and, where it is ``steered``,
    its weights too: a small network then is another one for each kind of image, at the same cost a pixel. At first
    nothing moves."""

    def __init__(self, channels_in: int, channels_out: int, steered: bool = False) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1)
        self.shift = nn.Parameter(torch.zeros(channels_out, TOLD))
        self.steer = nn.Parameter(torch.zeros(TOLD, self.weight.numel())) if steered else None

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        if told is None:
            return super().forward(x)
        shift = told @ self.shift.T
        if self.steer is None:
            return super().forward(x) + shift[:, :, None, None]
        images, height, width = x.shape[0], x.shape[2], x.shape[3]
        weights = (self.weight.reshape(1, -1) + told @ self.steer).reshape(-1, *self.weight.shape[1:])
        biases = (self.bias + shift).reshape(-1)
        y = F.conv2d(x.reshape(1, -1, height, width), weights, biases, padding=1, groups=images)
        return y.reshape(images, -1, height, width)


class LevelEmbedding(nn.Module):
    """What a network makes of an image's levels, (N, L), for all of its layers: (N, TOLD).

    It sees them as by a logarithm (asinh): noise of one and of two grey levels differ more than of ten and eleven."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.wide, self.linear = nn.Linear(levels, 2 * TOLD), nn.Linear(2 * TOLD, TOLD)

    def forward(self, levels: Tensor | None) -> Tensor:
        if levels is None:
            raise ValueError("this network takes the image's levels as a second input")
        return F.relu(self.linear(F.relu(self.wide(torch.asinh(STEEP * levels) / math.asinh(STEEP)))))


def conv3(channels_in: int, channels_out: int, told: bool = False, steered: bool = False) -> nn.Conv2d:
    if told:
        return LevelConv(channels_in, channels_out, steered)
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)


def activated(conv: nn.Module, x: Tensor, told: Tensor | None) -> Tensor:
    """``conv`` and ReLU."""
    return F.relu(conv(x) if told is None else conv(x, told))


class BicubicPhases(nn.Module):
    """Bicubic up-sampling as one fixed 5x5 convolution, whose output (N, scale**2, H, W) a pixel shuffle makes the
    image; edges are repeated.

    Never in mixed precision: bf16 would round the image itself to a grey level.
    """

    taps: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("taps", torch.from_numpy(polyphase_taps(scale)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if _in_mixed_precision(x):
            with torch.autocast(x.device.type, enabled=False):
                return bicubic_phases(x.float(), self.taps)
        return bicubic_phases(x, self.taps)


class BicubicUp(BicubicPhases):
    """The bicubic image itself, (N, 1, scale * H, scale * W)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(super().forward(x), self.scale)


def bicubic_phases(x: Tensor, taps: Tensor) -> Tensor:
    """``x`` (N, 1, H, W) through ``taps``: (N, scale**2, H, W). A function of its own so that engines can keep it in
    FP32."""
    if has_torch_function_unary(x):
        phases: Tensor = handle_torch_function(bicubic_phases, (x,), x, taps)
        return phases
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), taps)


def _in_mixed_precision(x: Tensor) -> bool:
    """Not for a meta tensor, nor for what stands for a tensor while a graph is built."""
    return isinstance(x, Tensor) and not x.is_meta and torch.is_autocast_enabled(x.device.type)
