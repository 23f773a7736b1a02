"""The networks as pure torch modules: (N, 1, H, W) float in [0, 1] -> (N, 1, sH, sW) float in [0, 1].

One with ``levels`` takes the named figures of each image as well, (N, len(levels)): a plane of one value through a
convolution adds to its bias, so that is where they go, in every layer (:class:`LevelConv`).

DenseNet is that of Izadi, Moriarty and Hamarneh (MICCAI 2018, arXiv 1806.08338), section 2.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from clesr.engines.common.errors import WeightsError
from clesr.engines.common.parsing import convert
from clesr.engines.resample import polyphase_taps

SCALES = (2, 4, 8)
SKIPS = ("none", "add", "low", "all")
BASES = ("none", "bicubic")
MOST_NUMBERS = 1 << 28  # of a network: 1 GB
LOGIT_MARGIN = 1 / 1024  # keeps the logit of a black or white pixel finite, also in FP16
TOLD = 16  # features that a network makes of an image's levels


class LevelConv(nn.Conv2d):
    """A 3x3 convolution whose biases move with what is ``told`` of the image, (N, TOLD); at first not at all."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1)
        self.shift = nn.Parameter(torch.zeros(channels_out, TOLD))

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        y = super().forward(x)
        return y if told is None else y + (told @ self.shift.T)[:, :, None, None]


class Tell(nn.Module):
    """What a network makes of an image's levels, (N, L), for all of its layers: (N, TOLD)."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(levels, TOLD)

    def forward(self, levels: Tensor | None) -> Tensor:
        if levels is None:
            raise ValueError("this network takes the image's levels as a second input")
        return F.relu(self.linear(levels))


def conv3(channels_in: int, channels_out: int, told: bool = False) -> nn.Conv2d:
    if told:
        return LevelConv(channels_in, channels_out)
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)


def activated(conv: nn.Module, x: Tensor, told: Tensor | None) -> Tensor:
    """``conv`` and ReLU."""
    return F.relu(conv(x) if told is None else conv(x, told))


class BicubicUp(nn.Module):
    """Bicubic up-sampling as one fixed 5x5 convolution and a pixel shuffle; edges are repeated.

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
                return self._enlarge(x.float())
        return self._enlarge(x)

    def _enlarge(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(bicubic_phases(x, self.taps), self.scale)


def bicubic_phases(x: Tensor, taps: Tensor) -> Tensor:
    """``x`` (N, 1, H, W) through ``taps``: (N, scale**2, H, W). A function of its own so that engines can keep it in
    FP32."""
    if has_torch_function_unary(x):
        phases: Tensor = handle_torch_function(bicubic_phases, (x,), x, taps)
        return phases
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), taps)


class DenseBlock(nn.Module):
    """``layers`` convolutions of ``growth`` channels; each reads the block's own earlier outputs.

    Only the first layer reads the block's input. The output is all layers' outputs concatenated.
    """

    def __init__(self, channels_in: int, layers: int, growth: int, told: bool = False) -> None:
        super().__init__()
        widths = [channels_in] + [growth * i for i in range(1, layers)]
        self.layers = nn.ModuleList(conv3(width, growth, told) for width in widths)

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        outputs: list[Tensor] = []
        for layer in self.layers:
            source = torch.cat(outputs, 1) if outputs else x
            outputs.append(activated(layer, source, told))
        return torch.cat(outputs, 1)


class UpStage(nn.Module):
    """Sub-pixel up-sampling by two: convolution to four times the channels, ReLU, pixel shuffle."""

    def __init__(self, width: int, told: bool = False) -> None:
        super().__init__()
        self.conv = conv3(width, 4 * width, told)

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        return F.pixel_shuffle(activated(self.conv, x, told), 2)


