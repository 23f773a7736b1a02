"""The networks against the papers' figures and against independent computations in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from random_models import random_model

from clesr.engines.common.errors import WeightsError
from clesr.engines.common.resample import resize
from clesr.engines.models.densenet import DenseBlock, DenseNet, UpStage
from clesr.engines.models.layers import BicubicUp, LevelConv, Settled
from clesr.engines.models.registry import SCALES, build_model, count_operations, count_parameters, level_names

Array = NDArray[np.float64]


def convolve(x: Array, weight: Array, bias: Array) -> Array:
    """A 3x3 convolution with zero padding of (C, H, W), tap by tap."""
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    y = np.tile(bias[:, None, None], (1, height, width))
    for i in range(3):
        for j in range(3):
            y += np.einsum("nc,chw->nhw", weight[:, :, i, j], padded[:, i : i + height, j : j + width])
    return y


def numbers(conv: torch.nn.Module) -> tuple[Array, Array]:
    assert isinstance(conv, torch.nn.Conv2d)
    assert conv.bias is not None
    return conv.weight.detach().double().numpy(), conv.bias.detach().double().numpy()


def weights(module: torch.nn.Module) -> int:
    """Numbers in the convolutions' filters, without biases."""
    return sum(p.numel() for p in module.parameters() if p.ndim == 4)


