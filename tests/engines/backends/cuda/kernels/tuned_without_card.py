"""Triton's own compiler and launches for a card of compute capability 9.0 that is not there: what ``test_compile`` runs
in a process of its own. Prints, for two sizes of image, how many kernels were compiled in the tuner's threads, how many
afterwards, at a launch, how many were launched, and what was raised while compiling, as JSON."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import CompiledKernel
from triton.runtime.driver import driver

from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels
from clesr.engines.backends.cuda.kernels.tuner import Tuner
from clesr.engines.models.registry import build_model

SHAPES = ((64, 64), (33, 47))
counts: Counter[str] = Counter()
raised: list[str] = []


class Card:
    """What Triton asks a driver before a launch."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _device: int) -> int:
        return 0


class Launch:
    """In the place of a kernel's ``run``, which needs the card."""

    def __get__(self, kernel: CompiledKernel, _owner: object = None) -> Callable[..., None]:
        return lambda *_arguments: counts.update(["launched"])


def note_compiled(**_told: object) -> None:
    in_pool = threading.current_thread().name.startswith("clesr compiler")
    counts.update(["in threads" if in_pool else "at a launch"])


class Noting(Tuner):
    """A tuner that does not keep to itself what is raised while it compiles."""

    def compile(self, runs: Any) -> None:
        def noting(run: Callable[[], None]) -> Callable[[], None]:
            def noted() -> None:
                try:
                    run()
                except BaseException as error:
                    raised.append(repr(error))
                    raise

            return noted

        super().compile([noting(run) for run in runs])


def timed(run: Callable[[], None]) -> Callable[[], float]:
    run()
    return lambda: 1e-6


def main() -> None:
    driver.set_active(Card())
    knobs.compilation.listener = note_compiled
    CompiledKernel.run = Launch()
    CompiledKernel.function = 0
    CompiledKernel.launch_metadata = lambda *_arguments: None
    module = build_model("densenet", 4, {"blocks": 2, "skip": "add", "base": "bicubic"})
    tuner = Noting((9, 0), timed, 0.0)
    found = []
    for shape in SHAPES:
        counts.clear()
        kernels = DenseNetKernels(module, shape, torch.uint8, "cpu", tuner=tuner)
        kernels.run()
        found.append(dict(counts))
    print(json.dumps({"sizes": found, "raised": raised}))


if __name__ == "__main__":
    main()
