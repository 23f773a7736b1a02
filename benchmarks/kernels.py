"""DenseNet kernel by kernel on a GPU: time, GFLOP/s, the time that the floor allows; and what each rewrite gains.

python benchmarks/kernels.py [--scale 4] [--size 256] [--dry]

The floor of a kernel is the longer of its operations over the measured matrix peak and its bytes over the measured
bandwidth. A rewrite is measured against what it replaced, on the same inputs in the same run; its predicted gain comes
from the floors too, except where its docstring says otherwise. With --dry on a processor, in Triton's interpreter, at
a tiny size: the figures then mean nothing, the way there is the same.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import click
import torch
import torch.nn.functional as F
from rich.console import Console
from stage import leave
from torch import Tensor

if "--dry" in sys.argv and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported

from clesr.engines import cuda_engine
from clesr.engines.kernels.conv import conv3, first_conv3, up_conv3
from clesr.engines.kernels.tail import TAPS, finish, project
from clesr.engines.models import BicubicUp
from clesr.engines.weights import find_model
from clesr.pipeline.clock import SYSTEM
from clesr.tools.benching.peak import bandwidth, matrix_peaks
from clesr.tools.benching.report import WIDE, figure, make_table
from clesr.tools.benching.turns import by_device, in_flight, one_at_a_time

GROWTH, LAYERS, BLOCKS, WIDTH = 16, 8, 12, 128
FULL_N = 64  # output channels from which on a matrix unit is full: GPU.md has 16 at a quarter of the peak
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
    """One kernel at one shape: how often a frame runs it, how to run it, its operations and bytes."""

    name: str
    times: int
    run: Run
    flop: float
    size: float

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


def conv(device: Device, name: str, times: int, shape: tuple[int, int], c_in: int, c_out: int) -> Kernel:
    """A plain ``conv3``."""
    x, out = device.half(*shape, c_in), device.half(*shape, c_out)
    weights, bias = device.half(3, 3, c_in, c_out), device.full(c_out)
    flop = 2 * 9 * c_in * c_out * shape[0] * shape[1]
    return Kernel(name, times, lambda: conv3(x, weights, bias, out), flop, bytes_of(x, weights, out))


def dense_kernels(device: Device, shape: tuple[int, int]) -> list[Kernel]:
    """A dense block as the engine runs it: layers 1 to 4, the look-ahead, layers 6 to 8."""
    pixels = shape[0] * shape[1]
    buffer, scratch = device.half(*shape, WIDTH), device.full(*shape, 3 * GROWTH)
    kernels = [conv(device, "dense layer 1, 128 to 16", BLOCKS, shape, WIDTH, GROWTH)]
    for i in (1, 2, 3):
        x, out = buffer[..., : i * GROWTH], buffer[..., i * GROWTH : (i + 1) * GROWTH]
        weights, bias = device.half(3, 3, i * GROWTH, GROWTH), device.full(GROWTH)
        run = partial(conv3, x, weights, bias, out)
        name = f"dense layer {i + 1}, {i * GROWTH} to {GROWTH}"
        kernels.append(
            Kernel(name, BLOCKS, run, 18 * i * GROWTH * GROWTH * pixels, bytes_of(x, weights, out))
        )
    x, out = buffer[..., : 4 * GROWTH], buffer[..., 4 * GROWTH : 5 * GROWTH]
    weights, bias = device.half(3, 3, 4 * GROWTH, 4 * GROWTH), device.full(4 * GROWTH)
    kernels.append(
        Kernel(
            "look-ahead, 64 to 64",
            BLOCKS,
            partial(conv3, x, weights, bias, out, scratch=scratch),
            18 * (4 * GROWTH) ** 2 * pixels,
            bytes_of(x, weights, out, scratch),
        )
    )
    for i in (1, 2, 3):
        x, out = buffer[..., 4 * GROWTH : (4 + i) * GROWTH], buffer[..., (4 + i) * GROWTH : (5 + i) * GROWTH]
        part = scratch[..., (i - 1) * GROWTH : i * GROWTH]
        weights, bias = device.half(3, 3, i * GROWTH, GROWTH), device.full(GROWTH)
        run = partial(conv3, x, weights, bias, out, partial=part)
        name = f"dense layer {i + 5}, {i * GROWTH} to {GROWTH}, on the look-ahead"
        size = bytes_of(x, weights, out, part)
        kernels.append(Kernel(name, BLOCKS, run, 18 * i * GROWTH * GROWTH * pixels, size))
    return kernels


def all_kernels(device: Device, shape: tuple[int, int], scale: int) -> list[Kernel]:
    """Every kernel of a frame, in the order they run."""
    height, width = shape
    lr = torch.randint(0, 256, shape, device=device.kind, dtype=torch.uint8)
    first, weights, bias = device.half(*shape, 64), device.half(3, 3, 1, 64), device.full(64)
    kernels = [
        Kernel(
            "first_conv3, 1 to 64", 1, lambda: first_conv3(lr, weights, bias, first),
            18 * 64 * height * width, bytes_of(lr, weights, first),
        ),
        conv(device, "low-level 2, 64 to 128", 1, shape, 64, WIDTH),
        *dense_kernels(device, shape),
    ]  # fmt: skip
    steps = int(math.log2(scale))
    for step in range(steps - 1):
        kernels.append(up_kernel(device, (height << step, width << step)))
    return [*kernels, *tail_kernels(device, lr, scale)]


def up_kernel(device: Device, shape: tuple[int, int]) -> Kernel:
    x, out = device.half(*shape, WIDTH), device.half(2 * shape[0], 2 * shape[1], WIDTH)
    weights, bias = device.half(4, 3, 3, WIDTH, WIDTH), device.full(4, WIDTH)
    name = f"up_conv3, {shape[1]}x{shape[0]} to {2 * shape[1]}x{2 * shape[0]}"
    flop = 18 * WIDTH * 4 * WIDTH * shape[0] * shape[1]
    return Kernel(name, 1, lambda: up_conv3(x, weights, bias, out), flop, bytes_of(x, weights, out))


def tail_kernels(device: Device, lr: Tensor, scale: int) -> list[Kernel]:
    """``project`` and ``finish``."""
    height, width = (n * scale // 2 for n in lr.shape)
    x, projected = device.half(height, width, WIDTH), device.half(height, width, 4, 9)
    weights, bias = device.half(4, 3, 3, WIDTH, WIDTH), device.full(4, WIDTH)
    last, base, last_bias = device.half(WIDTH, TAPS), device.full(scale * scale, 5, 5), device.full(1)
    out = torch.empty(2 * height, 2 * width, dtype=torch.uint8, device=device.kind)
    pixels = height * width
    return [
        Kernel(
            "project", 1, lambda: project(x, weights, bias, last, projected),
            (18 * WIDTH * 4 * WIDTH + 2 * 4 * WIDTH * 9) * pixels, bytes_of(x, weights, projected),
        ),
        Kernel(
            "finish", 1, lambda: finish(projected, lr, base, last_bias, out),
            (2 * 9 + 2 * 25) * 4 * pixels, bytes_of(projected, lr, out),
        ),
    ]  # fmt: skip


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


class Block:
    """One dense block's layers 2 to 8 in three forms on the same numbers."""

    def __init__(self, device: Device, shape: tuple[int, int]) -> None:
        self.device, self.shape = device, shape
        self.buffer, self.scratch = device.half(*shape, WIDTH), device.full(*shape, 3 * GROWTH)
        self.parts = [device.half(*shape, GROWTH) for _ in range(LAYERS)]
        self.plain = [device.half(3, 3, i * GROWTH, GROWTH) for i in range(1, LAYERS)]
        self.bias, self.ahead_bias = device.full(GROWTH), device.full(4 * GROWTH)
        self.ahead = device.half(3, 3, 4 * GROWTH, 4 * GROWTH)
        self.rest = [device.half(3, 3, i * GROWTH, GROWTH) for i in (1, 2, 3)]

    def concatenated(self) -> None:
        """Each layer's input, and the block's output, put together by torch."""
        for i, weights in enumerate(self.plain, 1):
            conv3(torch.cat(self.parts[:i], 2), weights, self.bias, self.parts[i])
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
        out = self.buffer[..., 4 * g : 5 * g]
        conv3(self.buffer[..., : 4 * g], self.ahead, self.ahead_bias, out, scratch=self.scratch)
        for i, weights in enumerate(self.rest):
            x, out = self.buffer[..., 4 * g : (5 + i) * g], self.buffer[..., (5 + i) * g : (6 + i) * g]
            conv3(x, weights, self.bias, out, partial=self.scratch[..., i * g : (i + 1) * g])

    def _layer(self, i: int, weights: Tensor) -> None:
        g = GROWTH
        conv3(self.buffer[..., : i * g], weights, self.bias, self.buffer[..., i * g : (i + 1) * g])


