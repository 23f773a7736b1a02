"""The tensorrt engine with a TensorRT that runs on the processor; on a GPU with the real one."""

from __future__ import annotations

import os
from pathlib import Path

import fake_tensorrt
import numpy as np
import pytest
import torch
from heard import hear
from random_models import SMALL_DENSENET, random_image, random_model

from clesr.engines.backends.tensorrt import engine as tensorrt_engine
from clesr.engines.backends.tensorrt.engine import (
    CompiledEngine,
    TensorRTNetwork,
    open_tensorrt,
    to_build_first,
)
from clesr.engines.common.errors import EngineError
from clesr.engines.guidance import Guidance
from clesr.engines.models.registry import LEVELS
from clesr.engines.models.weights import Model, find_model
from clesr.engines.reference import reference_image

MODEL = random_model("densenet", 2, **SMALL_DENSENET, skip="add", base="bicubic")
TOLD = [
    random_model("densenet", 2, **SMALL_DENSENET, skip="add", base="bicubic", levels=LEVELS),
    random_model("fast", 2, channels=8, depth=3, levels=LEVELS),
]
SHAPE = (10, 14)


@pytest.fixture
def said() -> list[str]:
    """The messages of the test."""
    return hear()


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("CLESR_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tensorrt"


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> fake_tensorrt.FakeTensorRT:
    return fake_tensorrt.install(monkeypatch)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_it_computes_what_the_reference_does(trt: fake_tensorrt.FakeTensorRT, dtype: type) -> None:
    engine = open_tensorrt(MODEL, SHAPE)
    images = [random_image(SHAPE, dtype), 3 * random_image(SHAPE, dtype)]
    for lr in images:
        engine.submit(lr)
    for lr in images:
        sr, reference = engine.collect(), reference_image(MODEL.module, lr)
        assert sr.dtype == dtype
        assert reference.std() > 0.01 * np.iinfo(dtype).max
        difference = np.abs(sr.astype(float) - reference) * 255 / np.iinfo(dtype).max
        assert difference.max() <= 1
    engine.close()
    assert len(trt.builds) == 1
    assert engine.info.precision == "fp16"


def test_the_builder_is_told_to_take_its_time_and_keep_the_types(trt: fake_tensorrt.FakeTensorRT) -> None:
    open_tensorrt(MODEL, SHAPE).close()
    (settings,) = trt.builds
    assert settings["optimization_level"] == 5
    assert settings["tiling_optimization_level"] == "full"
    assert settings["disable_tf32"]
    assert settings["require_full_compilation"]
    assert "enabled_precisions" not in settings


def test_a_built_engine_is_taken_from_disk_in_silence(
    trt: fake_tensorrt.FakeTensorRT, said: list[str]
) -> None:
    assert "`clesr build FILE.safetensors --scale 2 --size 14x10`" in to_build_first(MODEL, SHAPE)
    open_tensorrt(MODEL, SHAPE).close()
    assert len(said) == 1
    assert "building the compiled engine densenet-x2-14x10, which takes minutes" in said[0]
    assert to_build_first(MODEL, SHAPE) == ""
    open_tensorrt(MODEL, SHAPE).close()
    assert (len(trt.builds), len(said)) == (1, 1)
    open_tensorrt(MODEL, (14, 10)).close()
    assert len(trt.builds) == 2


def test_a_shipped_model_is_built_by_name(trt: fake_tensorrt.FakeTensorRT) -> None:
    assert "`clesr build srcnn --scale 2 --size 14x10`" in to_build_first(find_model("srcnn", 2), SHAPE)


@pytest.mark.parametrize("model", TOLD, ids=str)
def test_a_network_that_is_told_of_each_image_is_told(model: Model, trt: fake_tensorrt.FakeTensorRT) -> None:
    """Of other levels at each frame, and of where they are not to be trusted."""
    engine = open_tensorrt(model, SHAPE)
    lr, trust = random_image(SHAPE), np.full(SHAPE, 255, np.uint8)
    trust[:, 7:] = 0
    found = []
    for strength in (0.02, 0.4):
        told = Guidance(np.full(len(LEVELS), strength, np.float32), trust)
        engine.submit(lr, told)
        found.append(engine.collect())
        assert np.abs(found[-1].astype(int) - reference_image(model.module, lr, told)).max() <= 1
    engine.close()
    changed = np.abs(found[0].astype(int) - found[1])
    assert changed[:, : 2 * 7].max() > 3
    assert changed[:, 2 * 7 :].max() <= 1
    assert len(trt.builds) == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "foreign", "unknown to TensorRT"])