class DenseNet(nn.Module):
    """The paper's densely connected network with sub-pixel up-sampling.

    ``skip`` is the reading of the connection around the blocks: ``none`` is the paper's text; ``add``
    adds the low-level features to the last block's output; ``low`` and ``all`` are the authors' published
    code (``SRDenseNet`` concatenates the low-level features before up-sampling, ``SRDenseNet_ALL`` feeds
    each block all earlier outputs and squeezes them to twice the width). ``base="bicubic"`` adds
    the logit of the bicubic image before the sigmoid, so that the network learns the difference.
    """

    def __init__(
        self,
        scale: int,
        *,
        blocks: int = 12,
        layers: int = 8,
        growth: int = 16,
        skip: str = "none",
        base: str = "none",
        levels: Sequence[str] = (),
    ) -> None:
        super().__init__()
        _check("scale", scale, SCALES)
        _check("skip", skip, SKIPS)
        _check("base", base, BASES)
        self.scale, self.skip, self.levels = scale, skip, tuple(levels)
        width, told = layers * growth, bool(levels)
        self.tell = Tell(len(levels)) if told else None
        self.low = nn.ModuleList([conv3(1, width // 2, told), conv3(width // 2, width, told)])
        self.blocks = nn.ModuleList(
            DenseBlock(width * (i + 1 if skip == "all" else 1), layers, growth, told) for i in range(blocks)
        )
        self.squeeze = nn.Conv2d(width * (blocks + 1), 2 * width, 1) if skip == "all" else None
        up_width = 2 * width if skip in ("low", "all") else width
        self.up = nn.ModuleList(UpStage(up_width, told) for _ in range(int(math.log2(scale))))
        self.last = conv3(up_width, 1)
        self.base = BicubicUp(scale) if base == "bicubic" else None

    def forward(self, x: Tensor, levels: Tensor | None = None) -> Tensor:
        told = None if self.tell is None else self.tell(levels)
        features = self.features(x, told)
        for stage in self.up:
            features = stage(features, told)
        return self.finish(self.last(features), x)

    def features(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        """What is up-sampled: (N, C, H, W)."""
        low = x
        for conv in self.low:
            low = activated(conv, low, told)
        return self.trunk(low, told)

    def finish(self, y: Tensor, x: Tensor) -> Tensor:
        """The last convolution's output ``y`` as an image; ``x`` is the network's input."""
        if self.base is not None:
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


class SRCNN(nn.Module):
    """Dong et al. 2014: 9-1-5 convolutions of 64 and 32 channels on the bicubic image."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        _check("scale", scale, SCALES)
        self.scale = scale
        self.base = BicubicUp(scale)
        self.features = nn.Conv2d(1, 64, 9, padding=4)
        self.mapping = nn.Conv2d(64, 32, 1)
        self.last = nn.Conv2d(32, 1, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.mapping(F.relu(self.features(self.base(x)))))
        return torch.clamp(self.last(y), 0, 1)


class FastSR(nn.Module):
    """A small plain network for video rate without a GPU: 3x3 convolutions whose output is shuffled to pixels
    and added to the bicubic image."""

    def __init__(self, scale: int, *, channels: int = 32, depth: int = 8, levels: Sequence[str] = ()) -> None:
        super().__init__()
        _check("scale", scale, SCALES)
        self.scale, self.levels = scale, tuple(levels)
        self.tell = Tell(len(levels)) if levels else None
        self.base = BicubicUp(scale)
        widths = [1] + [channels] * (depth - 1)
        self.body = nn.ModuleList(conv3(a, b, bool(levels)) for a, b in itertools.pairwise(widths))
        self.last = conv3(channels, scale * scale)

    def forward(self, x: Tensor, levels: Tensor | None = None) -> Tensor:
        told = None if self.tell is None else self.tell(levels)
        features = x
        for conv in self.body:
            features = activated(conv, features, told)
        detail = F.pixel_shuffle(self.last(features), self.scale)
        return torch.clamp(self.base(x) + detail, 0, 1)


ARCHITECTURES: Mapping[str, Callable[..., nn.Module]] = {
    "densenet": DenseNet,
    "srcnn": SRCNN,
    "fast": FastSR,
}


LevelNames = Annotated[tuple[Annotated[str, Meta(max_length=40)], ...], Meta(max_length=16)]


class _DenseNetArguments(msgspec.Struct, forbid_unknown_fields=True):
    blocks: Annotated[int, Meta(ge=1, le=64)] = 12
    layers: Annotated[int, Meta(ge=1, le=32)] = 8
    growth: Annotated[int, Meta(ge=1, le=256)] = 16
    skip: str = "none"
    base: str = "none"
    levels: LevelNames = ()


class _SRCNNArguments(msgspec.Struct, forbid_unknown_fields=True):
    pass


class _FastSRArguments(msgspec.Struct, forbid_unknown_fields=True):
    channels: Annotated[int, Meta(ge=1, le=4096)] = 32
    depth: Annotated[int, Meta(ge=2, le=256)] = 8
    levels: LevelNames = ()


_ARGUMENTS: Mapping[str, type[msgspec.Struct]] = {
    "densenet": _DenseNetArguments,
    "srcnn": _SRCNNArguments,
    "fast": _FastSRArguments,
}


def lay_out(architecture: str, scale: int, arguments: Mapping[str, Any]) -> nn.Module:
    """The network ``architecture`` with its numbers, in eval mode, its weights shapes without memory (meta tensors).

    Raises WeightsError where the architecture or a number is unknown, or the network larger than MOST_NUMBERS.
    """
    with torch.device("meta"):
        network = _construct(architecture, scale, arguments)
    numbers = count_parameters(network)
    if numbers > MOST_NUMBERS:
        raise WeightsError(
            f"{architecture} x{scale} of {dict(arguments)} has {numbers} numbers, at most {MOST_NUMBERS} are allowed; "
            "make it smaller"
        )
    return network


def build_model(architecture: str, scale: int, arguments: Mapping[str, Any]) -> nn.Module:
    """The network ``architecture`` with its numbers, weights as torch initialises them, in eval mode.

    Raises WeightsError as ``lay_out``.
    """
    lay_out(architecture, scale, arguments)
    return _construct(architecture, scale, arguments)


def _construct(architecture: str, scale: int, arguments: Mapping[str, Any]) -> nn.Module:
    if architecture not in ARCHITECTURES:
        raise WeightsError(
            f"architecture {architecture[:60]!r} is unknown; this clesr knows {', '.join(ARCHITECTURES)}"
        )
    try:
        numbers = msgspec.structs.asdict(convert(dict(arguments), _ARGUMENTS[architecture]))
        return ARCHITECTURES[architecture](scale, **numbers).eval()
    except ValueError as error:
        raise WeightsError(
            f"{architecture} x{scale} cannot be built from {str(dict(arguments))[:200]}: {error}; "
            "use weights that this clesr made"
        ) from error


def carries_image(network: nn.Module) -> bool:
    """Whether ``network`` adds its output to the enlarged image, which then need not pass its layers."""
    return isinstance(network, FastSR) or (isinstance(network, DenseNet) and network.base is not None)


def level_names(network: nn.Module) -> tuple[str, ...]:
    """The levels that ``network`` takes beside the image; none for most."""
    names: tuple[str, ...] = getattr(network, "levels", ())
    return names


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers in ``model``."""
    return sum(p.numel() for p in model.parameters())


def count_operations(model: nn.Module, height: int, width: int) -> int:
    """Floating-point operations of the convolutions for one (height, width) LR image.

    A multiplication and an addition count as two. Bias, activation and the fixed bicubic base
    are left out, as in DESIGN and in the paper's field.
    """
    total = 0

    def add(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        pixels = output.shape[-1] * output.shape[-2]
        total += 2 * module.weight.numel() * pixels

    hooks = [m.register_forward_hook(add) for m in model.modules() if isinstance(m, nn.Conv2d)]
    try:
        device = next(model.parameters()).device
        with torch.no_grad():
            names = level_names(model)
            levels = (torch.zeros(1, len(names), device=device),) if names else ()
            model(torch.zeros(1, 1, height, width, device=device), *levels)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def _in_mixed_precision(x: Tensor) -> bool:
    """Not for a meta tensor, nor for what stands for a tensor while a graph is built."""
    return isinstance(x, Tensor) and not x.is_meta and torch.is_autocast_enabled(x.device.type)


def _check(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} {value!r} is not one of {', '.join(map(str, allowed))}")
