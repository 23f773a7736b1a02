"""The rewritten up-sampling equals the network: in float64 to rounding, in FP32 to a fraction of a 16-bit level."""

from __future__ import annotations

import copy

import pytest
import torch
from random_models import SMALL_DENSENET, random_model

from clesr.engines.backends.openvino import winograd
from clesr.engines.backends.openvino.winograd import TiledDenseNet, TiledUp, forward_line, inverse_line
from clesr.engines.models.densenet import DenseNet, UpStage


def test_filtering_a_line_equals_the_convolution() -> None:
    generator = torch.Generator().manual_seed(0)
    d = torch.randn(8, dtype=torch.float64, generator=generator)
    g = torch.randn(3, dtype=torch.float64, generator=generator)
    values = torch.stack(forward_line(list(d)))
    samples = torch.stack(inverse_line(list(values * (winograd.FILTER @ g))))
    direct = torch.stack([(d[i : i + 3] * g).sum() for i in range(6)])
    torch.testing.assert_close(samples, direct, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 12), (7, 5), (1, 9), (4, 1), (1, 1), (13, 6)])
def test_up_stage_equals_the_direct_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    stage = UpStage(6)
    x = torch.randn(1, 6, *shape)
    with torch.no_grad():
        tiled = TiledUp(stage, *shape)(x[0].permute(1, 2, 0))
        torch.testing.assert_close(tiled.permute(2, 0, 1)[None], stage(x), rtol=0, atol=2e-5)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_strips_fit_together(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    torch.manual_seed(0)
    stage, (height, width) = UpStage(6), (27, 10)
    whole = TiledUp(stage, height, width)
    monkeypatch.setattr(winograd, "STRIP_TILES", rows * whole.columns)
    strips = TiledUp(stage, height, width)
    assert (whole.rows, whole.strips) == (5, 1)
    assert (strips.rows, strips.strips) == (rows, -(-5 // rows))
    x = torch.randn(height, width, 6)
    with torch.no_grad():
        torch.testing.assert_close(strips(x), whole(x), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("scale", "skip", "base"),
    [
        (2, "none", "none"),
        (2, "low", "bicubic"),
        (4, "all", "none"),
        (4, "none", "bicubic"),
        (8, "low", "none"),
        (8, "all", "bicubic"),
    ],
)
def test_network_equals_the_direct_one(scale: int, skip: str, base: str) -> None:
    model = random_model("densenet", scale, **SMALL_DENSENET, skip=skip, base=base)
    assert isinstance(model.module, DenseNet)
    x = torch.rand(1, 1, 5, 9, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        direct = model.module(x)
        assert float(direct.std()) > 0.01
        torch.testing.assert_close(TiledDenseNet(model.module, 5, 9)(x), direct, rtol=0, atol=0.2 / 65535)


def test_only_rounding_separates_the_two() -> None:
    """In float64 the difference shrinks with the precision, so the rewrite is exact."""
    model = random_model("densenet", 4, **SMALL_DENSENET, base="bicubic")
    network = copy.deepcopy(model.module).double()
    assert isinstance(network, DenseNet)
    tiled = TiledDenseNet(network, 6, 7).double()
    for stage, direct in zip(tiled.up, network.up, strict=True):  # the filters were rounded to FP32
        assert isinstance(stage, TiledUp)
        assert isinstance(direct, UpStage)
        weight = direct.conv.weight.detach()
        weight = weight[torch.arange(len(weight)).reshape(-1, 4).T.reshape(-1)]
        filters = torch.einsum("ia,ncab,jb->ijcn", winograd.FILTER, weight, winograd.FILTER)
        stage.filters = filters.reshape(stage.filters.shape)
    x = torch.rand(1, 1, 6, 7, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(tiled(x), network(x), rtol=0, atol=1e-13)