def test_a_file_that_is_not_right_is_built_anew_and_the_user_told(
    damage: str,
    trt: fake_tensorrt.FakeTensorRT,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
) -> None:
    open_tensorrt(MODEL, SHAPE).close()
    (path,) = folder.glob("*.engine")
    content = bytearray(path.read_bytes())
    words = "its checksum does not fit, it was cut or altered"
    if damage == "cut":
        path.write_bytes(content[:-100])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "foreign":
        monkeypatch.setattr(tensorrt_engine, "gpu_key", lambda: fake_tensorrt.GPU | {"driver": "590.2"})
        path.rename(
            tensorrt_engine._engines().path(
                CompiledEngine(MODEL, SHAPE).name, CompiledEngine(MODEL, SHAPE).key
            )
        )
        words = "made for driver 580.1, not 590.2"
    else:
        tensorrt_engine._engines().write(
            CompiledEngine(MODEL, SHAPE).name, CompiledEngine(MODEL, SHAPE).key, b"something"
        )
        words = "TensorRT does not take the serialised engine"
    said.clear()
    open_tensorrt(MODEL, SHAPE).close()
    assert len(trt.builds) == len(said) == 2
    assert words in said[0]
    assert "building" in said[1]
    open_tensorrt(MODEL, SHAPE).close()
    assert len(said) == 2


def test_networks_with_the_same_weights_are_told_apart(trt: fake_tensorrt.FakeTensorRT) -> None:
    """``skip`` and ``base`` change the graph and not the tensors, so not the model's identity."""
    plain = random_model("densenet", 2, **SMALL_DENSENET)
    assert plain.sha256 == MODEL.sha256
    assert CompiledEngine(plain, SHAPE).key != CompiledEngine(MODEL, SHAPE).key


def test_timings_are_kept_from_build_to_build(trt: fake_tensorrt.FakeTensorRT, folder: Path) -> None:
    tiny = random_model("fast", 2, channels=4, depth=2)
    for side in (8, 9, 10):
        open_tensorrt(tiny, (side, side)).close()
    assert trt.timings == [b"", b"+", b"++"]
    (path,) = folder.glob("*.timings")
    path.write_bytes(path.read_bytes()[:-1])
    open_tensorrt(tiny, (11, 11)).close()
    assert trt.timings[-1] == b"", "a damaged timing cache must not reach TensorRT"


def test_an_engine_in_another_type_is_refused_and_not_kept(
    trt: fake_tensorrt.FakeTensorRT, folder: Path
) -> None:
    trt.builds_in = "Float"
    with pytest.raises(EngineError, match=r"runs 10 of 10 convolution layers in another type than FP16"):
        open_tensorrt(MODEL, SHAPE)
    assert list(folder.glob("*.engine")) == []


def test_what_fails_is_one_line(trt: fake_tensorrt.FakeTensorRT) -> None:
    trt.failure = RuntimeError("no tactic\nand a long story")
    with pytest.raises(EngineError, match=r"TensorRT cannot build densenet x2 .* at \(10, 14\): no tactic$"):
        open_tensorrt(MODEL, SHAPE)
    trt.failure, trt.has_memory = None, False
    with pytest.raises(EngineError, match="the GPU is out of memory"):
        open_tensorrt(MODEL, SHAPE)
    trt.has_memory, trt.works = True, False
    engine = open_tensorrt(MODEL, SHAPE)
    with pytest.raises(EngineError, match="could not start the network"):
        engine.submit(random_image(SHAPE))


