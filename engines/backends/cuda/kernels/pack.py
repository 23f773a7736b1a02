"""DenseNet's numbers as the kernels read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clesr.engines.models.densenet import DenseBlock, DenseNet

LAYERS = 8
GROWTH = 16  # channels of a dense layer: the narrowest tile of a matrix unit
WIDEST = 4 * GROWTH  # of a convolution of the blocks: what layers 1 to 4 give to 5 to 8


class UnsupportedNetworkError(Exception):
    """The kernels cannot run this network; the message says why."""


class Conv(NamedTuple):
    """``weights`` (3, 3, C_in, C_out) FP16, and ``bias`` (C_out or more,) FP32."""

    weights: Tensor
    bias: Tensor


def supported(module: nn.Module) -> DenseNet:
    """``module`` where the kernels know it. Raises UnsupportedNetworkError where they do not."""
    if not isinstance(module, DenseNet):
        raise UnsupportedNetworkError(f"the kernels run densenet, not {type(module).__name__}")
    if module.skip not in ("none", "add"):
        raise UnsupportedNetworkError(f"the kernels know no skip {module.skip}")
    blocks = [block for block in module.blocks if isinstance(block, DenseBlock)]
    convs = [(block, conv) for block in blocks for conv in block.layers if isinstance(conv, nn.Conv2d)]
    if {(len(block.layers), conv.out_channels) for block, conv in convs} != {(LAYERS, GROWTH)}:
        raise UnsupportedNetworkError(f"the kernels want blocks of {LAYERS} layers of {GROWTH} channels")
    return module


def biases(named: Mapping[str, Tensor]) -> Tensor:
    """DenseNet's biases, ``named``, in FP32: those of the first two convolutions, then (blocks, 8, 64): a row
    for each of layers 1 to 4 and one for 5 to 8, which are one convolution as far as they read 1 to 4."""
    blocks = 1 + max(int(name.split(".")[1]) for name in named if name.startswith("blocks."))
    packed = torch.zeros(blocks, LAYERS, WIDEST)
    for block in range(blocks):
        own = [named[f"blocks.{block}.layers.{layer}.bias"].detach().float() for layer in range(LAYERS)]
        packed[block, :4, :GROWTH] = torch.stack(own[:4])
        packed[block, 4] = torch.cat(own[4:])
    low = [named[f"low.{i}.bias"].detach().float() for i in range(2)]
    return torch.cat([*low, packed.flatten()])


def pack_weights(weights: Tensor, device: torch.device | str) -> Tensor:
    """(C_out, C_in, 3, 3) as (3, 3, C_in, C_out) FP16 on ``device``."""
    return weights.detach().permute(2, 3, 1, 0).to(device, torch.float16).contiguous()


def phases(conv: nn.Conv2d, device: torch.device | str) -> Conv:
    """A convolution to 4C channels before a shuffle of pixels, with the phases' channels one after the other."""

    def ordered(values: Tensor) -> Tensor:
        return values.detach().reshape(-1, 4, *values.shape[1:]).transpose(0, 1).flatten(0, 1)

    assert conv.bias is not None
    bias = ordered(conv.bias).to(device, torch.float32)
    return Conv(pack_weights(ordered(conv.weight), device), bias)


def look_ahead(block: DenseBlock) -> list[Tensor]:
    """The weights of layers 1 to 4, of layers 5 to 8 as far as they read 1 to 4 as one, and of 6 to 8 the rest."""
    layers = [layer.weight.detach() for layer in block.layers if isinstance(layer, nn.Conv2d)]
    seen = 4 * GROWTH
    ahead = torch.cat([weights[:, :seen] for weights in layers[4:]])
    return [*layers[:4], ahead, *(weights[:, seen:] for weights in layers[5:])]
