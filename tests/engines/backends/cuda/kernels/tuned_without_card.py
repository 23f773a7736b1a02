"""Triton's own compiler and launches for a card of compute capability 9.0 that is not there: what ``test_compile`` runs
in a process of its own. Prints, for two sizes of image, how many kernels were compiled in the tuner's threads, how many
afterwards, at a launch, how many were launched, and what was raised while compiling, as JSON."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import fill_cache
import torch
from triton import knobs

from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels
from clesr.engines.backends.cuda.kernels.tuner import Tuner
from clesr.engines.models.registry import build_model

SHAPES = ((64, 64), (33, 47))
counts: Counter[str] = Counter()
raised: list[str] = []


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


def main() -> None:
    fill_cache.pretend(90, lambda: counts.update(["launched"]))
    knobs.compilation.listener = note_compiled
    module = build_model("densenet", 4, {"blocks": 2, "skip": "add", "base": "bicubic"})
    tuner = Noting((9, 0), fill_cache.timed, 0.0)
    found = []
    for shape in SHAPES:
        counts.clear()
        kernels = DenseNetKernels(module, shape, torch.uint8, "cpu", tuner=tuner)
        kernels.run()
        found.append(dict(counts))
    print(json.dumps({"sizes": found, "raised": raised}))


if __name__ == "__main__":
    main()
