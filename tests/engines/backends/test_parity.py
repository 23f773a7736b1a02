"""Every engine against the reference, and the reference against its definition."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from random_models import SMALL_DENSENET, random_image, random_model
from torch import nn

from clesr.engines.backends.openvino.engine import candidates, open_openvino
from clesr.engines.backends.torch import open_torch
from clesr.engines.common.errors import EngineError
from clesr.engines.guidance import Guidance, guide
from clesr.engines.models.layers import BicubicUp
from clesr.engines.models.registry import LEVELS
from clesr.engines.models.weights import Descriptor, Model
from clesr.engines.reference import reference_image
from clesr.engines.worker import WorkerEngine
from clesr.pipeline.frame import Image

MODELS = {
    "densenet x4": random_model("densenet", 4, **SMALL_DENSENET, skip="add", base="bicubic"),
    "densenet x2, paper's text": random_model("densenet", 2, **SMALL_DENSENET),
    "densenet x2, low": random_model("densenet", 2, **SMALL_DENSENET, skip="low", base="bicubic"),
    "fast x4": random_model("fast", 4, channels=12, depth=4),
    "fast x2": random_model("fast", 2, channels=8, depth=3),
    "fast x8": random_model("fast", 8, channels=8, depth=3),
    "srcnn x2": random_model("srcnn", 2),
    "fast x4, told": random_model("fast", 4, channels=12, depth=4, levels=LEVELS),
    "densenet x2, told": random_model(
        "densenet", 2, **SMALL_DENSENET, skip="add", base="bicubic", levels=LEVELS
    ),
}
TOLD = [name for name in MODELS if name.endswith("told")]
ODD = (13, 21)
LARGE = {
    "densenet x8, low": random_model("densenet", 8, **SMALL_DENSENET, skip="low", base="bicubic"),
    "densenet x4, paper's size": random_model("densenet", 4, skip="add", base="bicubic"),
}  # of which OpenVINO takes seconds to compile one
CASES = [
    *((name, ODD) for name in MODELS),
    *(pytest.param(name, ODD, marks=pytest.mark.slow) for name in LARGE),
    pytest.param("densenet x4", (1, 9), marks=pytest.mark.slow),
    *((name, shape) for name in ("fast x4", "fast x4, told") for shape in ((24, 32), (1, 9), (8, 1))),
    ("densenet x2, told", (1, 9)),
]


def run(engine: WorkerEngine, lr: Image) -> Image:
    engine.submit(lr)
    return engine.collect()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_openvino_equals_torch(name: str, shape: tuple[int, int]) -> None:
    model = (MODELS | LARGE)[name]
    engine = open_openvino(model, shape, None, device="cpu", precision="fp32")
    try:
        for dtype in (np.uint8, np.uint16, np.uint8):  # one engine serves both, in any order
            lr = random_image(shape, dtype)
            sr, reference = run(engine, lr), reference_image(model.module, lr)
            assert sr.dtype == dtype
            assert sr.shape == engine.info.sr_shape == (shape[0] * model.scale, shape[1] * model.scale)
            assert sr.flags.c_contiguous
            assert reference.std() > 0.001 * np.iinfo(dtype).max
            assert np.abs(sr.astype(int) - reference).max() <= 1
    finally:
        engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_each_frame_gets_the_network_that_it_was_told_for(name: str, precision: str) -> None:
    """Whatever was told of the frames before, those in flight included; nothing told is what the image says itself."""
    model, lr = MODELS[name], np.asarray(cv2.GaussianBlur(random_image(ODD), (0, 0), 1.2), np.uint8)
    engine = open_openvino(model, ODD, None, device="cpu", precision=precision)
    most, mean = (1, 0.1) if precision == "fp32" else (40, 2.0)  # these weights enlarge what is rounded
    trust = random_image(ODD, seed=3).astype(np.uint8)
    told = [Guidance(np.full(5, value, np.float32), trust) for value in (0.0, 1.5, 1.5, 0.1)]
    told += [Guidance(told[1].levels, np.zeros(ODD, np.uint8)), guide(lr)]
    references = [reference_image(model.module, lr, one).astype(int) for one in told]
    try:
        found = []
        for number, one in enumerate([*told, None]):
            if number >= engine.depth:
                found.append(engine.collect())
            engine.submit(lr, one)
        found += [engine.collect() for _ in range(engine.depth)]
    finally:
        engine.close()
    for sr, reference in zip(found, [*references, references[-1]], strict=True):
        difference = np.abs(sr.astype(int) - reference)
        assert difference.max() <= most
        assert difference.mean() <= mean
    assert len({reference.tobytes() for reference in references}) == 5, "of six, two of which are the same"
    bicubic = reference_image(BicubicUp(model.scale), lr).astype(int)
    assert np.abs(references[4] - bicubic).max() <= 1


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("name", ["densenet", "fast"])
def test_bf16_leaves_the_bicubic_image_alone(name: str, scale: int) -> None:
    """It has 8 bits, so every level above 128 would be rounded; only what the network adds may be."""
    arguments = {**SMALL_DENSENET, "skip": "add", "base": "bicubic"} if name == "densenet" else {}
    model = copy.deepcopy(random_model(name, scale, **arguments))
    last = model.module.get_submodule("last")
    torch.nn.init.zeros_(last.get_parameter("weight"))
    torch.nn.init.zeros_(last.get_parameter("bias"))
    lr = random_image((16, 24))
    engine = open_openvino(model, (16, 24), None, device="cpu", precision="bf16")
    sr = run(engine, lr)
    engine.close()
    reference = reference_image(model.module, lr)
    assert (sr != reference).mean() < 0.01
    assert np.abs(sr.astype(int) - reference).max() <= 1


@pytest.fixture(params=["torch", "openvino"])
def engine(request: pytest.FixtureRequest) -> Iterator[WorkerEngine]:
    model = MODELS["fast x4"]
    opened = (
        open_torch(model, (10, 12), None, device="cpu")
        if request.param == "torch"
        else open_openvino(model, (10, 12), None, device="cpu", precision="fp32")
    )
    yield opened
    opened.close()


def test_engine_says_what_it_is(engine: WorkerEngine) -> None:
    info, model = engine.info, MODELS["fast x4"]
    assert info.engine in ("torch", "openvino")
    assert (info.precision, info.scale, info.model) == ("fp32", 4, "fast")
    assert info.model_hash == model.sha256
    assert info.lr_shape == (10, 12)
    assert info.device


def test_results_are_the_callers_to_keep(engine: WorkerEngine) -> None:
    first, second = random_image((10, 12)), 255 - random_image((10, 12))
    engine.submit(first)
    engine.submit(second)
    kept = engine.collect()
    before = kept.copy()
    other = engine.collect()
    run(engine, second)
    np.testing.assert_array_equal(kept, before)
    assert not np.array_equal(kept, other)
    kept[:] = 0
    np.testing.assert_array_equal(run(engine, first), before)


def test_torch_engine_equals_the_plain_network() -> None:
    model = MODELS["densenet x4"]
    lr = random_image((11, 7))
    engine = open_torch(model, (11, 7), None, device="cpu")
    sr = run(engine, lr)
    engine.close()
    with torch.inference_mode():
        y = model.module(torch.from_numpy(lr.astype(np.float32) / 255)[None, None])[0, 0].numpy()
    assert np.abs(sr - 255.0 * y).max() < 0.501


class Levels(nn.Module):
    """The LR image four times, ``add`` levels brighter."""

    def __init__(self, add: float) -> None:
        super().__init__()
        self.add = add
        self.unused = nn.Conv2d(1, 1, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.cat([x, x], 2)] * 2, 3) + self.add / 255


def levels_model(add: float) -> Model:
    return Model(Descriptor(name="levels", architecture="levels", scale=2), Levels(add).eval(), "0")


@pytest.mark.parametrize("add", [0.0, 0.4, 0.6, -300.0, 300.0])
def test_outputs_are_rounded_and_clipped(add: float) -> None:
    lr = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = np.clip(np.rint(np.tile(lr, (2, 2)) + add), 0, 255)
    np.testing.assert_array_equal(reference_image(levels_model(add).module, lr), expected)
    engine = open_openvino(levels_model(add), (16, 16), None, device="cpu", precision="fp32")
    np.testing.assert_array_equal(run(engine, lr), expected)
    engine.close()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_level_comes_through_unchanged(dtype: type) -> None:
    levels = np.iinfo(dtype).max + 1
    lr: Image = np.arange(levels).astype(dtype).reshape(-1, 256)
    model = levels_model(0.0)
    engine = open_openvino(model, (lr.shape[0], 256), None, device="cpu", precision="fp32")
    expected = np.tile(lr, (2, 2))
    np.testing.assert_array_equal(run(engine, lr), expected)
    np.testing.assert_array_equal(reference_image(model.module, lr), expected)
    engine.close()


def test_a_network_that_overflows_fails_in_collect() -> None:
    engine = open_torch(levels_model(float("nan")), (4, 4), None, device="cpu")
    engine.submit(np.zeros((4, 4), np.uint8))
    with pytest.raises(
        EngineError, match="torch engine failed on a frame: the network's output is not finite"
    ):
        engine.collect()
    engine.close()


def test_a_device_that_is_not_there_is_one_line() -> None:
    with pytest.raises(EngineError, match=r"OpenVINO cannot run fast x4 .* on npu: .+") as caught:
        open_openvino(MODELS["fast x4"], (8, 8), None, device="npu", precision="fp32")
    assert "\n" not in str(caught.value)


def test_openvino_offers_what_the_processor_has() -> None:
    found = {(candidate.kind, candidate.precision): candidate for candidate in candidates()}
    assert found["cpu", "fp32"].available
    if not found["cpu", "bf16"].available:
        assert "no BF16" in found["cpu", "bf16"].reason


@pytest.mark.cuda
def test_torch_on_cuda_equals_torch_on_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no NVIDIA GPU")
    model = MODELS["densenet x4"]
    engine = open_torch(model, (24, 32), None, device="cuda")
    lr = random_image((24, 32))
    assert np.abs(run(engine, lr).astype(int) - reference_image(model.module, lr)).max() <= 1
    engine.close()