def block_gains(device: Device, shape: tuple[int, int]) -> list[Gain]:
    """No concatenation: predicted by the bytes it would move. Look-ahead: by the matrix unit, of which N columns of
    output channels use N / FULL_N."""
    block, pixels = Block(device, shape), shape[0] * shape[1]
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


def shuffle_gains(device: Device, shape: tuple[int, int]) -> list[Gain]:
    """Phases stored in place, against the same kernel and torch's shuffle after it, and against torch's own three steps
    (convolution, ReLU, shuffle); predicted by the bytes of the shuffle."""
    kernel = up_kernel(device, shape)
    wide = device.half(1, 4 * WIDTH, *shape).to(memory_format=torch.channels_last)
    x = device.half(1, WIDTH, *shape).to(memory_format=torch.channels_last)
    weights = device.half(4 * WIDTH, WIDTH, 3, 3).to(memory_format=torch.channels_last)
    bias = device.half(4 * WIDTH)

    def by_torch() -> Tensor:
        return F.pixel_shuffle(F.relu(F.conv2d(x, weights, bias, padding=1)), 2)

    ours = device_seconds(kernel.run, device)
    shuffle = device_seconds(lambda: F.pixel_shuffle(wide, 2), device)
    theirs = device_seconds(by_torch, device)
    saved = 2 * bytes_of(wide) / device.bandwidth
    return [
        Gain("phases stored in place of a shuffle", ours + shuffle, ours, saved / (ours + shuffle)),
        Gain("up_conv3 in place of torch's three", theirs, ours, 2 * saved / theirs),
    ]


