"""What each rewrite of DenseNet's kernels gains: measured against what it replaced, on the same inputs in the same run,
and predicted from the floors, except where a docstring says otherwise."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from kernel_checks import BROKEN
from kernel_times import Device, Kernel, Run, bytes_of, device_seconds, find, kernels_in_a_run, plan_of
from stage import tell
from torch import Tensor

from clesr.engines.backends.cuda import engine as cuda_engine
from clesr.engines.backends.cuda.kernels.conv import conv3
from clesr.engines.backends.cuda.kernels.planes import plane
from clesr.engines.backends.cuda.kernels.up import up_conv3
from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import first_line
from clesr.engines.models.layers import BicubicUp
from clesr.engines.models.weights import find_model
from clesr.tools.bench.turns import by_device, in_flight, one_at_a_time

GROWTH, LAYERS, WIDTH = 16, 8, 128
FULL_N = 64  # output channels from which on a matrix unit is full: 16 are at a quarter of the peak


@dataclass(frozen=True, slots=True)
class Gain:
    """Seconds before and after a rewrite, and the share of ``before`` that it was predicted to save."""

    rewrite: str
    before: float
    after: float
    predicted: float

    def as_json(self) -> dict[str, Any]:
        return {
            "rewrite": self.rewrite,
            "before_us": round(self.before * 1e6, 2),
            "after_us": round(self.after * 1e6, 2),
            "predicted_gain": round(self.predicted, 4),
            "found_gain": round(1 - self.after / self.before, 4),
        }

    def __str__(self) -> str:
        found = 1 - self.after / self.before
        return (
            f"{self.rewrite}: {1e6 * self.before:.1f} to {1e6 * self.after:.1f} us, {100 * found:+.0f} % "
            f"(predicted {100 * self.predicted:+.0f} %)"
        )


Measurement = Callable[[], list[Gain]]


def rewrites(
    device: Device, network: Any, kernels: Sequence[Kernel], scale: int, shape: tuple[int, int]
) -> dict[str, Measurement]:
    """How to measure every rewrite that can be measured on ``device``, by what it is of."""
    found: dict[str, Measurement] = {
        "the dense block": lambda: block_gains(device, shape, kernels),
        "the doubling": lambda: shuffle_gains(device, shape, kernels),
        "the tail": lambda: [tail_gain(device, shape, scale, kernels)],
    }
    if device.kind == "cuda":
        found["the graph"] = lambda: [graph_gain(network)]
    return found


def slots(scale: int, shape: tuple[int, int]) -> dict[str, Measurement]:
    """How to measure a second slot on a GPU, by network."""
    return {f"two slots, {name}": partial(slots_gain, name, scale, shape) for name in ("densenet", "fast")}


def attempted(measurements: Mapping[str, Measurement]) -> tuple[list[Gain], list[str]]:
    """The gains that can be measured, and of each measurement that fails a line that says why: the others and the
    kernels' own times are not lost with it."""
    gains: list[Gain] = []
    lost: list[str] = []
    for name, measure in measurements.items():
        try:
            for gain in measure():
                gains.append(gain)
                tell(str(gain), **gain.as_json())
        except BROKEN as error:
            lost.append(f"{name} not measured: {first_line(error)}")
            tell(lost[-1])
    return gains, lost


class Block:
    """One dense block's layers 2 to 8 in three forms, in the engine's own buffers."""

    def __init__(self, device: Device, kernels: Sequence[Kernel]) -> None:
        ahead = find(kernels, "looking ahead")
        x, self.ahead, self.ahead_bias, _out = ahead.arguments
        self.scratch = ahead.keywords["scratch"]
        height, width, _ = x.shape
        self.buffer = torch.as_strided(x, (height, width, WIDTH), x.stride(), x.storage_offset())
        self.wide, self.narrow = plan_of(kernels, "looking ahead"), plan_of(kernels, "48 to 16,")
        self.parts = [device.half(height, width, GROWTH) for _ in range(LAYERS)]
        self.joined = [plane(height, width, i * GROWTH, device.kind) for i in range(1, LAYERS + 1)]
        self.plain = [device.half(3, 3, i * GROWTH, GROWTH) for i in range(1, LAYERS)]
        self.bias = device.full(GROWTH)
        self.rest = [device.half(3, 3, i * GROWTH, GROWTH) for i in (1, 2, 3)]

    def concatenated(self) -> None:
        """Each layer's input, and the block's output, put together by torch."""
        for i, weights in enumerate(self.plain, 1):
            torch.cat(self.parts[:i], 2, out=self.joined[i - 1])
            conv3(self.joined[i - 1], weights, self.bias, self.parts[i], **self.narrow)
        torch.cat(self.parts, 2, out=self.joined[-1])

    def in_runs(self) -> None:
        """Each layer reads a run of one buffer and writes the next."""
        for i, weights in enumerate(self.plain, 1):
            self._layer(i, weights)

    def with_look_ahead(self) -> None:
        """As the engine has it."""
        g = GROWTH
        for i, weights in enumerate(self.plain[:3], 1):
            self._layer(i, weights)
        x, out = self.buffer[..., : 4 * g], self.buffer[..., 4 * g : 5 * g]
        conv3(x, self.ahead, self.ahead_bias, out, scratch=self.scratch, **self.wide)
        for i, weights in enumerate(self.rest):
            x, out = self.buffer[..., 4 * g : (5 + i) * g], self.buffer[..., (5 + i) * g : (6 + i) * g]
            sums = self.scratch[..., i * g : (i + 1) * g]
            conv3(x, weights, self.bias, out, partial=sums, **self.narrow)

    def _layer(self, i: int, weights: Tensor) -> None:
        g = GROWTH
        conv3(
            self.buffer[..., : i * g],
            weights,
            self.bias,
            self.buffer[..., i * g : (i + 1) * g],
            **self.narrow,
        )


