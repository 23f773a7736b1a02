"""`clesr build`, on a machine without a GPU and with a TensorRT that runs on the processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import commands
import fake_tensorrt
import pytest
import torch
from random_models import random_model

from clesr.engines.backends.tensorrt import engine as tensorrt_engine
from clesr.engines.common.errors import EngineError
from clesr.engines.models.weights import save_model
from clesr.tools.commands.build import _models
from clesr.tools.common import console

MODEL = random_model("fast", 2, channels=4, depth=2)
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(run: commands.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run `clesr build`: exit status and what it says."""
    monkeypatch.setenv("CLESR_CACHE_DIR", str(tmp_path / "cache"))
    return lambda *arguments: run("clesr", "build", *arguments)[::2]


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> fake_tensorrt.FakeTensorRT:
    monkeypatch.setattr(tensorrt_engine, "why_no_tensorrt", lambda: "")
    monkeypatch.setattr(console, "PLAIN_EVERY_S", float("inf"))
    return fake_tensorrt.install(monkeypatch)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    save_model(path, MODEL.module, MODEL.descriptor)
    return path


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(run: Run) -> None:
    code, err = run("densenet", "--scale", "4")
    assert code == 1
    assert err == "clesr: error: there is no engine to build on this machine: torch finds no NVIDIA GPU\n"


def test_it_builds_every_size_and_says_what_was_there(
    run: Run, trt: fake_tensorrt.FakeTensorRT, weights: Path
) -> None:
    code, err = run(weights, "--size", "12x10", "--size", "10x12")
    assert code == 0
    first, second = err.splitlines()
    assert first.startswith("fast x2 (")
    assert "), 12x10: built in " in first
    assert "), 10x12: built in " in second
    code, err = run(weights, "--size", "12x10", "--size", "16x16")
    assert code == 0
    first, second = err.splitlines()
    assert first.endswith("), 12x10: already there")
    assert "), 16x16: built in " in second
    assert len(trt.builds) == 3


def test_without_options_a_model_is_built_at_every_scale() -> None:
    assert [(m.name, m.scale) for m in _models(["fast", "densenet"], [])] == [
        (name, scale) for name in ("fast", "densenet") for scale in (2, 4, 8)
    ]


def test_a_weights_file_has_its_own_scale(run: Run, trt: fake_tensorrt.FakeTensorRT, weights: Path) -> None:
    code, err = run(weights, "--scale", "4", "--size", "12x10")
    assert code == 2
    assert "mine.safetensors is for scale 2; leave --scale out, or give 2" in err


def test_a_damaged_engine_is_built_again_and_said(
    run: Run, trt: fake_tensorrt.FakeTensorRT, weights: Path, tmp_path: Path
) -> None:
    run(weights, "--size", "12x10")
    (path,) = (tmp_path / "cache").rglob("*.engine")
    path.write_bytes(path.read_bytes()[:-1])
    code, err = run(weights, "--size", "12x10")
    assert code == 0
    why, built = err.splitlines()
    assert "its checksum does not fit, it was cut or altered" in why
    assert ": built in " in built


def test_one_that_fails_does_not_stop_the_others(
    run: Run, trt: fake_tensorrt.FakeTensorRT, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(layers: str, convolutions: int) -> None:
        if len(trt.builds) == 1:
            raise EngineError("not in FP16")

    monkeypatch.setattr(tensorrt_engine, "check_precision", check)
    code, err = run(weights, "--size", "12x10", "--size", "10x12")
    assert code == 1
    first, second, last = err.splitlines()
    assert first.endswith(", 12x10: not in FP16")
    assert ": built in " in second
    assert last == "clesr: error: 1 of 2 engines could not be built"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "12"], "--size 12 is not WIDTHxHEIGHT of 8 pixels or more, such as 256x256"),
        (["--size", "7x100"], "--size 7x100 is not"),
        (["nobody"], "model 'nobody' is unknown"),
        (["fast", "--scale", "3"], "'3' is not one of"),
    ],
)
def test_wrong_use_is_one_line(run: Run, arguments: list[str], words: str) -> None:
    code, err = run(*arguments)
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1
