"""Torch modules as OpenVINO graphs: each function that the networks use, against torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov  # type: ignore[import-untyped]
import openvino.opset13 as ops  # type: ignore[import-untyped]
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clesr.engines.backends.openvino.graph import Symbol, apply
from clesr.engines.common.errors import EngineError
from clesr.engines.models.layers import BicubicUp

Function = Callable[[Tensor], Tensor]


class Module(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def by_openvino(function: Function, x: Tensor) -> Tensor:
    parameter = ops.parameter(list(x.shape), np.float32)
    graph = ov.Model([apply(Module(function), Symbol(parameter)).output], [parameter])
    compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.from_numpy(compiled([x.numpy()])[0].copy())


WEIGHT = torch.linspace(-1, 1, 4 * 4 * 9).reshape(4, 4, 3, 3)
FUNCTIONS: dict[str, Function] = {
    "conv": lambda x: F.conv2d(x, WEIGHT, torch.arange(4.0), padding=1),
    "conv without bias, stride, dilation": lambda x: F.conv2d(x, WEIGHT, stride=(2, 1), dilation=(1, 2)),
    "relu": lambda x: F.relu(x - 0.5),
    "sigmoid": torch.sigmoid,
    "log": lambda x: torch.log(x + 1),
    "clamp": lambda x: torch.clamp(x, 0.25, 0.75),
    "round, halves to even": lambda x: torch.round(torch.round(x * 8) / 2),
    "zero padding": lambda x: F.pad(x, (1, 0, 2, 3)),
    "padding by a value": lambda x: F.pad(x, (1, 1), value=0.5),
    "edge padding": lambda x: F.pad(x, (2, 2, 1, 3), mode="replicate"),
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "cat": lambda x: torch.cat([x, 2 * x, x - 1], 1),
    "stack": lambda x: torch.stack([x, 1 - x], 1),
    "matmul": lambda x: torch.matmul(x, torch.arange(16.0).reshape(8, 2)),
    "batched matmul": lambda x: torch.matmul(x[0], torch.arange(64.0).reshape(4, 8, 2)),
    "arithmetic": lambda x: (2 - x) / (x + 3) * torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1) - x,
    "reshape and permute": lambda x: x.permute(3, 0, 2, 1).reshape(8, 24),
    "integer index": lambda x: x[0, 2],
    "negative index": lambda x: x[0, -1, -2],
    "new axes": lambda x: x[0, 0][None, None],
    "slices": lambda x: x[:, 1:3, ::2, -5:],
    "ellipsis": lambda x: x[..., 1:-1],
    "ellipsis in the middle": lambda x: x[0, ..., 3],
    "whole": lambda x: x[:] + 0,
    "bicubic image": lambda x: BicubicUp(8)(x[:, :1]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_equals_torch(name: str) -> None:
    x = torch.rand(1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    expected = FUNCTIONS[name](x)
    result = by_openvino(FUNCTIONS[name], x)
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-5)


def test_shapes_are_torchs() -> None:
    x = torch.zeros(1, 4, 6, 8)
    for function in FUNCTIONS.values():
        symbol = function(Symbol(ops.parameter(list(x.shape), np.float32)))  # type: ignore[arg-type]
        assert symbol.shape == function(x).shape


def test_unknown_functions_are_named() -> None:
    with pytest.raises(EngineError, match=r"does not know torch's softplus.*--engine torch"):
        by_openvino(F.softplus, torch.zeros(1, 1, 2, 2))
    with pytest.raises(EngineError, match="grouped"):
        by_openvino(lambda x: F.conv2d(x, torch.zeros(4, 1, 3, 3), groups=4), torch.zeros(1, 4, 5, 5))
