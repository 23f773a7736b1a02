"""The smoke stage on stand-ins for a card: where the reference runs, and what breaks without ending the rest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture
def smoke() -> Any:
    """Imported late: how kernels run is chosen while tests are collected."""
    import smoke

    return smoke


class Network:
    """A network that makes four pixels of each."""

    def __init__(self) -> None:
        self.lr, self.sr = torch.zeros(4, 4, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8)
        self.runs: list[bool | None] = []
        self.steps: list[Any] = []

    def run(self, early: bool | None = None) -> None:
        self.runs.append(early)
        self.sr.copy_(self.lr.repeat_interleave(2, 0).repeat_interleave(2, 1))


def stage_on(smoke: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> Any:
    monkeypatch.setattr(smoke, "DenseNetKernels", lambda *_, **__: Network())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr(smoke, "compile_first", lambda *_, **__: None)
    return smoke.Smoke(torch.nn.Linear(2, 2), (4, 4), kind, None)


def test_the_reference_runs_where_its_input_is(smoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_on(smoke, monkeypatch, "meta")
    seen = []

    def upscale(module: torch.nn.Linear, lr: np.ndarray[Any, Any], *, device: str) -> np.ndarray[Any, Any]:
        seen.append((module.weight.device.type, device))
        return lr.repeat(2, 0).repeat(2, 1)

    monkeypatch.setattr(smoke, "reference_image", upscale)
    assert stage.launched()
    assert seen == [("meta", "meta")]
    assert stage.module.weight.device.type == "cpu"
    assert stage.figures["max"] == 0


def test_early_starts_must_give_the_same_bits(smoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_on(smoke, monkeypatch, "cuda")
    network, times = stage.network, list[str]()

    def captured(run: Any) -> Any:
        def replay() -> None:
            run()
            if network.runs[-1]:
                network.sr[0, 0] += 1

        return SimpleNamespace(replay=replay)

    monkeypatch.setattr(smoke, "captured", captured)
    monkeypatch.setattr(stage, "_frames", lambda _graph, name: times.append(name))
    assert not stage.captured()
    for image in stage.images:
        network.lr.copy_(image)
        network.run(False)
        stage.bits.append(network.sr.clone())
    assert stage.captured()
    assert not stage.captured(early=True)
    assert times == ["captured", "captured, early starts"]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 9))
    assert stage.captured(early=True)
    assert len(times) == 2


@pytest.mark.parametrize("error", [ValueError, AssertionError, RuntimeError])
def test_a_part_that_breaks_is_told_and_ends_nothing(
    smoke: Any, error: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    def part() -> bool:
        raise error("odd\na trace")

    assert not smoke.attempted("launched", part)
    assert capsys.readouterr().out == "launched: FAILED: odd\n"
    assert smoke.attempted("captured", lambda: True)


def test_a_plan_that_does_not_run_is_passed_over(
    smoke: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_on(smoke, monkeypatch, "cuda")
    one, two = smoke.alternatives("narrow", (9, 0))
    steps = {"conv3": SimpleNamespace(kind="narrow"), "finish": SimpleNamespace(kind="")}
    monkeypatch.setattr(smoke, "first_plans", lambda *_: None)
    monkeypatch.setattr(smoke, "different", lambda _network: steps)
    monkeypatch.setattr(Network, "plan_of", lambda *_: None, raising=False)

    def check(step: Any, plan: Any) -> Any:
        if plan == one or not step.kind:
            raise ValueError("not here")
        return SimpleNamespace(passed=True, error=0.001)

    monkeypatch.setattr(smoke, "check", check)
    refused: Any = set()
    figures: dict[str, Any] = {}
    assert not smoke.check_kernels(torch.nn.Linear(2, 2), (4, 4), "cuda", refused, figures)
    assert refused == {("narrow", one), ("", None)}
    assert figures == {"errors": {"conv3": 0.001}}
    said = capsys.readouterr().out
    assert f"conv3: {one} FAILED: not here" in said
    assert "finish: it FAILED: not here" in said
    tuner = smoke.FirstPlans((9, 0), lambda _run: lambda: 0.0)
    tuner.refused = refused
    assert tuner.choose("narrow-48-16-4x4", (one, two), lambda _plan: None) == two
    assert tuner.choose("up-48-16-4x4", (one, two), lambda _plan: None) == one
