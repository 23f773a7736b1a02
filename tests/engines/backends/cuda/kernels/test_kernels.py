"""Each kernel, and DenseNet made of them, against float64 and the FP32 reference: fresh numbers, poisoned outputs."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from kernel_references import NAN, by_torch, half, on_plane, packed, poisoned, weights_of, worst
from torch import Tensor, nn

from clesr.engines.backends.cuda.kernels import conv, pack, tail, up
from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels
from clesr.engines.backends.cuda.kernels.pack import UnsupportedNetworkError
from clesr.engines.models.densenet import DenseNet
from clesr.engines.models.layers import LevelConv
from clesr.engines.models.registry import LEVELS, build_model

ODD = (33, 47)  # no multiple of a tile
SMALL = (9, 18)  # a row and two columns more than a tile
SHAPES = [SMALL, (1, 1), pytest.param(ODD, marks=pytest.mark.slow)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("c_in", [16, 48, 128])
def test_conv3_reads_a_run_of_channels_and_writes_the_next(
    shape: tuple[int, int], c_in: int, device: str
) -> None:
    buffer = poisoned(*shape, 160, device)
    buffer[..., :c_in] = half(*shape, c_in, device=device)
    weights, bias = weights_of(c_in, 16, device)
    out = buffer[..., c_in : c_in + 16]
    conv.conv3(buffer[..., :c_in], packed(weights), bias, out)
    assert worst(out, by_torch(buffer[..., :c_in], weights, bias).relu()) < 1e-3
    assert buffer[..., c_in + 16 :].isnan().all()


def test_conv3_looks_ahead(device: str) -> None:
    """Of 64 sums 16 are done and 48 wait; the next layer takes its 16 up."""
    buffer = poisoned(*ODD, 128, device)
    buffer[..., :64] = half(*ODD, 64, device=device)
    scratch = torch.full((*ODD, 48), NAN, dtype=torch.float32, device=device)
    weights, bias = weights_of(64, 64, device)
    conv.conv3(buffer[..., :64], packed(weights), bias, buffer[..., 64:80], scratch=scratch)
    sums = by_torch(buffer[..., :64], weights, bias)
    assert worst(buffer[..., 64:80], sums[..., :16].relu()) < 1e-3
    limit = 1e-4 if device == "cuda" else 1e-5  # a matrix unit's sums lose the last bits of FP32
    assert worst(scratch, sums[..., 16:]) < limit

    more, _ = weights_of(16, 16, device)
    conv.conv3(
        buffer[..., 64:80], packed(more), torch.zeros(16, device=device), buffer[..., 80:96],
        partial=scratch[..., 16:32],
    )  # fmt: skip
    expected = by_torch(buffer[..., 64:80], more, None) + sums[..., 32:48]
    assert worst(buffer[..., 80:96], expected.relu()) < 1e-3
    assert buffer[..., 96:].isnan().all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("shape", SHAPES)
def test_first_conv3(shape: tuple[int, int], dtype: torch.dtype, device: str) -> None:
    levels = torch.iinfo(dtype).max
    lr = torch.randint(0, levels + 1, shape).to(device, dtype)
    weights, bias = weights_of(1, 64, device)
    out, status = poisoned(*shape, 64, device), torch.full((1,), 7, dtype=torch.int32, device=device)
    conv.first_conv3(lr, packed(weights), bias, out, status)
    assert status == 0
    assert worst(out, by_torch(lr.double()[..., None] / levels, weights, bias).relu()) < 1e-3


def phases(weights: Tensor, bias: Tensor) -> pack.Conv:
    conv = nn.Conv2d(weights.shape[1], weights.shape[0], 3)
    conv.weight.data, conv.bias.data = weights.float(), bias  # type: ignore[union-attr]
    return pack.phases(conv, weights.device)


@pytest.mark.parametrize("shape", SHAPES)
def test_up_conv3_is_convolution_and_pixel_shuffle(shape: tuple[int, int], device: str) -> None:
    x = on_plane(half(*shape, 32, device=device))
    weights, bias = weights_of(32, 4 * 32, device)
    out = poisoned(2 * shape[0], 2 * shape[1], 32, device)
    up.up_conv3(x, *phases(weights, bias), out)
    sums = by_torch(x, weights, bias).relu().permute(2, 0, 1)[None]
    assert worst(out, F.pixel_shuffle(sums, 2)[0].permute(1, 2, 0)) < 1e-3


@pytest.mark.parametrize("shape", SHAPES)
def test_the_tail_is_the_last_doubling_and_convolution(shape: tuple[int, int], device: str) -> None:
    x = on_plane(half(*shape, 32, device=device))
    weights, bias = weights_of(32, 4 * 32, device)
    last, last_bias = weights_of(32, 1, device)
    taps = torch.zeros(32, tail.TAPS, dtype=torch.float16, device=device)
    taps[:, :9] = last[0].reshape(32, 9)
    projected = torch.full((*shape, 4, 9), NAN, dtype=torch.float16, device=device)
    tail.project(x, *phases(weights, bias), taps, projected)
    lr = torch.zeros(shape, dtype=torch.uint16, device=device)
    sr = torch.zeros(2 * shape[0], 2 * shape[1], dtype=torch.uint16, device=device)
    status = torch.zeros(1, dtype=torch.int32, device=device)
    tail.finish(projected, lr, None, last_bias, sr, status)
    assert status == 0

    wide = F.pixel_shuffle(by_torch(x, weights, bias).relu().permute(2, 0, 1)[None], 2)
    expected = torch.sigmoid(F.conv2d(wide, last.double(), last_bias.double(), padding=1))[0, 0]
    assert (sr.double() / 65535 - expected).abs().max() < 2e-3


def test_finish_rounds_halves_to_even(device: str) -> None:
    """Without any logit but the bias every pixel is white / 2 = 127.5, whose even neighbour is 128."""
    projected = torch.zeros(2, 3, 4, 9, dtype=torch.float16, device=device)
    sr = torch.zeros(4, 6, dtype=torch.uint8, device=device)
    lr = torch.zeros(2, 3, dtype=torch.uint8, device=device)
    status = torch.zeros(1, dtype=torch.int32, device=device)
    tail.finish(projected, lr, None, torch.zeros(1, device=device), sr, status)
    assert (sr == 128).all()


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("value", [NAN, float("inf"), -float("inf")])
@pytest.mark.parametrize("trusted", [False, True])
def test_finish_tells_what_is_not_finite(value: float, trusted: bool, device: str) -> None:
    """One number of the last pixel's; the pixels past the image's end, which its programs also have, tell nothing."""
    projected = torch.zeros(2, 3, 4, 9, dtype=torch.float16, device=device)
    lr = torch.zeros(2, 3, dtype=torch.uint8, device=device)
    sr, status = (
        torch.zeros(4, 6, dtype=torch.uint8, device=device),
        torch.zeros(1, dtype=torch.int32, device=device),
    )
    trust = torch.zeros_like(lr) if trusted else None
    tail.finish(projected, lr, None, torch.zeros(1, device=device), sr, status, trust)
    assert status == 0
    projected[1, 2, 3, 4] = value
    tail.finish(projected, lr, None, torch.zeros(1, device=device), sr, status, trust)
    assert status == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_a_network_whose_numbers_are_none_says_so(device: str) -> None:
    """What is not a number must not become 0 on its way through ReLU, nor a byte at its end; the next image is judged
    anew."""
    shape = (3, 5)
    module = build_model("densenet", 4, {"blocks": 1, "skip": "add", "base": "bicubic"})
    kernels = DenseNetKernels(module, shape, torch.uint8, device)
    kernels.lr.fill_(200)
    whole = {step.name: step for step in kernels.steps}
    for name in ("low 2", "block 1, layer 5 and ahead", "doubling 1", ""):
        kernels.status.fill_(7)
        for between in kernels.between:
            between.fill_(0)

        def poison(name: str = name, **options: Any) -> None:
            whole[name].call(**options)
            for between in kernels.between:
                between[1, 2] = NAN

        steps = whole | ({name: whole[name]._replace(call=partial(poison))} if name else {})
        kernels.steps = list(steps.values())
        kernels.run()
        assert kernels.status == bool(name), name


def check_network(
    module: nn.Module,
    shape: tuple[int, int],
    dtype: torch.dtype,
    device: str,
    *,
    twice: bool = True,
) -> None:
    levels = torch.iinfo(dtype).max
    kernels = DenseNetKernels(module, shape, dtype, device)
    for between in kernels.between:
        between.fill_(NAN)
    kernels.sr.fill_(77)
    kernels.status.fill_(77)
    lr = torch.randint(0, levels + 1, shape).to(dtype)
    kernels.lr.copy_(lr)
    told: tuple[torch.Tensor, ...] = ()
    if kernels.guided is not None:
        told = torch.tensor([[0.4, 0.9, -0.1, 0.0, 0.3]]), torch.rand(1, 1, *shape)
        kernels.guided.numbers.copy_(torch.from_numpy(kernels.guided.pack(told[0][0].numpy())))
        kernels.guided.trust.copy_((told[1][0, 0] * 255).round())
        told = told[0], kernels.guided.trust.cpu()[None, None] / 255
    kernels.run()
    assert kernels.status == 0
    with torch.inference_mode():
        reference = (module((lr.float() / levels)[None, None], *told)[0, 0] * levels).round()
    difference = (kernels.sr.cpu().float() - reference).abs() * 255 / levels
    assert reference.std() * 255 / levels > 10
    assert difference.mean() < 0.1
    assert difference.max() <= 1

    if twice:
        reprojected = kernels.sr.clone()
        kernels.run()
        assert torch.equal(reprojected, kernels.sr)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "dtype", "arguments"),
    [
        (2, torch.uint16, {"skip": "add", "base": "bicubic"}),
        (4, torch.uint8, {"skip": "add", "base": "bicubic"}),
        (8, torch.uint8, {"skip": "none", "base": "bicubic"}),
        (2, torch.uint8, {}),
        (2, torch.uint16, {"skip": "add", "base": "bicubic", "levels": LEVELS}),
        (4, torch.uint8, {"skip": "add", "base": "bicubic", "levels": LEVELS}),
    ],
)
def test_densenet(scale: int, dtype: torch.dtype, arguments: dict[str, object], device: str) -> None:
    module = build_model("densenet", scale, {"blocks": 2, **arguments})
    for moved in module.modules():
        if isinstance(moved, LevelConv):
            torch.nn.init.normal_(moved.shift, 0, 0.1)
    if not arguments:  # the paper's output is no image before it is trained: give it some contrast
        assert isinstance(module, DenseNet)
        module.last.weight.data *= 100
    check_network(module, ODD, dtype, device, twice=device == "cuda" or scale == 2)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_densenet_whole(device: str) -> None:
    module = build_model("densenet", 4, {"skip": "add", "base": "bicubic"})
    on_card = device == "cuda"
    check_network(module, (96, 80) if on_card else (40, 36), torch.uint8, device, twice=on_card)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (build_model("fast", 4, {}), "the kernels run densenet, not FastSR"),
        (build_model("densenet", 4, {"skip": "all", "blocks": 1}), "the kernels know no skip all"),
        (build_model("densenet", 4, {"layers": 4, "blocks": 1}), "blocks of 8 layers of 16 channels"),
    ],
)
def test_other_networks_are_refused(module: nn.Module, words: str) -> None:
    with pytest.raises(UnsupportedNetworkError, match=words):
        DenseNetKernels(module, (8, 8), torch.uint8, "cpu")
