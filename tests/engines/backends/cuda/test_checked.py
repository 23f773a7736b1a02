"""The check on the device, run on the CPU, against the check on the host."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_models import random_image, random_model

from clesr.engines.backends.cuda.buffers import DTYPES
from clesr.engines.backends.cuda.checked import CheckedNetwork, _Both
from clesr.engines.backends.cuda.engine import TorchNetwork, half_precision
from clesr.engines.degrade import Corrector, Degrader
from clesr.pipeline.frame import Image

MODEL = {scale: random_model("fast", scale, channels=8, depth=3) for scale in (2, 4, 8)}


def run(lr: Image, scale: int, *, correct: bool, dtype: torch.dtype) -> tuple[CheckedNetwork, Image]:
    """The checked network after ``lr``, its outputs poisoned first; and the image of the network alone."""
    shape = (lr.shape[0], lr.shape[1])
    half = half_precision(MODEL[scale].module, "cpu")
    alone = TorchNetwork(half, shape, scale, dtype, "cpu")
    checked = CheckedNetwork(TorchNetwork(half, shape, scale, dtype, "cpu"), correct=correct)
    checked.sr.fill_(123)
    checked.reprojected.fill_(123)
    for network in (alone, checked):
        network.lr.copy_(torch.from_numpy(lr))
        network.run()
    return checked, alone.sr.numpy()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("shape", "scale"), [((13, 21), 4), ((33, 18), 2), ((5, 40), 8)])
def test_the_image_is_degraded_as_on_the_host(shape: tuple[int, int], scale: int, dtype: type) -> None:
    lr = random_image(shape, dtype)
    checked, sr = run(lr, scale, correct=False, dtype=DTYPES[np.dtype(dtype)])
    assert np.array_equal(checked.sr.numpy(), sr)
    assert checked.reprojected.shape == (1, *shape)
    difference = np.abs(checked.reprojected[0].numpy().astype(int) - Degrader(shape, scale)(sr))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01, "but for halves that are rounded the other way"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("shape", "scale"), [((13, 21), 4), ((33, 18), 2), ((5, 40), 8)])
def test_the_image_is_corrected_as_on_the_host(shape: tuple[int, int], scale: int, dtype: type) -> None:
    lr = random_image(shape, dtype)
    checked, sr = run(lr, scale, correct=True, dtype=DTYPES[np.dtype(dtype)])
    degrader = Degrader(shape, scale)
    own = degrader(sr)
    expected = Corrector(shape, scale)(sr, lr, own)
    assert checked.reprojected.shape == (2, *shape)
    assert np.abs(checked.reprojected[0].numpy().astype(int) - own).max() <= 1
    near = 2 if dtype == np.uint8 else 65  # blocks of another size leave out other thousandths
    assert np.abs(checked.sr.numpy().astype(int) - expected).max() <= near
    assert np.abs(checked.reprojected[1].numpy().astype(int) - degrader(expected)).max() <= near
    before = np.abs(own.astype(float) - lr).mean()
    assert np.abs(checked.reprojected[1].numpy().astype(float) - lr).mean() < before


def test_the_network_may_be_run_again_and_again() -> None:
    checked, _ = run(random_image((8, 8)), 2, correct=True, dtype=torch.uint8)
    first = checked.sr.clone(), checked.reprojected.clone()
    checked.run()
    assert torch.equal(checked.sr, first[0])
    assert torch.equal(checked.reprojected, first[1])


def test_tf32_that_a_process_turned_on_does_not_reach_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuBLAS asks at each product, so also while a graph is captured."""
    seen: list[str] = []
    multiply, products = _Both.__call__, torch.backends.cuda.matmul

    def noting(self: _Both, image: torch.Tensor) -> torch.Tensor:
        seen.append(products.fp32_precision)
        return multiply(self, image)

    monkeypatch.setattr(_Both, "__call__", noting)
    before = products.fp32_precision
    products.fp32_precision = "tf32"
    try:
        run(random_image((8, 8), np.uint16), 2, correct=True, dtype=torch.uint16)
        assert products.fp32_precision == "tf32"
    finally:
        products.fp32_precision = before
    assert seen == ["ieee"] * 3
