"""DenseNet by the kernels: one LR image of integer levels in, one SR image of integer levels out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clesr.engines.kernels.conv import conv3, first_conv3, up_conv3
from clesr.engines.kernels.tail import TAPS, finish, project
from clesr.engines.models import DenseBlock, DenseNet

GROWTH = 16  # channels of a dense layer: the narrowest tile of a matrix unit
LAYERS = 8


class UnsupportedNetworkError(Exception):
    """The kernels cannot run this network; the message says why."""


@dataclass(frozen=True, slots=True)
class _Conv:
    weights: Tensor  # (3, 3, C_in, C_out) FP16, or phase-major with 4 in front
    bias: Tensor  # FP32


class DenseNetKernels:
    """``module`` on ``device`` for LR images of ``shape`` (H, W) and ``dtype`` (torch.uint8 or torch.uint16).

    All memory is allocated here; ``run`` allocates nothing, so that it can be captured in a CUDA graph.

    The dense block has no concatenation: a layer reads a run of the block's 128-channel buffer and writes the next 16
    channels. What the first four layers' outputs give to the last four is one convolution of 64 channels
    (look-ahead); of its sums the first 16 are already the fifth layer's, the others wait for layers 6 to 8.

    Raises UnsupportedNetworkError for networks of other numbers.
    """

    def __init__(
        self, module: nn.Module, shape: tuple[int, int], dtype: torch.dtype, device: torch.device | str
    ) -> None:
        if not isinstance(module, DenseNet):
            raise UnsupportedNetworkError(f"the kernels run densenet, not {type(module).__name__}")
        if module.skip not in ("none", "add"):
            raise UnsupportedNetworkError(f"the kernels know no skip {module.skip}")
        blocks = [block for block in module.blocks if isinstance(block, DenseBlock)]
        sizes = {
            (len(block.layers), conv.out_channels)
            for block in blocks
            for conv in block.layers
            if isinstance(conv, nn.Conv2d)
        }
        if sizes != {(LAYERS, GROWTH)}:
            raise UnsupportedNetworkError(f"the kernels want blocks of {LAYERS} layers of {GROWTH} channels")
        self.scale, self.skip = module.scale, module.skip
        height, width = shape
        channels = LAYERS * GROWTH

        def half(*size: int) -> Tensor:
            return torch.empty(size, dtype=torch.float16, device=device)

        def load(conv: nn.Module) -> _Conv:
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            weights = conv.weight.detach().permute(2, 3, 1, 0).to(device, torch.float16).contiguous()
            return _Conv(weights, conv.bias.detach().to(device, torch.float32))

        def load_phases(conv: nn.Conv2d) -> _Conv:
            assert conv.bias is not None
            c_out = conv.out_channels // 4
            weights = conv.weight.detach().reshape(c_out, 4, conv.in_channels, 3, 3).permute(1, 3, 4, 2, 0)
            bias = conv.bias.detach().reshape(c_out, 4).T.contiguous()
            return _Conv(weights.to(device, torch.float16).contiguous(), bias.to(device, torch.float32))

        self.lr = torch.empty(shape, dtype=dtype, device=device)
        self.sr = torch.empty((height * self.scale, width * self.scale), dtype=dtype, device=device)
        self._low = [load(conv) for conv in module.low]
        self._blocks = [[load(conv) for conv in _look_ahead(block)] for block in blocks]
        self._up = [load_phases(stage.conv) for stage in module.up]  # type: ignore[arg-type]
        last = module.last.weight.detach()[0].reshape(channels, 9)
        self._last = torch.zeros((channels, TAPS), dtype=torch.float16, device=device)
        self._last[:, :9] = last.to(device, torch.float16)
        assert module.last.bias is not None
        self._last_bias = module.last.bias.detach().to(device, torch.float32)
        base = module.base
        self._base = (
            None if base is None else base.taps.reshape(-1, 5, 5).to(device, torch.float32).contiguous()
        )

        self._first = half(height, width, channels // 2)
        self._features = [half(height, width, channels) for _ in range(3)]  # low-level, and two in turn
        self._scratch = torch.empty((height, width, 3 * GROWTH), dtype=torch.float32, device=device)
        self._ups = [half(height << i, width << i, channels) for i in range(1, len(self._up))]
        half_height, half_width = self.sr.shape[0] // 2, self.sr.shape[1] // 2
        self._projected = half(half_height, half_width, 4, 9)

    def run(self) -> None:
        """Read ``self.lr``, write ``self.sr``."""
        first_conv3(self.lr, self._low[0].weights, self._low[0].bias, self._first)
        low, *turns = self._features
        conv3(self._first, self._low[1].weights, self._low[1].bias, low)
        features = low
        for index, block in enumerate(self._blocks):
            out = turns[index % 2]
            self._dense_block(block, features, out)
            features = out
        if self.skip == "add":
            features += low
        for stage, out in zip(self._up[:-1], self._ups, strict=True):
            up_conv3(features, stage.weights, stage.bias, out)
            features = out
        project(features, self._up[-1].weights, self._up[-1].bias, self._last, self._projected)
        finish(self._projected, self.lr, self._base, self._last_bias, self.sr)

    def _dense_block(self, layers: list[_Conv], x: Tensor, out: Tensor) -> None:
        one, two, three, four, ahead, six, seven, eight = layers
        g, scratch = GROWTH, self._scratch
        conv3(x, one.weights, one.bias, out[..., :g])
        for i, layer in enumerate((two, three, four), 1):
            conv3(out[..., : i * g], layer.weights, layer.bias, out[..., i * g : (i + 1) * g])
        conv3(out[..., : 4 * g], ahead.weights, ahead.bias, out[..., 4 * g : 5 * g], scratch=scratch)
        for i, layer in enumerate((six, seven, eight)):
            conv3(
                out[..., 4 * g : (5 + i) * g], layer.weights, layer.bias, out[..., (5 + i) * g : (6 + i) * g],
                partial=scratch[..., i * g : (i + 1) * g],
            )  # fmt: skip


def _look_ahead(block: DenseBlock) -> list[nn.Conv2d]:
    """Layers 1 to 4, layers 5 to 8 as far as they read 1 to 4 as one, and of 6 to 8 the rest."""
    layers = [layer for layer in block.layers if isinstance(layer, nn.Conv2d)]
    seen = 4 * GROWTH
    ahead = nn.Conv2d(seen, 4 * GROWTH, 3, padding=1)
    biases = [layer.bias for layer in layers[4:] if layer.bias is not None]
    ahead.weight.data = torch.cat([layer.weight.detach()[:, :seen] for layer in layers[4:]])
    ahead.bias.data = torch.cat([bias.detach() for bias in biases])  # type: ignore[union-attr]
    rest = []
    for layer in layers[5:]:
        part = nn.Conv2d(layer.in_channels - seen, GROWTH, 3, padding=1)
        part.weight.data = layer.weight.detach()[:, seen:]
        rest.append(part)
    return [*layers[:4], ahead, *rest]