def block_gains(device: Device, shape: tuple[int, int], kernels: Sequence[Kernel]) -> list[Gain]:
    """No concatenation: predicted by the bytes it would move. Look-ahead: by the matrix unit, of which N columns of
    output channels use N / FULL_N."""
    block = Block(device, kernels)
    pixels = shape[0] * shape[1]
    joined = device_seconds(block.concatenated, device)
    runs = device_seconds(block.in_runs, device)
    ahead = device_seconds(block.with_look_ahead, device)
    moved = sum(2 * pixels * i * GROWTH * 2 for i in range(2, LAYERS + 1))
    narrow = FULL_N / GROWTH
    units = [i * narrow for i in range(1, LAYERS)]  # of a 16 to 16 convolution at full speed
    looking = sum(units[:3]) + 16 + sum(i * narrow for i in (1, 2, 3))
    return [
        Gain("channel runs in place of concatenation", joined, runs, moved / device.bandwidth / joined),
        Gain("look-ahead", runs, ahead, 1 - looking / sum(units)),
    ]


def shuffle_gains(device: Device, shape: tuple[int, int], kernels: Sequence[Kernel]) -> list[Gain]:
    """Phases stored in place, against the same kernel and torch's shuffle after it, and against torch's own three steps
    (convolution, ReLU, shuffle); predicted by the bytes of the shuffle."""
    wide = device.half(1, 4 * WIDTH, *shape).to(memory_format=torch.channels_last)
    x = device.half(1, WIDTH, *shape).to(memory_format=torch.channels_last)
    weights = device.half(4 * WIDTH, WIDTH, 3, 3).to(memory_format=torch.channels_last)
    bias = device.half(4 * WIDTH)

    def by_torch() -> Tensor:
        return F.pixel_shuffle(F.relu(F.conv2d(x, weights, bias, padding=1)), 2)

    ours = device_seconds(find(kernels, "up_conv3").run, device)
    shuffle = device_seconds(lambda: F.pixel_shuffle(wide, 2), device)
    theirs = device_seconds(by_torch, device)
    saved = 2 * bytes_of(wide) / device.bandwidth
    return [
        Gain("phases stored in place of a shuffle", ours + shuffle, ours, saved / (ours + shuffle)),
        Gain("up_conv3 in place of torch's three", theirs, ours, 2 * saved / theirs),
    ]


def tail_gain(device: Device, shape: tuple[int, int], scale: int, kernels: Sequence[Kernel]) -> Gain:
    """The fused tail, as the engine runs it, against the last doubling by ``up_conv3`` and torch for what follows;
    predicted by the bytes that never go to memory."""
    lr = torch.randint(0, 256, shape, device=device.kind, dtype=torch.uint8)
    tail = [kernel for kernel in kernels if kernel.name.startswith(("project", "finish"))]
    features, weights, phase_bias = tail[0].arguments[:3]
    doubled = device.half(shape[0] * scale, shape[1] * scale, WIDTH)
    wide, plan = doubled.permute(2, 0, 1)[None], plan_of(kernels, "up_conv3")
    last, bias = device.half(1, WIDTH, 3, 3).to(memory_format=torch.channels_last), device.half(1)
    base = BicubicUp(scale).to(device.kind, torch.float16)

    def unfused() -> Tensor:
        up_conv3(features, weights, phase_bias, doubled, **plan)
        level = base((lr.float() / 255).half()[None, None]).clamp(0.001, 0.999)
        y = torch.sigmoid(F.conv2d(wide, last, bias, padding=1) + torch.log(level / (1 - level)))
        return (y.float() * 255).round().clamp(0, 255).to(torch.uint8)

    def fused() -> None:
        for kernel in tail:
            kernel.run()

    before, after = device_seconds(unfused, device), device_seconds(fused, device)
    projected = 2 * 36 * wide.shape[2] * wide.shape[3] // 4
    return Gain("fused tail", before, after, 2 * (bytes_of(wide) - projected) / device.bandwidth / before)


def graph_gain(network: Any) -> Gain:
    """One CUDA graph a frame against launches one by one, both with one frame in flight; predicted from the time of
    a launch that does next to nothing, times the kernels of a frame."""
    one = torch.zeros(1, device="cuda")

    def wall(run: Run, count: int) -> float:
        run()
        torch.cuda.synchronize()
        start = perf_counter()
        for _ in range(count):
            run()
        torch.cuda.synchronize()
        return (perf_counter() - start) / count

    launched = wall(network.run, 50)
    captured = device_seconds(network.run, Device("cuda", 1, 1))
    launch = wall(lambda: one.add_(1), 2000)
    bound = launch * kernels_in_a_run(network.run)
    return Gain(
        "CUDA graph in place of launches", launched, captured, max(0.0, 1 - captured / max(bound, captured))
    )


def slots_gain(name: str, scale: int, shape: tuple[int, int], seconds: float = 1.5) -> list[Gain]:
    """Two slots against one, NumPy to NumPy; predicted from the device's own time of a frame, which is all that
    is left when the host's work and the copies hide behind it."""
    lr = torch.randint(0, 256, shape, dtype=torch.uint8).numpy()
    engine = cuda_engine.open_cuda(find_model(name, scale), shape)
    try:
        one_at_a_time(engine, lr, 0.3, SYSTEM)
        single = statistics.median(one_at_a_time(engine, lr, seconds, SYSTEM))
        both = 1 / in_flight(engine, lr, seconds, SYSTEM)
        alone = statistics.median(by_device(engine, lr, 0.5, SYSTEM)["device"])
    finally:
        engine.close()
    return [Gain(f"two slots in place of one, {name}", single, both, 1 - alone / single)]
