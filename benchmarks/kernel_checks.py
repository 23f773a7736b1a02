"""Whether DenseNet's kernels compute what torch does in FP32: fresh noise in, outputs poisoned before."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from kernel_times import describe
from torch import Tensor

from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels, KernelStep
from clesr.engines.backends.cuda.kernels.plan import Plan
from clesr.engines.backends.cuda.kernels.tuner import FAILURES, Tuner
from clesr.engines.common.errors import ClesrError
from clesr.engines.models.densenet import LOGIT_MARGIN

LIMIT = 2e-3  # of the largest value: FP16 keeps three figures and a half
LEVELS = 0.55  # of an image, half of one for rounding
BROKEN = (*FAILURES, ClesrError)  # what ends a check and no more

Refused = set[tuple[str, Plan | None]]  # kinds with plans of theirs that do not run on this card


class Found(NamedTuple):
    """How far a kernel is from FP32, and how far it may be: of the largest value, or in levels of the image."""

    error: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.error <= self.limit  # not a number is not

    def __str__(self) -> str:
        return f"{self.error:.1e} from FP32{'' if self.passed else f': FAILED, {self.limit:g} is allowed'}"


class FirstPlans(Tuner):
    """Takes the first plan of each kind that was not ``refused``, measures none, and compiles nothing beforehand."""

    refused: Set[tuple[str, Plan | None]] = frozenset()

    def compile(self, runs: Sequence[Callable[[], object]]) -> None: ...

    def choose(self, key: str, forms: Sequence[Any], run: Callable[[Any], None]) -> Any:
        kind = key.partition("-")[0]
        found = next((form for form in forms if (kind, form) not in self.refused), forms[0])
        self.said[key] = f"{key}: {found}"
        return found


def first_plans(device: str, refused: Refused | None = None) -> FirstPlans | None:
    """For a GPU; a processor has one plan alone."""
    if device != "cuda":
        return None
    tuner = FirstPlans(torch.cuda.get_device_capability(), lambda _run: lambda: 0.0)
    tuner.refused = refused or set()
    return tuner


def different(network: DenseNetKernels) -> dict[str, KernelStep]:
    """The steps of a run that are kernels of ours, by name, alike ones once."""
    found: dict[str, KernelStep] = {}
    for step in network.steps:
        if step.call.func.__name__ in EXPECTED:
            found.setdefault(describe(step.call.func.__name__, step.call.args, step.call.keywords), step)
    return found


def compile_first(
    network: DenseNetKernels, runs: Sequence[tuple[KernelStep, Plan | None]], *, early: bool = False
) -> None:
    """On a GPU compile all of ``runs``, as many at once as there are processors."""
    if network.lr.is_cuda:
        tuner = Tuner(torch.cuda.get_device_capability(), lambda _run: lambda: 0.0)
        tuner.compile([partial(step.run, plan, early) for step, plan in runs])


def check(step: KernelStep, plan: Plan | None) -> Found:
    """Run ``step`` by ``plan`` once on noise and compare all that it writes with FP32."""
    expected, limit = EXPECTED[step.call.func.__name__](*step.call.args, **step.call.keywords)
    step.run(plan, False)
    errors = [_error(found, wanted, limit) for found, wanted in expected]
    return Found(max(errors, key=lambda error: (error != error, error)), limit)


Expected = tuple[
    list[tuple[Tensor, Tensor]], float
]  # what is written beside what it should be, and the limit


def _error(found: Tensor, wanted: Tensor, limit: float) -> float:
    difference = (found.float() - wanted).abs().max()
    return float(difference if limit == LEVELS else difference / wanted.abs().max().clamp(min=1))


def _noise(tensor: Tensor, most: float = 1.0) -> Tensor:
    """``tensor`` filled with fresh numbers from 0 to ``most``, or with levels; in FP32."""
    if tensor.is_floating_point():
        tensor.copy_(most * torch.rand(tensor.shape, device=tensor.device))
    else:
        tensor.copy_(torch.randint(0, torch.iinfo(tensor.dtype).max + 1, tensor.shape, device=tensor.device))
    return tensor.float()


def _poison(*tensors: Tensor) -> None:
    for tensor in tensors:
        tensor.fill_(float("nan") if tensor.is_floating_point() else 77)


def _convolved(x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """(H, W, C_in) FP32 by the kernels' weights (3, 3, C_in, C_out): (H, W, C_out), without ReLU."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        y = F.conv2d(x.permute(2, 0, 1)[None], weights.float().permute(3, 2, 0, 1), bias, padding=1)
    return y[0].permute(1, 2, 0)


