"""Weights that a training of `densenet-paper` may start from: those of `densenet`, which is the same network with two
paths beside it, with one of these laid through the network itself.

python benchmarks/trainings/paper_start.py densenet-x4.safetensors start-x4.safetensors

`densenet` adds the bicubic image at the end; the paper's text has no such path. Here one channel of each layer carries
the LR image instead, as it is, and the up-sampling stages enlarge it by what of the bicubic filter fits a 3x3
convolution. The last convolution makes of it what the sigmoid needs. The path around all blocks is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from clesr.engines.common.resample import line_taps
from clesr.engines.models.densenet import LOGIT_MARGIN
from clesr.engines.models.registry import build_model
from clesr.engines.models.weights import Descriptor, load_model, save_model

# The logit as straight pieces: from 0 on, from each of these down, and from what these lack of 1 up. So large slopes
# count for small differences alone, and bfloat16 will do.
KNOTS = (0.005, 0.012, 0.022, 0.035, 0.05, 0.07, 0.095, 0.125, 0.16, 0.2, 0.25, 0.31, 0.38, 0.46)
PIECES = ((1, 0.0), *((-1, knot) for knot in KNOTS), *((1, 1 - knot) for knot in KNOTS))


def least_used(conv: Any, count: int, groups: int = 1) -> list[int]:
    """The output channels, ``groups`` neighbours as one, with the smallest weights."""
    size = conv.weight.detach().flatten(1).norm(dim=1).reshape(-1, groups).sum(1)
    return [int(n) for n in size.argsort()[:count]]


def carry(conv: Any, source: int) -> int:
    """A channel of ``conv`` becomes a copy of the input's channel ``source``, which counts nowhere else but where it is
    the only one. Which it is."""
    (target,) = least_used(conv, 1)
    if conv.in_channels > 1:
        conv.weight[:, source] = 0
    conv.weight[target], conv.bias[target] = 0, 0
    conv.weight[target, source, 1, 1] = 1
    return target


def enlarge(stage: Any, source: int, targets: list[int], pieces: tuple[tuple[int, float], ...]) -> None:
    """Channels ``targets`` become what channel ``source``, enlarged by two, exceeds each piece's knot by, or, where its
    sign is negative, falls short of it."""
    taps = line_taps(2)[:, 1:4]
    line = torch.from_numpy(taps / taps.sum(1, keepdims=True)).float()
    phases = torch.einsum("iy,jx->ijyx", line, line).reshape(4, 3, 3)
    stage.conv.weight[:, source] = 0
    for target, (sign, knot) in zip(targets, pieces, strict=True):
        rows = slice(4 * target, 4 * target + 4)
        stage.conv.weight[rows] = 0
        stage.conv.weight[rows, source] = sign * phases
        stage.conv.bias[rows] = -sign * knot


def logit_pieces() -> tuple[Tensor, float]:
    """The weights of the pieces, and what is added, that come nearest to the logit of v in [0, 1]."""
    v = np.linspace(LOGIT_MARGIN, 1 - LOGIT_MARGIN, 2001)
    pieces = np.column_stack([np.maximum(0, sign * (v - knot)) for sign, knot in PIECES] + [np.ones_like(v)])
    slope = v * (1 - v)  # an error of the logit is so much of the image
    found, *_ = np.linalg.lstsq(pieces * slope[:, None], np.log(v / (1 - v)) * slope, rcond=None)
    return torch.from_numpy(found[:-1]).float(), float(found[-1])


@click.command()
@click.argument("weights", type=click.Path(path_type=Path, exists=True))
@click.argument("output", type=click.Path(path_type=Path))
def main(weights: Path, output: Path) -> None:
    """Write OUTPUT from the `densenet` in WEIGHTS."""
    model = load_model(weights)
    network = build_model("densenet", model.scale, {"skip": "none", "base": "none"})
    network.load_state_dict(model.module.state_dict())
    with torch.no_grad():
        lay_path(network)
    descriptor = Descriptor(
        name="densenet-paper start",
        architecture="densenet",
        scale=model.scale,
        arguments={"skip": "none", "base": "none"},
        training={"start": str(model)},
    )
    save_model(output, network, descriptor)


def lay_path(network: Any) -> None:
    """The LR image through every layer of ``network``."""
    source = 0
    for conv in network.low:
        source = carry(conv, source)
    for block in network.blocks:
        first, *others = block.layers
        source = carry(first, source)
        for layer in others:  # these read the first one's channels, too
            layer.weight[:, source] = 0
    stages = list(network.up)
    for number, stage in enumerate(stages):
        last = number == len(stages) - 1
        targets = least_used(stage.conv, len(PIECES) if last else 1, groups=4)
        enlarge(stage, source, targets, PIECES if last else PIECES[:1])
        source = targets[0]
    slopes, constant = logit_pieces()
    network.last.weight[:, targets] = 0
    network.last.weight[0, targets, 1, 1] = slopes
    network.last.bias += constant


if __name__ == "__main__":
    main()
