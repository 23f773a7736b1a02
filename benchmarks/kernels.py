"""DenseNet kernel by kernel on a GPU: time, GFLOP/s, the time that the floor allows; and what each rewrite gains.

python benchmarks/kernels.py [--scale 4] [--size 256] [--dry]

The floor of a kernel is the longer of its operations over the measured matrix peak and its bytes over the measured
bandwidth. A rewrite is measured against what it replaced, on the same inputs in the same run; its predicted gain comes
from the floors too, except where its docstring says otherwise. With --dry on a processor, in Triton's interpreter, at
a tiny size: the figures then mean nothing, the way there is the same.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any
from unittest import mock

import click
import torch
import torch.nn.functional as F
from rich.console import Console
from stage import leave
from torch import Tensor

if "--dry" in sys.argv and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported

from clesr.engines import cuda_engine
from clesr.engines.kernels import densenet
from clesr.engines.kernels.conv import conv3, up_conv3
from clesr.engines.kernels.densenet import DenseNetKernels
from clesr.engines.kernels.plan import TRUNK
from clesr.engines.models import BicubicUp, build_model
from clesr.engines.weights import find_model
from clesr.pipeline.clock import SYSTEM
from clesr.tools.benching.peak import bandwidth, matrix_peaks
from clesr.tools.benching.report import WIDE, figure, make_table
from clesr.tools.benching.turns import by_device, in_flight, one_at_a_time

GROWTH, LAYERS, WIDTH = 16, 8, 128
KERNELS = ("first_conv3", "conv3", "hand_over", "up_conv3", "project", "finish")
FULL_N = 64  # output channels from which on a matrix unit is full: GPU.md has 16 at a quarter of the peak
TINY = {"blocks": 1, "skip": "add", "base": "bicubic"}  # what is run dry
SMALL = 0.05
LAUNCHES = 20  # of a kernel in the graph that is timed
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
    start = perf_counter()
    run()
    if device.kind == "cpu":
        return perf_counter() - start
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(LAUNCHES):
            run()
    graph.replay()
    spans = []
    for _ in range(REPLAYS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        spans.append(float(begin.elapsed_time(end)) / 1e3 / LAUNCHES)
    return statistics.median(spans)


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
        return float((2 * weights.numel() + 2 * 4 * weights.shape[-1] * 9) * pixels)
    if function == "finish":  # nine taps, and 25 of the bicubic image
        return float(2 * (9 + 25) * arguments[-1].numel())
    return 0.0


def whole_gain(network: DenseNetKernels, device: Device) -> Gain:
    """All dense blocks in one launch against layer by layer, which ``network`` does afterwards; predicted from the
    launches that are saved, each as long as a kernel that does next to nothing."""
    one = torch.zeros(1, device=device.kind)
    network.whole = network.whole or TRUNK[0]
    after = device_seconds(network.run_blocks, device)
    network.whole = None
    before = device_seconds(network.run_blocks, device)
    launches = sum(name.startswith("block") for name, _ in network.steps())
    saved = (launches - 1) * device_seconds(lambda: one.add_(1), device)
    return Gain("dense blocks in one launch", before, after, min(1.0, saved / before))


def kernels_of(network: Any) -> list[Kernel]:
    """Every kernel of one run of ``network``, with the very arguments it runs with; alike ones counted together."""
    calls: list[tuple[str, Callable[..., object], tuple[Any, ...], dict[str, Any]]] = []

    def noting(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: Any, **keywords: Any) -> object:
            calls.append((name, function, arguments, keywords))
            return function(*arguments, **keywords)

        return run

    with ExitStack() as patched:
        for name in KERNELS:
            if hasattr(densenet, name):
                change = mock.patch.object(densenet, name, noting(name, getattr(densenet, name)))
                patched.enter_context(change)
        network.run()
    kernels: dict[str, Kernel] = {}
    for name, function, arguments, keywords in calls:
        words = describe(name, arguments, keywords)
        times = kernels[words].times + 1 if words in kernels else 1
        tensors = [part for part in (*arguments, *keywords.values()) if isinstance(part, Tensor)]
        run = partial(function, *arguments, **keywords)
        kernels[words] = Kernel(
            words, times, run, operations(name, arguments), bytes_of(*tensors), arguments, keywords
        )
    return list(kernels.values())


def describe(function: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> str:
    """A kernel's name for the table: channels, pixels, and what it adds or leaves."""
    x, weights = arguments[0], arguments[1]
    size = f"{x.shape[1]}x{x.shape[0]}"
    if function in ("first_conv3", "conv3", "up_conv3", "project"):
        phases = "4 x " if function in ("up_conv3", "project") else ""
        size = f"{weights.shape[-2]} to {phases}{weights.shape[-1]}, {size}"
    more = {"partial": ", on the look-ahead", "scratch": ", looking ahead"}
    return f"{function} {size}" + "".join(text for key, text in more.items() if keywords.get(key) is not None)


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