def tail_gain(device: Device, shape: tuple[int, int], scale: int) -> Gain:
    """The fused tail against the last doubling by ``up_conv3`` and torch for what follows; predicted by the bytes that
    never go to memory."""
    lr = torch.randint(0, 256, shape, device=device.kind, dtype=torch.uint8)
    pair = tail_kernels(device, lr, scale)
    up = up_kernel(device, (shape[0] * scale // 2, shape[1] * scale // 2))
    wide = device.half(1, WIDTH, shape[0] * scale, shape[1] * scale).to(memory_format=torch.channels_last)
    last, bias = device.half(1, WIDTH, 3, 3).to(memory_format=torch.channels_last), device.half(1)
    base = BicubicUp(scale).to(device.kind, torch.float16)

    def unfused() -> Tensor:
        up.run()
        level = base((lr.float() / 255).half()[None, None]).clamp(0.001, 0.999)
        y = torch.sigmoid(F.conv2d(wide, last, bias, padding=1) + torch.log(level / (1 - level)))
        return (y.float() * 255).round().clamp(0, 255).to(torch.uint8)

    def fused() -> None:
        for kernel in pair:
            kernel.run()

    before, after = device_seconds(unfused, device), device_seconds(fused, device)
    projected = 2 * 36 * wide.shape[2] * wide.shape[3] // 4
    return Gain("fused tail", before, after, 2 * (bytes_of(wide) - projected) / device.bandwidth / before)


def graph_gain(model: Any, shape: tuple[int, int]) -> Gain:
    """One CUDA graph a frame against launches one by one, both with one frame in flight; predicted from the time of
    a launch that does next to nothing, times the kernels of a frame."""
    network = cuda_engine.build_network(model.module, shape, torch.uint8, "cuda")
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
    rows = [kernel.measure(device) for kernel in all_kernels(device, shape, factor)]
    gains = [*block_gains(device, shape), *shuffle_gains(device, shape), tail_gain(device, shape, factor)]
    profiled, network_us = [], None
    if kind == "cuda":
        model = find_model("densenet", factor)
        gains += [
            graph_gain(model, shape),
            slots_gain("densenet", factor, shape),
            slots_gain("fast", factor, shape),
        ]
        network = cuda_engine.build_network(model.module, shape, torch.uint8, kind)
        profiled, network_us = profile(network.run), round(1e6 * device_seconds(network.run, device), 2)
    found = [gain.as_json() for gain in gains]
    total = sum(row["frame_us"] for row in rows)
    floor = sum(row["predicted_us"] * row["times_a_frame"] for row in rows)
    summary = f"kernels of a frame {figure(total)} us, floor {figure(floor)} us, network {figure(network_us) or '–'} us"
    console = Console(highlight=False, width=WIDE)
    for title, columns, lines in (
        (f"densenet x{factor}, {shape[1]}x{shape[0]}", KERNEL_COLUMNS, rows),
        ("profile", PROFILE_COLUMNS, profiled[:20]),
        ("rewrites", GAIN_COLUMNS, found),
    ):
        if lines:
            console.print(make_table(title, columns, lines))
    console.print(summary)
    headline = [summary, *(f"{g['rewrite']}: {100 * g['found_gain']:+.0f} %" for g in found)]
    figures = {"network_us": network_us, "rows": rows, "profile": profiled, "rewrites": found}
    machine = {"dry": dry, "peak_gflop_s": peaks, "bandwidth_gb_s": round(speed, 1)}
    sys.exit(leave("kernels", True, headline, scale=factor, lr=list(shape), **machine, **figures))


if __name__ == "__main__":
    main()