@pytest.mark.parametrize(
    ("scale", "parameters", "gflop"),
    [(2, 1_662_849, 872.449), (4, 2_253_185, 529.162), (8, 2_843_521, 443.340)],
)
def test_densenet_has_the_papers_parameters_and_operations(scale: int, parameters: int, gflop: float) -> None:
    network = DenseNet(scale)
    assert count_parameters(network) == parameters
    operations = count_operations(network.to("meta"), 1024 // scale, 1024 // scale)
    assert operations / 1e9 == pytest.approx(gflop, abs=5e-4)


def test_operations_of_x4_by_stage() -> None:
    network = DenseNet(4).to("meta")
    pixels = 256 * 256
    head, dense = weights(network.low) * pixels, weights(network.blocks) * pixels
    ups = [weights(stage) * pixels * 4**i for i, stage in enumerate(network.up)]
    last = weights(network.last) * pixels * 16
    stages = [2 * n / 1e9 for n in (head, dense, *ups, last)]
    assert stages == pytest.approx([10, 131, 77, 309, 2], abs=0.6)
    assert 2 * (head + dense + sum(ups) + last) == count_operations(network, 256, 256)


def test_dense_block_has_the_papers_channels() -> None:
    block = DenseBlock(128, 8, 16)
    assert [m.in_channels for m in block.layers] == [128, 16, 32, 48, 64, 80, 96, 112]
    assert all(m.out_channels == 16 for m in block.layers)


def test_dense_block_equals_numpy() -> None:
    torch.manual_seed(1)
    block = DenseBlock(128, 8, 16).double()
    x = np.random.default_rng(1).normal(size=(128, 9, 7))
    own = np.zeros((0, 9, 7))
    for i, layer in enumerate(block.layers):
        y = np.maximum(convolve(x if i == 0 else own, *numbers(layer)), 0)
        own = np.concatenate([own, y])
    with torch.no_grad():
        result = block(torch.from_numpy(x)[None])[0].numpy()
    assert own.max() > 0.05
    np.testing.assert_allclose(result, own, rtol=0, atol=1e-12)


def test_up_stage_equals_numpy() -> None:
    torch.manual_seed(2)
    stage = UpStage(6).double()
    x = np.random.default_rng(2).normal(size=(6, 5, 4))
    phases = np.maximum(convolve(x, *numbers(stage.conv)), 0)
    expected = np.zeros((6, 10, 8))
    for channel in range(6):
        for i in range(2):
            for j in range(2):
                expected[channel, i::2, j::2] = phases[4 * channel + 2 * i + j]
    with torch.no_grad():
        result = stage(torch.from_numpy(x)[None])[0].numpy()
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", SCALES)
def test_bicubic_base_equals_resize_away_from_the_border(scale: int) -> None:
    image = np.random.default_rng(3).random((12, 15)).astype(np.float32)
    result = BicubicUp(scale)(torch.from_numpy(image)[None, None])[0, 0].numpy()
    expected = resize(image, 12 * scale, 15 * scale)
    inside = (slice(2 * scale, -2 * scale),) * 2
    np.testing.assert_allclose(result[inside], expected[inside], rtol=0, atol=1e-6)
    np.testing.assert_allclose(result, expected, rtol=0, atol=0.35)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("skip", ["none", "add", "low", "all"])
@pytest.mark.parametrize("base", ["none", "bicubic"])
def test_every_reading_of_densenet_gives_an_image(scale: int, skip: str, base: str) -> None:
    network = DenseNet(scale, blocks=2, layers=2, growth=4, skip=skip, base=base)
    with torch.no_grad():
        y = network(torch.rand(2, 1, 5, 3))
    assert y.shape == (2, 1, 5 * scale, 3 * scale)
    assert 0 <= float(y.min()) < float(y.max()) <= 1


def test_bicubic_base_is_the_image_of_a_network_that_adds_nothing() -> None:
    network = DenseNet(4, blocks=1, layers=2, growth=4, base="bicubic")
    torch.nn.init.zeros_(network.last.weight)
    assert network.last.bias is not None
    torch.nn.init.zeros_(network.last.bias)
    x = 0.2 + 0.6 * torch.rand(1, 1, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(network(x), BicubicUp(4)(x), rtol=0, atol=1e-6)
        black_and_white = network(torch.tensor([0.0, 1.0]).repeat(1, 1, 6, 3))
    assert bool(torch.isfinite(black_and_white).all())


def test_fast_takes_any_size() -> None:
    network = random_model("fast", 2, channels=8, depth=3).module
    with torch.no_grad():
        for shape in ((1, 1), (1, 7), (5, 3), (8, 8)):
            assert network(torch.rand(1, 1, *shape)).shape == (1, 1, 2 * shape[0], 2 * shape[1])


@pytest.mark.parametrize(
    ("architecture", "scale", "arguments", "words"),
    [
        ("unet", 4, {}, "'unet' is unknown.*densenet, srcnn, fast"),
        ("densenet", 3, {}, "scale 3 is not one of 2, 4, 8"),
        ("densenet", 4, {"skip": "some"}, "skip 'some'"),
        ("fast", 4, {"width": 3}, "width"),
    ],
)
def test_unknown_networks_are_refused(
    architecture: str, scale: int, arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(WeightsError, match=words):
        build_model(architecture, scale, arguments)


@pytest.mark.parametrize("name", ["fast", "srcnn"])
def test_the_bicubic_base_keeps_every_grey_level_in_mixed_precision(name: str) -> None:
    """bf16 has 8 bits: of two neighbouring levels above 128 it would make one."""
    module = random_model(name, 4).module
    base = module.get_submodule("base")
    x = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)
    with torch.no_grad():
        exact = base(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(base(x), exact)


LEVELS = ("one", "two", "three")


def told_and_plain(name: str, skip: str = "add") -> tuple[torch.nn.Module, torch.nn.Module]:
    """Two small networks x4 with the same weights, the first with levels that do not matter yet."""
    more: dict[str, object] = {"channels": 6, "depth": 4}
    if name == "densenet":
        more = {"base": "bicubic", "blocks": 2, "layers": 3, "growth": 4, "skip": skip}
    told, plain = (build_model(name, 4, {**more, **({"levels": LEVELS} if i else {})}) for i in (1, 0))
    told.load_state_dict({**told.state_dict(), **plain.state_dict()})
    return told, plain


@pytest.mark.parametrize(
    ("name", "skip", "steered"), [("fast", "", True), ("densenet", "add", False), ("densenet", "all", False)]
)
def test_levels_move_the_numbers_of_each_image(name: str, skip: str, steered: bool) -> None:
    """At first not at all; then an image of a batch is what the plain network makes of it with its own numbers set."""
    told, plain = told_and_plain(name, skip)
    x, levels = torch.rand(3, 1, 12, 10), torch.tensor([[0.01, 0.02, -0.1], [0.4, 0.04, 0.03], [1.5, 0.9, 0]])
    torch.testing.assert_close(told(x, levels), plain(x))
    moved = [conv for conv in told.modules() if isinstance(conv, LevelConv)]
    assert len(moved) == {"fast": 4, "densenet": 8}[name]
    for conv in moved:
        torch.nn.init.normal_(conv.shift, 0, 0.3)
        if conv.steer is not None:
            torch.nn.init.normal_(conv.steer, 0, 0.1)
    together = told(x, levels)
    settled = Settled(told)
    assert level_names(settled.plain) == ()
    assert len(settled.moving) == len(moved) * (2 if steered else 1)
    different = []
    for number, one in enumerate(levels.numpy()):
        settled.plain.load_state_dict({**settled.plain.state_dict(), **settled(one)})
        alone = settled.plain(x[number : number + 1])
        torch.testing.assert_close(together[number : number + 1], alone, atol=1e-5, rtol=1e-4)
        different.append(settled.plain(x[:1]))
    assert (different[0] - different[1]).abs().max() > 1e-3
    assert (different[1] - different[2]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["fast", "densenet"])
def test_what_is_not_trusted_stays_bicubic(name: str) -> None:
    told, _ = told_and_plain(name)
    x, levels, trust = torch.rand(1, 1, 9, 11), torch.zeros(1, 3), torch.ones(1, 1, 9, 11)
    trust[..., :4] = 0
    trust[..., 4:6] = 0.5
    free, guarded = told(x, levels), told(x, levels, trust)
    bicubic = BicubicUp(4)(x).clamp(0, 1)
    torch.testing.assert_close(guarded[..., :16], bicubic[..., :16], atol=2e-3, rtol=0)
    torch.testing.assert_close(guarded[..., 24:], free[..., 24:])
    assert (free[..., :16] - bicubic[..., :16]).abs().max() > 0.01
    between = (guarded - bicubic).abs()[..., 16:24] <= (free - bicubic).abs()[..., 16:24] + 1e-3
    assert between.all()


def test_a_network_with_levels_wants_them() -> None:
    network = build_model("fast", 2, {"channels": 4, "depth": 3, "levels": LEVELS})
    assert level_names(network) == LEVELS
    assert level_names(build_model("srcnn", 2, {})) == ()
    with pytest.raises(ValueError, match="takes the image's levels as a second input"):
        network(torch.zeros(1, 1, 8, 8))
    plain = build_model("fast", 2, {"channels": 4, "depth": 3})
    assert count_operations(network, 8, 8) == count_operations(plain, 8, 8)
