"""The cuda engine: what it says without a GPU, its networks on a CPU, and on a GPU the whole of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_models import SMALL_DENSENET, random_image, random_model

from clesr.engines import factory as selection
from clesr.engines.backends.cuda import engine as cuda_engine
from clesr.engines.backends.cuda.buffers import DTYPES
from clesr.engines.backends.cuda.engine import TorchNetwork, half_precision, open_cuda
from clesr.engines.common.errors import EngineError
from clesr.engines.reference import upscale

NETWORKS = {
    "fast x4": random_model("fast", 4, channels=12, depth=4),
    "srcnn x2": random_model("srcnn", 2),
    "densenet x2, low": random_model("densenet", 2, **SMALL_DENSENET, skip="low", base="bicubic"),
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    fp16, fp8 = cuda_engine.candidates()
    for candidate in (fp16, fp8):
        assert (candidate.available, candidate.reason) == (False, "torch finds no NVIDIA GPU")
    assert (fp16.precision, fp8.precision, fp16.on_request, fp8.on_request) == ("fp16", "fp8", False, True)
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
    difference = np.abs(network.sr.numpy().astype(float) - upscale(model.module, lr)) * 255 / levels
    assert difference.mean() < 0.2
    assert difference.max() < 4


class Card:
    """An NVIDIA GPU of a compute capability, as far as the offers ask."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)


@pytest.mark.parametrize(
    ("capability", "reasons"),
    [
        (
            (6, 1),
            [
                "compute capability 6.1 is below 7.5, the first with fp16",
                "compute capability 6.1 is below 8.9",
            ],
        ),
        ((8, 6), ["", "compute capability 8.6 is below 8.9, the first with fp8"]),
        ((8, 9), ["", ""]),
        ((9, 0), ["", ""]),
    ],
)
def test_what_a_card_is_offered(
    capability: tuple[int, int], reasons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Card(monkeypatch, capability)
    found = [(candidate.available, candidate.reason) for candidate in cuda_engine.candidates()]
    for (available, reason), wanted in zip(found, reasons, strict=True):
        assert reason.startswith(wanted)
        assert available == (not wanted)


def test_fp8_runs_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    Card(monkeypatch, (9, 0))
    usual = selection._wanted("cuda", None, None)
    assert [candidate.precision for candidate in usual] == ["fp16"]
    assert [candidate.precision for candidate in selection._wanted("auto", None, "fp8")] == ["fp8"]
