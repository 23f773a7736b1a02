"""The cuda engine: what it says without a GPU, its networks on a CPU, and on a GPU the whole of it."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from random_models import SMALL_DENSENET, random_image, random_model

from clesr.engines import cuda_engine
from clesr.engines.cuda_engine import TorchNetwork, open_cuda
from clesr.engines.torch_engine import upscale
from clesr.engines.weights import find_model
from clesr.pipeline.errors import EngineError

NETWORKS = {
    "fast x4": random_model("fast", 4, channels=12, depth=4),
    "srcnn x2": random_model("srcnn", 2),
    "densenet x2, low": random_model("densenet", 2, **SMALL_DENSENET, skip="low", base="bicubic"),
}


@pytest.fixture
def gpu() -> None:
    if not torch.cuda.is_available():
        if os.environ.get("CLESR_REQUIRE_CUDA"):
            pytest.fail("CLESR_REQUIRE_CUDA is set and torch finds no NVIDIA GPU")
        pytest.skip("torch finds no NVIDIA GPU")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    (offer,) = cuda_engine.offers()
    assert (offer.available, offer.reason) == (False, "torch finds no NVIDIA GPU")
    with pytest.raises(EngineError, match="the cuda engine cannot start: torch finds no NVIDIA GPU"):
        open_cuda(NETWORKS["fast x4"], (8, 8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_that_the_kernels_do_not_know_run_by_torch(name: str, dtype: type) -> None:
    model, lr = NETWORKS[name], random_image((13, 21), dtype)
    network = TorchNetwork(model.module, (13, 21), cuda_engine.DTYPES[np.dtype(dtype)], "cpu")
    network.lr.copy_(torch.from_numpy(lr))
    network.run()
    levels = np.iinfo(dtype).max
    difference = np.abs(network.sr.numpy().astype(float) - upscale(model.module, lr)) * 255 / levels
    assert difference.mean() < 0.2
    assert difference.max() < 4


@pytest.mark.cuda
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("name", ["densenet", "fast", "srcnn"])
def test_parity_on_a_gpu(name: str, scale: int, dtype: type) -> None:
    model = find_model(name, scale)
    engine = open_cuda(model, (33, 47))
    try:
        images = [random_image((33, 47), dtype) for _ in range(5)]
        found = []
        for index, lr in enumerate(images):
            engine.submit(lr)
            if index:
                found.append(engine.collect())
        found.append(engine.collect())
    finally:
        engine.close()
    levels = np.iinfo(dtype).max
    for lr, sr in zip(images, found, strict=True):
        difference = np.abs(sr.astype(float) - upscale(model.module, lr)) * 255 / levels
        assert difference.mean() <= 1
        assert difference.max() <= 4
