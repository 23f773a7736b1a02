"""A network of one's own: registered, its weights saved with a descriptor, and used like those that ship with clesr.

    python examples/own_model.py

A package that others install names ``Sharpen`` as an entry point of ``clesr.models`` instead of adding it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import torch

import clesr
from clesr.engines.models.layers import BicubicUp
from clesr.engines.models.registry import NETWORKS, build_model
from clesr.engines.models.weights import Descriptor, save_model


class Sharpen(torch.nn.Module):
    Arguments = msgspec.defstruct("Arguments", [])  # it has none

    def __init__(self, scale: int, **_arguments: object) -> None:
        super().__init__()
        self.scale, self.up, self.conv = scale, BicubicUp(scale), torch.nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(self.conv(self.up(x)), 0, 1)


if __name__ == "__main__":
    NETWORKS.add("sharpen", Sharpen)
    network, file = build_model("sharpen", 2, {}), Path("sharpen-x2.safetensors")
    kernel = torch.tensor([[[[0, -1, 0], [-1, 5, -1], [0, -1, 0.0]]]])
    network.load_state_dict({"conv.weight": kernel, "conv.bias": torch.zeros(1)})  # in place of a training
    save_model(file, network, Descriptor(name="sharpen", architecture="sharpen", scale=2))
    print(clesr.upscale(np.eye(64, dtype=np.uint8) * 200, 2, str(file)).shape)
