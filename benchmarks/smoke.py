"""The cuda engine in a minute: each kernel once, the network launched and captured, and how long 300 frames take.

python benchmarks/smoke.py [--dry]

Each kernel runs by its first plan on fresh noise and is held against FP32. The network is that of DenseNet x4; its
image is held against PyTorch in FP32, and captured in a CUDA graph it must give the same bits, twice. With --dry on a
processor, tiny, in Triton's interpreter, where nothing can be captured.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
from time import perf_counter
from typing import Any

import click
import numpy as np
import torch
from bare import card_says
from stage import leave, tell

if "--dry" in sys.argv and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported

from kernel_checks import check, compile_first, different, first_plans
from triton.errors import TritonError

from clesr.engines.backends.cuda.buffers import captured
from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels
from clesr.engines.models.registry import build_model
from clesr.engines.models.weights import find_model
from clesr.engines.reference import upscale
from clesr.engines.selftest import MAX_LIMIT, MEAN_LIMIT
from clesr.tools.bench.figures import latency

SCALE = 4
TINY = {"blocks": 1, "skip": "add", "base": "bicubic"}  # what is run dry
CHECKED, LIVE = (61, 83), (256, 256)  # the kernels' size is no multiple of a tile
DRY_CHECKED, DRY_LIVE = (9, 18), (8, 8)
LAUNCHED, FRAMES = 5, 300
CLOCKS = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")


def facts(kind: str) -> str:
    """What torch sees."""
    if kind == "cpu":
        return "no GPU: Triton's interpreter on the processor"
    properties = torch.cuda.get_device_properties(0)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return (
        f"{properties.name}, compute capability {properties.major}.{properties.minor}, "
        f"{properties.multi_processor_count} multiprocessors, CUDA {torch.version.cuda}, cuDNN "
        f"{cudnn}"
    )


def check_kernels(module: torch.nn.Module, shape: tuple[int, int], kind: str) -> bool:
    """A row for each kernel; whether all are right."""
    network = DenseNetKernels(module, shape, torch.uint8, kind, tuner=first_plans(kind))
    steps = different(network)
    start = perf_counter()
    compile_first(network, [(step, network.plan_of(step)) for step in steps.values()])
    tell(f"{len(steps)} kernels compiled or found in {perf_counter() - start:.1f} s")
    right = True
    for name, step in steps.items():
        try:
            found = check(step, network.plan_of(step))
        except (RuntimeError, TritonError) as error:
            right = False
            tell(f"{name}: FAILED: {str(error).strip().split(chr(10))[0]}", kernel=name, passed=False)
        else:
            right &= found.passed
            tell(f"{name}: {found}", kernel=name, error=found.error, passed=found.passed)
    return right


class Smoke:
    """The network for ``shape``, and what is asked of it; each answer is a row, and whether it is right."""

    def __init__(self, module: torch.nn.Module, shape: tuple[int, int], kind: str) -> None:
        self.module, self.kind = module, kind
        self.network = DenseNetKernels(module, shape, torch.uint8, kind, tuner=first_plans(kind))
        self.images = [torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(2)]
        self.bits: list[torch.Tensor] = []

    def launched(self) -> bool:
        """The network launched kernel by kernel, against FP32."""
        for image in self.images:
            self.network.lr.copy_(image)
            self.network.run(False)
            self.bits.append(self.network.sr.clone())
        spans = [self._seconds() for _ in range(LAUNCHED if self.kind == "cuda" else 1)]
        truth = upscale(self.module, self.images[0].numpy(), device=self.kind)
        difference = np.abs(self.bits[0].cpu().numpy().astype(int) - truth)
        mean, worst = float(difference.mean()), int(difference.max())
        right = bool(mean <= MEAN_LIMIT and worst <= MAX_LIMIT and truth.std() > 1)
        tell(
            f"launched one by one: {1e3 * statistics.median(spans):.2f} ms a frame; {mean:.3f} levels from FP32 on "
            f"average, {worst} at most{'' if right else ': FAILED'}",
            mean=mean, worst=worst, passed=right,
        )  # fmt: skip
        return right

    def _seconds(self) -> float:
        start = perf_counter()
        self.network.run(False)
        if self.kind == "cuda":
            torch.cuda.synchronize()
        return perf_counter() - start

    def captured(self) -> bool:
        """Each image twice, in turns, from the graph."""
        if self.kind != "cuda":
            tell("captured: not on a processor")
            return True
        graph = captured(lambda: self.network.run(False))
        wrong = 0
        for index in (0, 1, 0, 1):
            self.network.lr.copy_(self.images[index])
            self.network.sr.fill_(77)
            graph.replay()
            wrong += not torch.equal(self.network.sr, self.bits[index])
        tell(f"captured: {4 - wrong} of 4 frames have the bits of the launched ones", wrong=wrong)
        self._frames(graph)
        return not wrong

    def _frames(self, graph: torch.cuda.CUDAGraph) -> None:
        """The device alone: it is never idle, as the host is ahead of it."""
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(FRAMES + 1)]  # type: ignore[no-untyped-call]
        graph.replay()
        for mark in marks:
            mark.record()
            graph.replay()
        torch.cuda.synchronize()
        found = latency([a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(marks)])
        rate = 1e3 * FRAMES / marks[0].elapsed_time(marks[-1])
        times = ", ".join(f"{name} {found[name]:.3f}" for name in ("p50", "p95", "p99", "max"))
        tell(f"{FRAMES} frames captured, device alone: {times} ms; {rate:.0f} frames/s", device_ms=found)


@click.command()
@click.option("--dry", is_flag=True, help="Tiny, on a processor.")
def main(dry: bool) -> None:
    """Look, print and write smoke.json; exit 1 where anything is wrong."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cpu" and not dry:
        raise click.ClickException(
            "there is no NVIDIA GPU here; --dry runs the kernels in Triton's interpreter"
        )
    tell(facts(kind))
    tell(f"idle: {card_says(*CLOCKS)}")
    module = build_model("densenet", SCALE, TINY) if dry else find_model("densenet", SCALE).module
    right = {"kernels": check_kernels(module, DRY_CHECKED if dry else CHECKED, kind)}
    smoke = Smoke(module, DRY_LIVE if dry else LIVE, kind)
    right["launched"] = smoke.launched()
    right["captured"] = smoke.captured()
    tell(f"at work: {card_says(*CLOCKS)}")
    wrong = [name for name, passed in right.items() if not passed]
    headline = (
        [f"wrong: {', '.join(wrong)}"] if wrong else ["kernels, network and graph compute what FP32 does"]
    )
    figures: dict[str, Any] = {"dry": dry, "right": right}
    sys.exit(leave("smoke", not wrong, headline, **figures))


if __name__ == "__main__":
    main()
