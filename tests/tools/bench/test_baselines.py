"""PyTorch's own contenders, as far as a processor shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clesr.engines.models.densenet import UpStage
from clesr.engines.models.registry import build_model
from clesr.tools.bench import baselines


def channels_last(network: nn.Module, x: Tensor) -> tuple[Tensor, list[bool]]:
    """What ``network`` makes of ``x``, and of each doubling whether its output is channels-last."""
    seen: list[bool] = []
    hooks = [
        module.register_forward_hook(
            lambda _module, _inputs, y: seen.append(y.is_contiguous(memory_format=torch.channels_last))
        )
        for module in network.modules()
        if isinstance(module, UpStage)
    ]
    with torch.inference_mode():
        y: Tensor = network(x)
    for hook in hooks:
        hook.remove()
    return y, seen


def test_doublings_are_kept_channels_last() -> None:
    plain = build_model("densenet", 4, {"blocks": 1})
    x = torch.rand(1, 1, 8, 8)
    expected, before = channels_last(plain, x)
    found, after = channels_last(baselines.kept_channels_last(plain), x)
    assert after == [True, True]
    assert before == [False, False]
    assert torch.allclose(found, expected, atol=1e-5)
    assert channels_last(plain, x)[1] == before


@pytest.mark.parametrize("form", [0, 1])
def test_the_faster_form_of_the_rival_is_taken(form: int) -> None:
    module = build_model("densenet", 2, {"blocks": 1})
    model: Any = SimpleNamespace(module=module, scale=2, levels=())
    half = module.half()
    chosen: list[Callable[[Any], None]] = []

    class Tuner:
        def choose(self, _key: str, forms: Sequence[str], run: Callable[[Any], None]) -> str:
            chosen.append(run)
            for each in forms:
                run(each)
            return forms[form]

    run = baselines.faster(half, model, (8, 8), torch.uint8, Tuner(), "cpu")  # type: ignore[arg-type]
    with torch.inference_mode():
        assert run(torch.rand(1, 1, 8, 8).half()).shape == (1, 1, 16, 16)
    assert len(chosen) == 1


def test_those_that_compile_are_measured_on_request_alone() -> None:
    assert set(baselines.SLOW) == {"torch-compile", "torch-max-autotune"}
    assert [candidate.name for candidate in baselines.candidates()] == list(baselines.NAMES)
