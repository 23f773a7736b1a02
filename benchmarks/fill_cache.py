"""Compile every kernel of the cuda engine into Triton's cache for a card that is not here, so that a machine with that
card starts at once.

    python benchmarks/fill_cache.py [FOLDER] [--arch 90]

FOLDER (.gpu/triton, where gpu.sh looks) must not be there yet. A cache serves the same version of Python, of Triton and
of these kernels alone: run this by a Python like that of the other machine, which needs torch, Triton, NumPy, OpenCV,
safetensors and msgspec.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bare import ROOT

# Kernels are compiled once for all sizes, but the last one anew for images up to 64 pixels wide.
SHAPES = ((128, 128), (64, 64))
DTYPES = ("uint8", "uint16")


class Card:
    """What Triton asks a driver before a launch."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _device: int) -> int:
        return 0


class Launch:
    """In the place of a kernel's ``run``, which needs the card."""

    def __init__(self, launched: Callable[[], object]) -> None:
        self.launched = launched

    def __get__(self, kernel: Any, _owner: object = None) -> Callable[..., object]:
        return lambda *_arguments: self.launched()


def pretend(arch: int, launched: Callable[[], object] = lambda: None) -> None:
    """From now on Triton compiles for compute capability ``arch`` (90 is 9.0) and calls ``launched`` in place of
    launching."""
    from triton.compiler.compiler import CompiledKernel
    from triton.runtime.driver import driver

    driver.set_active(Card(arch))
    CompiledKernel.run = Launch(launched)
    CompiledKernel.function = 0
    CompiledKernel.launch_metadata = lambda *_arguments: None


def timed(run: Callable[[], None]) -> Callable[[], float]:
    """In the place of a card's clock: ``run`` once."""
    run()
    return lambda: 1e-6


def fill(arch: int) -> None:
    """DenseNet at every scale, depth and form of its kernels, whichever a card will choose."""
    import torch

    from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels
    from clesr.engines.backends.cuda.kernels.tuner import Tuner
    from clesr.engines.models.weights import find_model

    for scale, dtype, shape in itertools.product((4, 2, 8), DTYPES, SHAPES):
        module, tuner = find_model("densenet", scale).module, Tuner(divmod(arch, 10), timed, 0.0)
        runs = list(variants(DenseNetKernels(module, shape, getattr(torch, dtype), "cpu"), tuner.capability))
        tuner.compile(runs)
        for run in runs:  # what did not compile is told
            run()
        print(f"densenet x{scale}, {dtype}, {shape[1]}x{shape[0]}", flush=True)


def variants(kernels: Any, capability: tuple[int, int]) -> Iterator[Callable[[], None]]:
    """The runs of every kernel of ``kernels`` by every plan, started early too where a card of ``capability`` can."""
    from clesr.engines.backends.cuda.kernels.plan import alternatives

    for step in kernels.steps:
        if re.match(r"block (?!1,)", step.name):  # the blocks are alike
            continue
        for plan in alternatives(step.kind, capability) if step.kind else (None,):
            for early in (False, True) if capability >= (9, 0) else (False,):
                yield partial(step.run, plan, early)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / ".gpu" / "triton")
    parser.add_argument("--arch", type=int, default=90, help="compute capability times ten")
    given = parser.parse_args()
    if given.folder.exists():
        parser.error(f"{given.folder} is there already; remove it, or name another folder")
    os.environ["TRITON_CACHE_DIR"] = str(given.folder.resolve())
    os.environ.pop("TRITON_INTERPRET", None)
    sys.path.insert(0, str(ROOT / ".import"))
    pretend(given.arch)
    fill(given.arch)
    size = sum(path.stat().st_size for path in given.folder.rglob("*") if path.is_file())
    print(f"{size / 1e6:.1f} MB in {given.folder}")


if __name__ == "__main__":
    main()
