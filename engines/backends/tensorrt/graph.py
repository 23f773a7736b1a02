"""The graph that TensorRT gets, with every type in it, and the check of what TensorRT made of it.

Newer TensorRT keeps exactly the types of the graph. So each learned convolution casts its input to FP16 itself. The
bicubic base, its logit and what follows the last convolution stay in FP32: in FP16 a level of a 16-bit image, and
of a bright 8-bit one, is lost. Together they are below a hundredth of DenseNet's operations.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from clesr.engines.common.errors import EngineError
from clesr.engines.models.registry import level_names

HALF = re.compile(r"\b(half|fp16|float16)\b", re.IGNORECASE)
MOVES = ("reformat", "constant", "shuffle", "noop", "signal", "wait")  # layers that compute nothing


class TypedNetwork(nn.Module):
    """``network`` on (1, 1, H, W) float32 in [0, 1], its learned convolutions in FP16, its result in float32. A network
    that is told of each image takes its levels, (1, L), and their trust, (1, 1, H, W) in [0, 1], too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).float()
        convolutions = {name: m for name, m in self.network.named_modules() if isinstance(m, nn.Conv2d)}
        self.convolutions = len(convolutions)
        for name, conv in convolutions.items():
            parent, _, leaf = name.rpartition(".")
            typed = _HalfConv(conv, to_float=name == "last")
            setattr(self.network.get_submodule(parent), leaf, typed)

    def forward(self, x: Tensor, levels: Tensor | None = None, trust: Tensor | None = None) -> Tensor:
        y: Tensor = self.network(x) if levels is None else self.network(x, levels, trust)
        return y


class _HalfConv(nn.Module):
    """``conv`` in FP16 on input of any type; its result in FP16, or in FP32 where ``to_float``."""

    def __init__(self, conv: nn.Conv2d, *, to_float: bool) -> None:
        super().__init__()
        self.conv, self.to_float = conv.half(), to_float

    def forward(self, x: Tensor, *told: Tensor) -> Tensor:
        y: Tensor = self.conv(x.half(), *(one.half() for one in told))
        return y.float() if self.to_float else y


def export(network: nn.Module, shape: tuple[int, int], device: torch.device | str) -> ExportedProgram:
    """``network`` with its types, for LR images of ``shape`` (H, W) alone, on ``device``."""
    typed = TypedNetwork(network).eval().to(device)
    shapes = input_shapes(shape, len(level_names(network)))
    with torch.no_grad():
        return torch.export.export(typed, tuple(torch.zeros(one, device=device) for one in shapes.values()))


def input_shapes(shape: tuple[int, int], levels: int) -> dict[str, tuple[int, ...]]:
    """Those of a graph's inputs by their names, for LR images of ``shape`` and a network that takes ``levels``."""
    told = {"levels": (1, levels), "trust": (1, 1, *shape)} if levels else {}
    return {"x": (1, 1, *shape), **told}


def check_precision(information: str, convolutions: int) -> None:
    """Raise EngineError where an engine does not run its learned convolutions in FP16.

    ``information`` is what TensorRT's engine inspector says as JSON of an engine built with detailed layers from
    :func:`export`, ``convolutions`` how many the network has. Several may have become one layer.
    """
    try:
        layers = json.loads(information)["Layers"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EngineError(f"TensorRT's engine inspector gives no list of layers ({error})") from error
    learned = [layer for layer in layers if isinstance(layer, dict) and _is_learned_convolution(layer)]
    other = [layer for layer in learned if not HALF.search(_types(layer))]
    if other:
        raise EngineError(
            f"TensorRT runs {len(other)} of {len(learned)} convolution layers in another type than FP16, "
            f"the first {_name(other[0])!r} in {_types(other[0]) or 'an unknown one'}"
        )
    if not learned:
        raise EngineError(
            f"the built engine shows none of the network's {convolutions} convolutions, so their type is unknown"
        )


def _is_learned_convolution(layer: Mapping[str, Any]) -> bool:
    kind = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}".lower()
    if any(word in kind for word in MOVES):
        return False
    named = re.findall(r"\[([\w.]+)/convolution", f"{_name(layer)} {layer.get('Metadata', '')}")
    if named:
        return any(not module.endswith("base") for module in named)
    return "conv" in kind


def _types(layer: Mapping[str, Any]) -> str:
    """The types of what ``layer`` reads, holds and gives, in TensorRT's words. Casts and formats may be fused into it,
    so that not all of them are FP16."""
    words = []
    for part in ("Inputs", "Weights", "Outputs"):
        tensors = layer.get(part)
        for tensor in tensors if isinstance(tensors, list) else [tensors]:
            if isinstance(tensor, dict):
                words += [str(v) for k, v in tensor.items() if "format" in k.lower() or "type" in k.lower()]
    return ", ".join(words)


def _name(layer: Mapping[str, Any]) -> str:
    return str(layer.get("Name", ""))
