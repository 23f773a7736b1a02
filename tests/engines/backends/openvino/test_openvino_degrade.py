"""Images degraded by OpenVINO: the figures of the plain degradation, and whose image they belong to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import openvino as ov  # type: ignore[import-untyped]
import pytest
import torch
import torch.nn.functional as F

from clesr.engines.backends.openvino.degrade import GraphDegrader
from clesr.engines.backends.openvino.engine import open_openvino, shuffled
from clesr.engines.common.resample import resize
from clesr.engines.degrade import Degrader
from clesr.engines.engine import CheckingOnRequest, Engine, SelfChecking, SelfCorrecting
from clesr.engines.models.weights import find_model
from clesr.pipeline.fidelity import FidelityCheck
from clesr.pipeline.frame import Image

SHAPE = (40, 53)
CASES = [
    ((48, 64), 4),
    ((40, 53), 4),
    ((33, 47), 2),
    ((17, 21), 8),
    ((5, 3), 4),
    ((1, 1), 8),
    ((64, 9), 2),
    ((1, 300), 4),
    ((141, 1), 2),
]


def noise(shape: tuple[int, int], dtype: type, seed: int = 0) -> Image:
    """Noise over the full range, so that borders and clipping show."""
    image: Image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    return image


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("shape", "scale"), CASES)
def test_the_graph_gives_what_the_plain_degradation_gives(
    shape: tuple[int, int], scale: int, dtype: type
) -> None:
    """Up to the very border, for any width."""
    sr, top = noise((shape[0] * scale, shape[1] * scale), dtype), np.iinfo(dtype).max

    def prepared(graph: ov.Model) -> ov.InferRequest:
        return (
            ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
        )

    found = GraphDegrader(shape, scale, prepared)(sr)
    assert found.dtype == np.dtype(dtype)
    assert found.shape == shape
    assert np.abs(found - np.clip(resize(sr, *shape), 0, top)).max() < 0.5 + 1e-6 * top


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_phases_are_shuffled_as_torch_does(scale: int, dtype: type) -> None:
    phases = noise((scale**2 * 5, 7), dtype).reshape(1, scale**2, 5, 7)
    pixels = F.pixel_shuffle(torch.from_numpy(phases.astype(np.int64)), scale)[0, 0].numpy()
    in_lines = np.ascontiguousarray(phases.transpose(0, 2, 3, 1)).reshape(5, 7, scale, scale)
    assert np.array_equal(shuffled(in_lines), pixels)


@pytest.fixture(params=["fp32", "bf16"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    opened = open_openvino(find_model("fast", 4), SHAPE, None, device="cpu", precision=request.param)
    yield opened
    opened.close()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_each_image_comes_with_its_own_degradation_and_the_same_figures(engine: Engine, dtype: type) -> None:
    assert isinstance(engine, CheckingOnRequest)
    engine.check()
    assert isinstance(engine, SelfChecking)
    assert not isinstance(engine, SelfCorrecting)
    frames = [noise(SHAPE, dtype, seed) for seed in range(4)]
    degrade = Degrader(SHAPE, 4)
    engine.submit(frames[0])
    for lr, following in zip(frames, [*frames[1:], None], strict=True):
        if following is not None:
            engine.submit(following)
        sr = engine.collect()
        (reprojected,) = engine.reprojected
        assert np.abs(reprojected.astype(int) - degrade(sr)).max() <= 1
        believed, own = (FidelityCheck(SHAPE, 4)(lr, sr, given)[1] for given in ((reprojected,), ()))
        assert believed.db == pytest.approx(own.db, abs=0.01)
        assert believed.worst_db == pytest.approx(own.worst_db, abs=0.01)
        assert believed.worst_at == own.worst_at


def test_an_engine_that_nobody_asks_checks_nothing(engine: Engine) -> None:
    assert isinstance(engine, CheckingOnRequest)
    assert isinstance(engine, SelfChecking)
    lr = noise(SHAPE, np.uint8)
    found = []
    for on in (None, True, False, True):
        if on is not None:
            engine.check(on)
        engine.submit(lr)
        found.append((engine.collect(), len(engine.reprojected)))
    assert [count for _, count in found] == [0, 1, 0, 1]
    assert all(np.array_equal(sr, found[0][0]) for sr, _ in found)