@pytest.mark.parametrize(
    ("swallowed", "said", "words"),
    [
        (RuntimeError("no tactic\nand a long story"), [], "no tactic"),
        (AssertionError(), ["Error Code 2: no memory", "Error Code 9"], "TensorRT says: Error Code 2: no memory"),
        (RuntimeError("no engine"), ["Error Code 2"], "no engine; TensorRT says: Error Code 2"),
        (None, ["Error Code 4: too new"], "no tactic; TensorRT says: Error Code 4: too new"),
    ],
)  # fmt: skip
def test_what_torch_tensorrt_keeps_to_itself_is_said(
    swallowed: Exception | None,
    said: list[str],
    words: str,
    trt: fake_tensorrt.FakeTensorRT,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In the one line that the user reads, and nowhere else."""
    trt.swallowed, trt.said = swallowed, said
    if swallowed is None:
        trt.failure = RuntimeError("no tactic")
    with pytest.raises(EngineError) as raised:
        open_tensorrt(MODEL, SHAPE)
    assert str(raised.value).endswith(f"at (10, 14): {words}")
    assert "torch_tensorrt" not in {record.name.partition(".")[0] for record in caplog.records}
    assert capfd.readouterr() == ("", "")


def test_why_tensorrt_does_not_take_an_engine_is_said(
    trt: fake_tensorrt.FakeTensorRT, said: list[str]
) -> None:
    trt.said = ["the engine plan is of another version"]
    wanted = CompiledEngine(MODEL, SHAPE)
    tensorrt_engine._engines().write(wanted.name, wanted.key, b"something")
    trt.failure = RuntimeError("no tactic")
    with pytest.raises(EngineError, match="no tactic"):
        open_tensorrt(MODEL, SHAPE)
    assert "TensorRT does not take the serialised engine: the engine plan is of another version" in said[0]


def test_an_engine_for_another_shape_or_type_is_not_bound(trt: fake_tensorrt.FakeTensorRT) -> None:
    compiled = tensorrt_engine._load(CompiledEngine(MODEL, SHAPE))
    with pytest.raises(EngineError, match=r"x is FLOAT \(1, 1, 10, 14\), not FLOAT \(1, 1, 11, 14\)"):
        TensorRTNetwork(compiled, MODEL, (11, 14), torch.uint8, "cpu")
    compiled.dtypes["output0"] = torch.float16
    with pytest.raises(EngineError, match="output0 is HALF"):
        TensorRTNetwork(compiled, MODEL, SHAPE, torch.uint8, "cpu")
    with pytest.raises(EngineError, match="has the tensors x, output0, not x, levels, trust and one output"):
        TensorRTNetwork(compiled, TOLD[0], SHAPE, torch.uint8, "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    (candidate,) = tensorrt_engine.candidates()
    assert (candidate.available, candidate.reason) == (False, "torch finds no NVIDIA GPU")
    assert "pip install 'clesr[tensorrt]'" in candidate.install
    assert "'clesr[rtx]'" in candidate.install
    with pytest.raises(EngineError, match="the tensorrt engine cannot start: torch finds no NVIDIA GPU"):
        open_tensorrt(MODEL, SHAPE)


@pytest.mark.parametrize(
    ("card", "extra"),
    [
        ("NVIDIA H200", "tensorrt"),
        ("NVIDIA GeForce RTX 4090", "rtx"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx"),
    ],
)
def test_the_install_command_is_the_cards(card: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: card)
    monkeypatch.setattr(tensorrt_engine, "_installed", lambda: False)
    (candidate,) = tensorrt_engine.candidates()
    assert candidate.reason == f"torch-tensorrt is not installed; pip install 'clesr[{extra}]'"


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("name", ["densenet", "fast", "srcnn"])
def test_parity_on_a_gpu(name: str, scale: int, dtype: type) -> None:
    reason = tensorrt_engine.why_no_tensorrt()
    if reason:
        if os.environ.get("CLESR_REQUIRE_TENSORRT"):
            pytest.fail(reason)
        pytest.skip(reason)
    model = find_model(name, scale)
    engine = open_tensorrt(model, (33, 47))
    try:
        for _ in range(3):
            lr = random_image((33, 47), dtype)
            engine.submit(lr)
            difference = np.abs(engine.collect().astype(float) - reference_image(model.module, lr))
            assert (difference * 255 / np.iinfo(dtype).max).mean() <= 1
            assert (difference * 255 / np.iinfo(dtype).max).max() <= 4
    finally:
        engine.close()