def find(kernels: Sequence[Kernel], words: str) -> Kernel:
    """The first kernel whose name has ``words``."""
    return next(kernel for kernel in kernels if words in kernel.name)


def plan_of(kernels: Sequence[Kernel], words: str) -> dict[str, Any]:
    """The keywords of that kernel that are settings, such as a plan chosen on this card; none where there is none."""
    found = next((kernel.keywords for kernel in kernels if words in kernel.name), {})
    return {key: value for key, value in found.items() if value is not None and not isinstance(value, Tensor)}


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
        self.plain = [device.half(3, 3, i * GROWTH, GROWTH) for i in range(1, LAYERS)]
        self.bias = device.full(GROWTH)
        self.rest = [device.half(3, 3, i * GROWTH, GROWTH) for i in (1, 2, 3)]

    def concatenated(self) -> None:
        """Each layer's input, and the block's output, put together by torch."""
        for i, weights in enumerate(self.plain, 1):
            conv3(torch.cat(self.parts[:i], 2), weights, self.bias, self.parts[i], **self.narrow)
        torch.cat(self.parts, 2)

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


def kernels_in_a_run(run: Run) -> int:
    return sum(row["times_a_frame"] for row in profile(run))


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


def slots_gain(name: str, scale: int, shape: tuple[int, int], seconds: float = 1.5) -> Gain:
    """Two slots against one, NumPy to NumPy; predicted from the device's own time of a frame, which is all that
    is left when the host's work and the copies hide behind it."""
    lr = torch.randint(0, 256, shape, dtype=torch.uint8).numpy()
    engine = cuda_engine.open_cuda(find_model(name, scale), shape)
    try:
        one_at_a_time(engine, lr, 0.3, SYSTEM)
        single = statistics.median(one_at_a_time(engine, lr, seconds, SYSTEM))
        both = 1 / in_flight(engine, lr, seconds, SYSTEM)
        alone = statistics.median(by_device(engine, lr, 0.5, SYSTEM))
    finally:
        engine.close()
    return Gain(f"two slots in place of one, {name}", single, both, 1 - alone / single)


KERNEL_COLUMNS = (
    ("kernel", lambda row: row["kernel"]),
    ("times", lambda row: str(row["times_a_frame"])),
    ("us", lambda row: figure(row["found_us"])),
    ("floor us", lambda row: figure(row["predicted_us"])),
    ("of floor", lambda row: f"{100 * row['of_floor']:.0f} %"),
    ("GFLOP/s", lambda row: f"{row['gflop_s']:.0f}"),
    ("us a frame", lambda row: figure(row["frame_us"])),
)
GAIN_COLUMNS = (
    ("rewrite", lambda row: row["rewrite"]),
    ("before us", lambda row: figure(row["before_us"])),
    ("after us", lambda row: figure(row["after_us"])),
    ("predicted", lambda row: f"{100 * row['predicted_gain']:+.0f} %"),
    ("found", lambda row: f"{100 * row['found_gain']:+.0f} %"),
)
PROFILE_COLUMNS = (
    ("as the engine runs them", lambda row: row["kernel"][:60]),
    ("times", lambda row: str(row["times_a_frame"])),
    ("us a frame", lambda row: figure(row["frame_us"])),
)


