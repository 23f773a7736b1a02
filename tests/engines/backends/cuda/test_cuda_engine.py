"""The cuda engine: what it says without a GPU, its networks on a CPU, and on a GPU the whole of it."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from random_models import SMALL_DENSENET, random_image, random_model

from clesr.engines import factory as selection
from clesr.engines.backends.cuda import engine as cuda_engine
from clesr.engines.backends.cuda.buffers import DTYPES
from clesr.engines.backends.cuda.engine import TorchNetwork, half_precision, open_cuda
from clesr.engines.common.errors import EngineError, UsageError
from clesr.engines.reference import reference_image

NETWORKS = {
    "fast x4": random_model("fast", 4, channels=12, depth=4),
    "srcnn x2": random_model("srcnn", 2),
    "densenet x2, low": random_model("densenet", 2, **SMALL_DENSENET, skip="low", base="bicubic"),
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    (candidate,) = cuda_engine.candidates()
    assert (candidate.available, candidate.reason) == (False, "torch finds no NVIDIA GPU")
    assert candidate.precision == "fp16"
    with pytest.raises(EngineError, match="the cuda engine cannot start: torch finds no NVIDIA GPU"):
        open_cuda(NETWORKS["fast x4"], (8, 8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_that_the_kernels_do_not_know_run_by_torch(name: str, dtype: type) -> None:
    model, lr = NETWORKS[name], random_image((13, 21), dtype)
    network = TorchNetwork(
        half_precision(model.module, "cpu"), (13, 21), model.scale, DTYPES[np.dtype(dtype)], "cpu"
    )
    network.lr.copy_(torch.from_numpy(lr))
    network.run()
    levels = np.iinfo(dtype).max
    difference = np.abs(network.sr.numpy().astype(float) - reference_image(model.module, lr)) * 255 / levels
    assert difference.mean() < 0.2
    assert difference.max() < 4


class Card:
    """An NVIDIA GPU of a compute capability, as far as the offers ask."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)


@pytest.mark.parametrize(
    ("capability", "reason"),
    [((6, 1), "compute capability 6.1 is below 7.5, the first with fp16"), ((7, 5), ""), ((9, 0), "")],
)
def test_what_a_card_is_offered(
    capability: tuple[int, int], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Card(monkeypatch, capability)
    (candidate,) = cuda_engine.candidates()
    assert (candidate.available, candidate.reason) == (not reason, reason)


@pytest.mark.parametrize(("capability", "kernels"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_densenet_runs_by_the_kernels_where_they_have_matrix_units(
    capability: tuple[int, int], kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    Card(monkeypatch, capability)
    own = types.SimpleNamespace(DenseNetKernels=lambda *_: "kernels")
    monkeypatch.setitem(sys.modules, "clesr.engines.backends.cuda.kernels.densenet", own)
    monkeypatch.setattr(cuda_engine, "half_precision", lambda module, _device: module)
    monkeypatch.setattr(cuda_engine, "TorchNetwork", lambda *_: "torch")
    module = NETWORKS["densenet x2, low"].module
    found = cuda_engine.build_network(module, (8, 8), torch.uint8, "cuda")
    assert str(found) == ("kernels" if kernels else "torch")


def test_fp8_is_no_precision() -> None:
    with pytest.raises(UsageError, match="there is no engine cuda fp8; choose from cuda fp16 on cuda"):
        selection._wanted("cuda", None, "fp8")


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_image_that_is_not_finite_is_told(value: float) -> None:
    found = torch.zeros(1, 1, 4, 6, dtype=torch.float16)
    network = TorchNetwork(lambda _x: found, (2, 3), 2, torch.uint8, "cpu")
    network.run()
    assert network.status == 0
    found[0, 0, 1, 2] = value
    network.run()
    assert network.status == 1
    found.zero_()
    network.run()
    assert network.status == 0
