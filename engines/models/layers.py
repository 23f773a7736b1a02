"""Layers that the networks share.

A network with ``levels`` takes the named figures of each image beside it, (N, len(levels)). They move the biases of its
convolutions, and the weights of those that are steered (:class:`LevelConv`). For one image all of these are numbers
that can be worked out beforehand: :class:`Settled`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from msgspec import Meta
from numpy.typing import NDArray
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
        weights, biases = self.moved(told)
        if self.steer is None:
            return F.conv2d(x, self.weight, padding=1) + biases[:, :, None, None]
        images, height, width = x.shape[0], x.shape[2], x.shape[3]
        apart = weights.reshape(-1, *self.weight.shape[1:]), biases.reshape(-1)
        y = F.conv2d(x.reshape(1, -1, height, width), *apart, padding=1, groups=images)
        return y.reshape(images, -1, height, width)

    def moved(self, told: Tensor) -> tuple[Tensor, Tensor]:
        """The weights (N, C_out, C_in, 3, 3), or (C_out, C_in, 3, 3) where they do not move, and the biases (N, C_out)
        for ``told`` (N, TOLD)."""
        assert self.bias is not None
        weights: Tensor = self.weight
        if self.steer is not None:
            weights = (weights.reshape(1, -1) + told @ self.steer).reshape(-1, *weights.shape)
        return weights, self.bias + told @ self.shift.T


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

    def of_one(self, levels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same of one image's levels (L,), by NumPy: (TOLD,). It takes a tenth of the time, and unlike torch it
        waits for no other thread of Python in between."""
        x = np.arcsinh(STEEP * levels) / math.asinh(STEEP)
        for layer in (self.wide, self.linear):
            x = np.maximum(layer.weight.detach().numpy() @ x + layer.bias.detach().numpy(), 0)
        return x.astype(np.float32)


def conv3x3(channels_in: int, channels_out: int, told: bool = False, steered: bool = False) -> nn.Conv2d:
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


class Settled:
    """A network with levels as ``plain``, one without, whose weights and biases are set for each image: ``moving`` are
    the names of those in ``plain``.

    Engines run ``plain``; a call gives what they have to set for an image.
    """

    def __init__(self, network: nn.Module) -> None:
        self.plain = copy.deepcopy(network).requires_grad_(False)
        self._tell: LevelEmbedding = self.plain.tell  # type: ignore[assignment]
        self.plain.tell, self.plain.levels = None, ()  # type: ignore[assignment]
        fixed: dict[str, Tensor] = {}  # the numbers of an image whose levels move nothing
        moves: list[Tensor] = []  # (TOLD, numbers): by how much each feature moves them
        for name, conv in list(self.plain.named_modules()):
            if isinstance(conv, LevelConv):
                parent, _, leaf = name.rpartition(".")
                setattr(self.plain.get_submodule(parent), leaf, _as_plain(conv))
                assert conv.bias is not None
                fixed[f"{name}.bias"] = conv.bias
                moves.append(conv.shift.T)
                if conv.steer is not None:
                    fixed[f"{name}.weight"] = conv.weight
                    moves.append(conv.steer)
        self._fixed, self._shapes = _as_line(fixed.values()), {n: t.shape for n, t in fixed.items()}
        self._moves = np.ascontiguousarray(torch.cat(moves, 1).numpy())

    @property
    def moving(self) -> list[str]:
        return list(self._shapes)

    def __call__(self, levels: NDArray[np.float32]) -> dict[str, Tensor]:
        """The tensors that are ``moving`` for an image of ``levels`` (L,), by their names."""
        # Not by matmul: the threads of a BLAS would wait, at work, for more.
        line = self._fixed + np.einsum("t,tn->n", self._tell.of_one(levels), self._moves)
        found, begin = {}, 0
        for name, shape in self._shapes.items():
            end = begin + shape.numel()
            found[name] = torch.from_numpy(line[begin:end].reshape(shape))
            begin = end
        return found


def _as_line(tensors: Iterable[Tensor]) -> NDArray[np.float32]:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).numpy()


def _as_plain(conv: LevelConv) -> nn.Conv2d:
    plain = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1).requires_grad_(False)
    plain.load_state_dict({"weight": conv.weight, "bias": conv.bias})  # copies: they will be set
    return plain


def trusted(added: Tensor, trust: Tensor | None) -> Tensor:
    """What a network adds to the bicubic image, (N, C, s * H, s * W), as far as ``trust`` (N, 1, H, W) in [0, 1]
    goes."""
    if trust is None:
        return added
    images, channels, height, width = added.shape
    rows, columns = trust.shape[2], trust.shape[3]
    if (rows, columns) == (height, width):
        return added * trust
    cells = added.reshape(images, channels, rows, height // rows, columns, width // columns)
    return (cells * trust[:, :, :, None, :, None]).reshape(images, channels, height, width)
