"""DenseNet's kernels on a GPU: what each computes and moves, how long it takes, and the time that the floor allows.

The floor of a kernel is the longer of its operations over the measured matrix peak and its bytes over the measured
bandwidth.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from clesr.engines.backends.cuda.buffers import timed_on_card
from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels

SMALL = 0.05
REPLAYS = 5

Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Device:
    """What is measured on: ``kind`` (cuda or cpu), FLOP/s of a large matrix product, bytes/s of a large copy."""

    kind: str
    peak: float
    bandwidth: float

    def floor(self, flop: float, size: float) -> float:
        """Seconds that ``flop`` operations on ``size`` bytes take at least."""
        return max(flop / self.peak, size / self.bandwidth)

    def half(self, *size: int) -> Tensor:
        """Random FP16 numbers, small enough that no sum of their products overflows."""
        return (SMALL * torch.randn(size, device=self.kind)).half()

    def full(self, *size: int) -> Tensor:
        """The same in FP32."""
        return SMALL * torch.randn(size, device=self.kind)


def device_seconds(run: Run, device: Device) -> float:
    """The median time of one ``run`` on the device alone: many of them in a CUDA graph. On a processor, of
    one that may be the first."""
    if device.kind == "cpu":
        start = perf_counter()
        run()
        return perf_counter() - start
    seconds = timed_on_card(run)
    return statistics.median(seconds() for _ in range(REPLAYS))


def bytes_of(*tensors: Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel at one shape: how often a frame runs it, how to run it, its operations and bytes, and what it was
    called with."""

    name: str
    times: int
    run: Run
    flop: float
    size: float
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def measure(self, device: Device) -> dict[str, Any]:
        found, floor = device_seconds(self.run, device), device.floor(self.flop, self.size)
        return {
            "kernel": self.name,
            "times_a_frame": self.times,
            "found_us": round(found * 1e6, 3),
            "predicted_us": round(floor * 1e6, 3),
            "of_floor": round(floor / found, 4),
            "gflop_s": round(self.flop / found / 1e9, 1),
            "frame_us": round(found * 1e6 * self.times, 2),
        }


def operations(function: str, arguments: Sequence[Any]) -> float:
    """Of one call: products and sums, each as one, of the convolutions in it."""
    x, weights = arguments[:2]
    pixels = x.shape[0] * x.shape[1]
    if function in ("first_conv3", "conv3", "up_conv3"):
        return float(2 * weights.numel() * pixels)
    if function == "project":  # and the last convolution's nine taps of each new pixel
        return float((2 * weights.numel() + 2 * weights.shape[-1] * 9) * pixels)
    if function == "finish":  # nine taps, and 25 of the bicubic image
        return float(2 * (9 + 25) * arguments[4].numel())  # the image
    return 0.0


def kernels_of(network: DenseNetKernels) -> list[Kernel]:
    """Every kernel of one run of ``network``, with the very arguments it runs with; alike ones counted together."""
    kernels: dict[str, Kernel] = {}
    for step in network.steps:
        plan = network.plan_of(step)
        function, arguments = step.call.func.__name__, step.call.args
        keywords = step.call.keywords | ({"plan": plan} if plan is not None else {})
        words = describe(function, arguments, keywords)
        times = kernels[words].times + 1 if words in kernels else 1
        tensors = [part for part in (*arguments, *keywords.values()) if isinstance(part, Tensor)]
        flop, run = operations(function, arguments), partial(step.run, plan, False)
        kernels[words] = Kernel(words, times, run, flop, bytes_of(*tensors), arguments, keywords)
    return list(kernels.values())


def describe(function: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> str:
    """A kernel's name for the table: channels, pixels, and what it adds or leaves."""
    x, weights = arguments[0], arguments[1]
    size = f"{x.shape[1]}x{x.shape[0]}"
    if function in ("first_conv3", "conv3", "up_conv3", "project"):
        phases = 4 if function in ("up_conv3", "project") else 1
        size = f"{weights.shape[-2]} to {f'{phases} x ' * (phases > 1)}{weights.shape[-1] // phases}, {size}"
    more = {"partial": ", on the look-ahead", "scratch": ", looking ahead"}
    return f"{function} {size}" + "".join(text for key, text in more.items() if keywords.get(key) is not None)


def find(kernels: Sequence[Kernel], words: str) -> Kernel:
    """The first kernel whose name has ``words``."""
    return next(kernel for kernel in kernels if words in kernel.name)


def plan_of(kernels: Sequence[Kernel], words: str) -> dict[str, Any]:
    """The keywords of that kernel that are settings, such as a plan chosen on this card; none where there is none."""
    found = next((kernel.keywords for kernel in kernels if words in kernel.name), {})
    return {key: value for key, value in found.items() if value is not None and not isinstance(value, Tensor)}


def profile(run: Run) -> list[dict[str, Any]]:
    """The kernels that one ``run`` launches on the GPU: name, how often, microseconds in all, longest first."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    run()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=activities) as found:
        run()
        torch.cuda.synchronize()
    rows: dict[str, list[float]] = {}
    for event in found.events() or []:
        if event.device_type.name == "CUDA":
            rows.setdefault(event.name, []).append(float(event.time_range.elapsed_us()))
    lines = [
        {"kernel": name, "times_a_frame": len(spans), "frame_us": round(sum(spans), 2)}
        for name, spans in rows.items()
    ]
    return sorted(lines, key=lambda line: -float(str(line["frame_us"])))


def kernels_in_a_run(run: Run) -> int:
    return sum(row["times_a_frame"] for row in profile(run))
