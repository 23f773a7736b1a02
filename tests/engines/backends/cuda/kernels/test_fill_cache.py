"""The cache of kernels that is filled for a card that is not here has whatever an engine on that card launches."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import fill_cache
import pytest
import torch

from clesr.engines.backends.cuda.kernels import conv, tail, up
from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels
from clesr.engines.backends.cuda.kernels.plan import Plan
from clesr.engines.backends.cuda.kernels.tuner import Tuner
from clesr.engines.models.weights import find_model

HOPPER = (9, 0)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> set[object]:
    """What Triton compiles kernels apart by, of each kernel that is launched; none runs."""
    found: set[object] = set()

    def note(
        kernel: Any, _programs: int, *arguments: Any, plan: Plan | None = None, early: bool, **constants: Any
    ) -> None:
        tensors = [argument for argument in arguments if not isinstance(argument, (int, float))]
        types = [str(getattr(tensor, "base", tensor).dtype) for tensor in tensors]
        blocks = [str(getattr(tensor, "block_shape", "")) for tensor in tensors]
        found.add(str((kernel.__name__, plan, early, sorted(constants.items()), types, blocks)))

    for module in (conv, up, tail):
        monkeypatch.setattr(module, "launch", note)
    return found


def tuner_of(faster: float) -> Tuner:
    """One to which each form is ``faster`` times as fast as the one before it."""
    seconds = itertools.accumulate(itertools.repeat(1 / faster), lambda a, b: a * b, initial=1.0)

    def timed(run: Callable[[], None]) -> Callable[[], float]:
        run()
        own = next(seconds)
        return lambda: own

    return Tuner(HOPPER, timed, 0.0)


@pytest.mark.slow
def test_the_cache_has_whatever_a_card_chooses(launched: set[object]) -> None:
    fill_cache.fill(90)
    filled = set(launched)
    shapes, dtypes = ((33, 47), (64, 64), (40, 200)), (torch.uint8, torch.uint16)
    for scale, shape, dtype, faster in itertools.product((2, 4, 8), shapes, dtypes, (0.5, 2.0)):
        launched.clear()
        kernels = DenseNetKernels(
            find_model("densenet", scale).module, shape, dtype, "cpu", tuner=tuner_of(faster)
        )
        kernels.run()
        assert kernels._early == (faster > 1)
        assert len(launched) > 10
        assert launched <= filled, f"x{scale}, {dtype}, {shape}"