def rewrites(
    device: Device, network: Any, kernels: Sequence[Kernel], scale: int, shape: tuple[int, int]
) -> list[Gain]:
    """Every rewrite that can be measured on ``device``."""
    gains = [*block_gains(device, shape, kernels), *shuffle_gains(device, shape, kernels)]
    gains.append(tail_gain(device, shape, scale, kernels))
    if device.kind == "cuda":
        gains.append(graph_gain(network))
        gains += [slots_gain(name, scale, shape) for name in ("densenet", "fast")]
    return gains


@click.command()
@click.option("--scale", type=click.Choice(["2", "4", "8"]), default="4", show_default=True)
@click.option("--size", type=int, default=256, show_default=True, help="LR pixels a side.")
@click.option("--dry", is_flag=True, help="Tiny, on a processor where there is no GPU.")
def main(scale: str, size: int, dry: bool) -> None:
    """Measure, print and write kernels.json."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cpu" and not dry:
        raise click.ClickException(
            "there is no NVIDIA GPU here; --dry runs the kernels in Triton's interpreter"
        )
    shape, factor = (8, 8) if dry else (size, size), int(scale)
    peaks = matrix_peaks(kind)
    speed = bandwidth(kind) if kind == "cuda" else bandwidth(kind, 1 << 24)
    device = Device(kind, 1e9 * max(peaks.values()), 1e9 * speed)
    module = build_model("densenet", factor, TINY) if dry else find_model("densenet", factor).module
    network = DenseNetKernels(module, shape, torch.uint8, kind)
    network_us = round(1e6 * device_seconds(network.run, device), 2) if kind == "cuda" else None
    profiled = profile(network.run) if kind == "cuda" else []
    whole = whole_gain(network, device)
    kernels = kernels_of(network)
    rows = [kernel.measure(device) for kernel in kernels]
    gains = [gain.as_json() for gain in (whole, *rewrites(device, network, kernels, factor, shape))]
    show(f"densenet x{factor}, {size}x{size}" if not dry else "dry", rows, profiled, gains)
    figures = {"network_us": network_us, "rows": rows, "profile": profiled, "rewrites": gains}
    machine = {"dry": dry, "peak_gflop_s": peaks, "bandwidth_gb_s": round(speed, 1)}
    headline = headline_of(rows, gains, network_us)
    sys.exit(leave("kernels", True, headline, scale=factor, lr=list(shape), **machine, **figures))


def show(
    title: str, rows: list[dict[str, Any]], profiled: list[dict[str, Any]], gains: list[dict[str, Any]]
) -> None:
    """The tables."""
    console = Console(highlight=False, width=WIDE)
    for name, columns, lines in (
        (title, KERNEL_COLUMNS, rows),
        ("profile", PROFILE_COLUMNS, profiled[:20]),
        ("rewrites", GAIN_COLUMNS, gains),
    ):
        if lines:
            console.print(make_table(name, columns, lines))


def headline_of(
    rows: list[dict[str, Any]], gains: list[dict[str, Any]], network_us: float | None
) -> list[str]:
    """The sums, and the gain of each rewrite."""
    total = sum(row["frame_us"] for row in rows)
    floor = sum(row["predicted_us"] * row["times_a_frame"] for row in rows)
    whole = "" if network_us is None else f", the network in a graph {figure(network_us)} us"
    summary = f"kernels of a frame {figure(total)} us, their floor {figure(floor)} us{whole}"
    lines = [
        f"{g['rewrite']}: {100 * g['found_gain']:+.0f} % (predicted {100 * g['predicted_gain']:+.0f} %)"
        for g in gains
    ]
    return [summary, *lines]


if __name__ == "__main__":
    main()