def _first_conv3(lr: Tensor, weights: Tensor, bias: Tensor, out: Tensor, status: Tensor) -> Expected:
    x = _noise(lr)[..., None] / torch.iinfo(lr.dtype).max
    _poison(out, status)
    return [(out, _convolved(x, weights, bias).relu()), (status, torch.zeros_like(status).float())], LIMIT


def _conv3(
    x: Tensor,
    weights: Tensor,
    bias: Tensor,
    out: Tensor,
    partial: Tensor | None = None,
    scratch: Tensor | None = None,
) -> Expected:
    added = bias if partial is None else None
    sums = _convolved(_noise(x), weights, added)
    sums = sums if partial is None else sums + _noise(partial)
    now = out.shape[-1]
    expected = [(out, sums[..., :now].relu())]
    if scratch is not None:
        expected.append((scratch, sums[..., now:]))
    _poison(*(found for found, _ in expected))
    return expected, LIMIT


def _by_phase(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """The four phases' channels (H, W, 4, C), with ReLU."""
    phases = _convolved(_noise(x), weights, bias).relu()
    return phases.reshape(*phases.shape[:2], 4, -1)


def _in_place(phases: Tensor) -> Tensor:
    """(H, W, 4, C) as (2H, 2W, C)."""
    height, width, _, channels = phases.shape
    apart = phases.reshape(height, width, 2, 2, channels).permute(0, 2, 1, 3, 4)
    return apart.reshape(2 * height, 2 * width, channels)


def _up_conv3(x: Tensor, weights: Tensor, bias: Tensor, out: Tensor) -> Expected:
    expected = _in_place(_by_phase(x, weights, bias))
    _poison(out)
    return [(out, expected)], LIMIT


def _project(x: Tensor, weights: Tensor, bias: Tensor, last: Tensor, out: Tensor) -> Expected:
    expected = _by_phase(x, weights, bias) @ last[:, :9].float()
    _poison(out)
    return [(out, expected)], LIMIT


def _finish(
    projected: Tensor,
    lr: Tensor,
    base: Tensor | None,
    bias: Tensor,
    out: Tensor,
    status: Tensor,
    trust: Tensor | None,
) -> Expected:
    given, levels, scale = (
        _in_place(_noise(projected, 0.3)),
        torch.iinfo(lr.dtype).max,
        out.shape[0] // lr.shape[0],
    )
    height, width = out.shape
    around = F.pad(given, (0, 0, 1, 1, 1, 1))
    total = bias + sum(around[n // 3 :, n % 3 :][:height, :width, n] for n in range(9))
    if trust is not None:
        total = total * (_noise(trust) / 255).repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    level = _noise(lr)[None, None] / levels
    if base is not None:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            phases = F.conv2d(F.pad(level, (2, 2, 2, 2), mode="replicate"), base[:, None])
        level = F.pixel_shuffle(phases, scale)[0, 0].clamp(LOGIT_MARGIN, 1 - LOGIT_MARGIN)
        total = total + torch.log(level / (1 - level))
    _poison(out)
    status.zero_()  # as the first kernel leaves it
    return [(out, levels * torch.sigmoid(total)), (status, torch.zeros_like(status).float())], LEVELS


EXPECTED: dict[str, Callable[..., Expected]] = {
    "first_conv3": _first_conv3, "conv3": _conv3, "up_conv3": _up_conv3, "project": _project, "finish": _finish,
}  # fmt: skip
