"""The cuda engine in a minute: each kernel once, the network launched and captured, and how long 300 frames take.

python benchmarks/smoke.py [--dry]

Each kernel runs on fresh noise by its first plan that runs on this card and is held against FP32. The network is that
of DenseNet x4; its image is held against PyTorch in FP32, and captured in a CUDA graph it must give the same bits,
twice, from compute capability 9.0 on also where kernels start early. A part that breaks does not end the others. With
--dry on a processor, tiny, in Triton's interpreter, where nothing can be captured.
"""

from __future__ import annotations

import copy
import itertools
import os
import statistics
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import click
import numpy as np
import torch
from bare import card_says
from stage import CLOCKS, leave, tell

if "--dry" in sys.argv and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported

from kernel_checks import BROKEN, FirstPlans, Refused, check, compile_first, different, first_plans

from clesr.engines.backends.cuda.buffers import captured
from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels
from clesr.engines.backends.cuda.kernels.plan import Plan, alternatives
from clesr.engines.common.errors import first_line
from clesr.engines.models.registry import build_model
from clesr.engines.models.weights import find_model
from clesr.engines.reference import reference_image
from clesr.engines.selftest import MAX_LIMIT, MEAN_LIMIT
from clesr.tools.bench.figures import latency

SCALE = 4
TINY = {"blocks": 1, "skip": "add", "base": "bicubic"}  # what is run dry
CHECKED, LIVE = (61, 83), (256, 256)  # the kernels' size is no multiple of a tile
DRY_CHECKED, DRY_LIVE = (9, 18), (8, 8)
LAUNCHED, FRAMES = 5, 300
EARLIEST = (9, 0)  # compute capability: the first whose kernels can start early


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


def check_kernels(
    module: torch.nn.Module, shape: tuple[int, int], kind: str, refused: Refused, figures: dict[str, Any]
) -> bool:
    """A row for each kernel, and its error in ``figures``; whether all are right. Plans that do not run are passed
    over, as the engine does, and put into ``refused``."""
    network = DenseNetKernels(module, shape, torch.uint8, kind, tuner=first_plans(kind))
    steps, errors = different(network), figures.setdefault("errors", {})
    start = perf_counter()
    compile_first(network, [(step, network.plan_of(step)) for step in steps.values()])
    tell(f"{len(steps)} kernels compiled or found in {perf_counter() - start:.1f} s")
    right = True
    for name, step in steps.items():
        plans: tuple[Plan | None, ...] = (None,)
        if kind == "cuda" and step.kind:
            plans = alternatives(step.kind, torch.cuda.get_device_capability())
        for plan in plans:
            try:
                found = check(step, plan)
            except BROKEN as error:
                refused.add((step.kind, plan))
                tell(f"{name}: {plan or 'it'} FAILED: {first_line(error)}", kernel=name, passed=False)
            else:
                right &= found.passed
                errors[name] = found.error
                tell(f"{name}: {found}", kernel=name, error=found.error, passed=found.passed)
                break
        else:
            right = False
    return right


def attempted(name: str, step: Callable[[], bool]) -> bool:
    """What ``step`` says; False, and a row, where it breaks."""
    try:
        return step()
    except BROKEN as error:
        tell(f"{name}: FAILED: {first_line(error)}", passed=False)
        return False


class Smoke:
    """The network for ``shape``, and what is asked of it; each answer is a row, and whether it is right."""

    def __init__(
        self, module: torch.nn.Module, shape: tuple[int, int], kind: str, tuner: FirstPlans | None
    ) -> None:
        self.module, self.kind = module, kind
        self.network = DenseNetKernels(module, shape, torch.uint8, kind, tuner=tuner)
        self.figures: dict[str, Any] = {}
        self.images = [torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(2)]
        self.bits: list[torch.Tensor] = []

    def launched(self) -> bool:
        """The network launched kernel by kernel, against FP32."""
        for image in self.images:
            self.network.lr.copy_(image)
            self.network.run(False)
            self.bits.append(self.network.sr.clone())
        spans = [self._seconds() for _ in range(LAUNCHED if self.kind == "cuda" else 1)]
        reference = copy.deepcopy(self.module).to(self.kind)
        truth = reference_image(reference, self.images[0].numpy(), device=self.kind)
        difference = np.abs(self.bits[0].cpu().numpy().astype(int) - truth)
        mean, worst = float(difference.mean()), int(difference.max())
        right = bool(mean <= MEAN_LIMIT and worst <= MAX_LIMIT and truth.std() > 1)
        self.figures |= {"mean": mean, "max": worst, "launched_ms": 1e3 * statistics.median(spans)}
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

    def captured(self, early: bool = False) -> bool:
        """Each image twice, in turns, from the graph; ``early`` where kernels start early, which old cards cannot."""
        name = "captured, early starts" if early else "captured"
        if self.kind != "cuda" or (early and torch.cuda.get_device_capability() < EARLIEST):
            tell(f"{name}: not on this device")
            return True
        if len(self.bits) < len(self.images):
            tell(f"{name}: nothing to compare with")
            return False
        steps = different(self.network).values()
        compile_first(self.network, [(step, self.network.plan_of(step)) for step in steps], early=early)
        self.network.run(early)
        graph = captured(lambda: self.network.run(early))
        wrong = 0
        for index in (0, 1, 0, 1):
            self.network.lr.copy_(self.images[index])
            self.network.sr.fill_(77)
            graph.replay()
            wrong += not torch.equal(self.network.sr, self.bits[index])
        tell(f"{name}: {4 - wrong} of 4 frames have the bits of the launched ones", wrong=wrong)
        self._frames(graph, name)
        return not wrong

    def _frames(self, graph: torch.cuda.CUDAGraph, name: str) -> None:
        """The device alone: it is never idle, as the host is ahead of it."""
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(FRAMES + 1)]  # type: ignore[no-untyped-call]
        graph.replay()
        for mark in marks:
            mark.record()
            graph.replay()
        torch.cuda.synchronize()
        found = latency([a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(marks)])
        rate = 1e3 * FRAMES / marks[0].elapsed_time(marks[-1])
        times = ", ".join(f"{part} {found[part]:.3f}" for part in ("p50", "p95", "p99", "max"))
        self.figures[f"{name}_ms"] = found
        tell(f"{FRAMES} frames {name}, device alone: {times} ms; {rate:.0f} frames/s", device_ms=found)


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
    figures: dict[str, Any] = {"dry": dry}
    refused: Refused = set()
    checked = DRY_CHECKED if dry else CHECKED
    right = {"kernels": attempted("kernels", lambda: check_kernels(module, checked, kind, refused, figures))}
    try:
        smoke = Smoke(module, DRY_LIVE if dry else LIVE, kind, first_plans(kind, refused))
    except BROKEN as error:
        right["network"] = False
        tell(f"the network: FAILED: {first_line(error)}", passed=False)
    else:
        right["launched"] = attempted("launched", smoke.launched)
        right["captured"] = attempted("captured", smoke.captured)
        right["early"] = attempted("captured, early starts", lambda: smoke.captured(early=True))
        figures |= smoke.figures
    tell(f"at work: {card_says(*CLOCKS)}")
    wrong = [name for name, passed in right.items() if not passed]
    headline = (
        [f"wrong: {', '.join(wrong)}"] if wrong else ["kernels, network and graph compute what FP32 does"]
    )
    sys.exit(leave("smoke", not wrong, headline, right=right, **figures))


if __name__ == "__main__":
    main()
