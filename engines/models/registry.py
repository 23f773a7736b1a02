"""The networks by name: torch modules, (N, 1, H, W) float in [0, 1] -> (N, 1, sH, sW) float in [0, 1].

A new one is a file and a line in NETWORKS, or an entry point ``clesr.models`` of another package. Its class is called
with the scale and with what its ``Arguments`` say, a msgspec.Struct of the descriptor's numbers and their ranges, whose
fields are the keywords. It has ``scale``; ``levels`` names what it takes beside the image, as a second input
(N, len(levels)); ``carries_image`` says that it adds its output to the enlarged image, which then passes none of its
layers, so that a precision such as bf16 does not round it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from clesr.engines.common.errors import WeightsError
from clesr.engines.common.parsing import check_choice, convert
from clesr.engines.common.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

SCALES = (2, 4, 8)
LEVELS = ("noise", "detail", "peaks", "blocks", "floor")  # that are estimated of an image (engines/levels.py)
# Of densenet, which loads torch, as help must not.
SKIPS, BASES = ("none", "add", "low", "all"), ("none", "bicubic")
MOST_PARAMETERS = 1 << 28  # of a network: 1 GB


class NetworkClass(Protocol):
    """The class of a network."""

    Arguments: type[msgspec.Struct]

    def __call__(self, scale: int, **arguments: Any) -> nn.Module: ...


NETWORKS: Registry[NetworkClass] = Registry(
    "clesr.models",
    {
        "densenet": "clesr.engines.models.densenet:DenseNet",
        "srcnn": "clesr.engines.models.srcnn:SRCNN",
        "fast": "clesr.engines.models.fast:FastSR",
    },
)


def names_file(name_or_path: str) -> bool:
    """Whether that is the path of a file, and no name of a model."""
    path = Path(name_or_path)
    return bool(path.suffix) or path.parent != Path()


def meta_network(architecture: str, scale: int, arguments: Mapping[str, Any]) -> nn.Module:
    """The network ``architecture`` in eval mode, its weights shapes without memory (meta tensors).

    Raises WeightsError where the architecture or an argument is unknown, or the network larger than MOST_PARAMETERS.
    """
    import torch

    with torch.device("meta"):
        network = _construct(architecture, scale, arguments)
    parameters = count_parameters(network)
    if parameters > MOST_PARAMETERS:
        raise WeightsError(
            f"{architecture} x{scale} of {dict(arguments)} has {parameters} numbers, at most {MOST_PARAMETERS} are "
            "allowed; make it smaller"
        )
    return network


def build_model(architecture: str, scale: int, arguments: Mapping[str, Any]) -> nn.Module:
    """The network ``architecture`` in eval mode, its weights as torch initialises them. Raises as ``meta_network``."""
    meta_network(architecture, scale, arguments)
    return _construct(architecture, scale, arguments)


def _construct(architecture: str, scale: int, arguments: Mapping[str, Any]) -> nn.Module:
    if architecture not in NETWORKS:
        raise WeightsError(
            f"architecture {architecture[:60]!r} is unknown; this clesr knows {', '.join(NETWORKS)}"
        )
    try:
        check_choice("scale", scale, SCALES)
        network = NETWORKS[architecture]
        known = convert(dict(arguments), network.Arguments)
        return network(scale, **msgspec.structs.asdict(known)).eval()
    except ValueError as error:
        raise WeightsError(
            f"{architecture} x{scale} cannot be built from {str(dict(arguments))[:200]}: {error}; "
            "use weights that this clesr made"
        ) from error


def carries_image(network: nn.Module) -> bool:
    """Whether ``network`` adds its output to the enlarged image, which then need not pass its layers."""
    return bool(getattr(network, "carries_image", False))


def level_names(network: nn.Module) -> tuple[str, ...]:
    """The levels that ``network`` takes beside the image; none for most."""
    names: tuple[str, ...] = getattr(network, "levels", ())
    return names


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters of ``model``."""
    return sum(p.numel() for p in model.parameters())


def count_operations(model: nn.Module, height: int, width: int) -> int:
    """Floating-point operations of the convolutions for one (height, width) LR image.

    A multiplication and an addition count as two. Bias, activation and the fixed bicubic base
    are left out, as is usual in papers.
    """
    import torch

    total = 0

    def add(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, torch.nn.Conv2d)
        pixels = output.shape[-1] * output.shape[-2]
        total += 2 * module.weight.numel() * pixels

    device, names = next(model.parameters()).device, level_names(model)
    levels = (torch.zeros(1, len(names), device=device),) if names else ()
    with ExitStack() as hooks, torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                hooks.enter_context(module.register_forward_hook(add))
        model(torch.zeros(1, 1, height, width, device=device), *levels)
    return total
