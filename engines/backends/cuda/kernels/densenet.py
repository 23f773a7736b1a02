"""DenseNet by the kernels: one LR image of integer levels in, one SR image of integer levels out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from clesr.engines.backends.cuda.buffers import GuidedInputs
from clesr.engines.backends.cuda.kernels import pack
from clesr.engines.backends.cuda.kernels.conv import conv3, first_conv3
from clesr.engines.backends.cuda.kernels.pack import GROWTH, LAYERS, WIDEST, Conv, pack_weights, supported
from clesr.engines.backends.cuda.kernels.plan import PROJECT, UP, Plan, alternatives, plan_kind
from clesr.engines.backends.cuda.kernels.planes import plane
from clesr.engines.backends.cuda.kernels.tail import TAPS, finish, project
from clesr.engines.backends.cuda.kernels.tuner import Tuner, card_tuner
from clesr.engines.backends.cuda.kernels.up import up_conv3
from clesr.engines.common.errors import WHY, told_as
from clesr.engines.models.densenet import DenseBlock, DenseNet, UpStage
from clesr.engines.models.layers import Settled


class KernelStep(NamedTuple):
    """One kernel of a run: its function with what it reads and writes. Steps of one ``key`` share a plan of their
    ``kind``; both are empty for kernels without."""

    name: str
    call: partial[None]
    kind: str = ""
    key: str = ""

    def run(self, plan: Plan | None, early: bool) -> None:
        self.call(early=early, **({"plan": plan} if self.kind else {}))


def hand_over(x: Tensor, low: Tensor, *, early: bool) -> None:
    """``x += low``; torch's kernel starts when it may."""
    x.add_(low)


class DenseNetKernels:
    """``module`` on ``device`` for LR images of ``shape`` (H, W) and ``dtype`` (torch.uint8 or torch.uint16).

    All memory is allocated here; ``run`` allocates nothing, so that it can be captured in a CUDA graph. On a GPU the
    plans of the kernels are measured here too (by ``tuner``, usually the card's).

    The dense block has no concatenation: a layer reads a run of the block's 128-channel buffer and writes the next 16
    channels. What the first four layers' outputs give to the last four is one convolution of 64 channels
    (look-ahead); of its sums the first 16 are already the fifth layer's, the others wait for layers 6 to 8.

    Raises UnsupportedNetworkError for networks of other numbers.
    """

    def __init__(
        self,
        module: nn.Module,
        shape: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device | str,
        *,
        tuner: Tuner | None = None,
    ) -> None:
        module = supported(module)
        settled = Settled(module) if module.levels else None
        module = supported(settled.plain) if settled else module
        self.shape, self.scale, self._device = shape, module.scale, device
        self.lr = torch.zeros(shape, dtype=dtype, device=device)
        self.sr = torch.zeros([side * self.scale for side in shape], dtype=dtype, device=device)
        self.status = torch.zeros(1, dtype=torch.int32, device=device)
        self._biases = pack.biases(dict(module.named_parameters())).to(device)
        self.guided: GuidedInputs | None = None
        if settled is not None:
            trust = torch.full(shape, 255, dtype=torch.uint8, device=device)
            self.guided = GuidedInputs(self._biases, trust, lambda told: pack.biases(settled(told)).numpy())
        self.between: list[Tensor] = []  # what kernels hand to one another
        with told_as(pack.UnsupportedNetworkError, WHY, ValueError):  # a plane too large
            self._low_steps = list(self._low_level(module))
            self._block_steps = list(self._dense_blocks(module))
            self._head_steps = list(self._head(module))
        self.steps = [*self._low_steps, *self._block_steps, *self._head_steps]
        self._plans: dict[str, Plan] = {}
        self._report: list[str] = []
        self._early = False
        tuner = tuner or card_tuner(device)
        if tuner is not None:
            self._tune(tuner)

    def run(self, early: bool | None = None) -> None:
        """Read ``self.lr``, write ``self.sr`` and ``self.status``. ``early``: each kernel starts while the one before
        it ends; None takes what was faster."""
        for step in self.steps:
            step.run(self.plan_of(step), self._early if early is None else early)

    def plan_of(self, step: KernelStep) -> Plan | None:
        """The plan of ``step``; None for the usual one, and for kernels without."""
        return self._plans.get(step.key)

    def simplify(self) -> bool:
        """No early starts from now on, which a capture may refuse; whether there were any."""
        was, self._early = self._early, False
        return was

    def report(self) -> list[str]:
        """What was measured on this card, a line for each kind of kernel."""
        early = f"early start of kernels: {'yes' if self._early else 'no'}"
        return [*self._report, early] if self._report else []

    def tunable(self) -> dict[str, KernelStep]:
        """The step that stands for each key: the last and widest of those that share it."""
        return {step.key: step for step in self.steps if step.key}

    def _tune(self, tuner: Tuner) -> None:
        plans = {key: alternatives(step.kind, tuner.capability) for key, step in self.tunable().items()}
        different = [*self._low_steps, *self._block_steps[:LAYERS], *self._head_steps]  # the blocks are alike
        tuner.compile([partial(s.run, plan, False) for s in different for plan in plans.get(s.key, (None,))])
        self.lr.copy_(torch.randint(0, 256, self.shape))  # zeros would be multiplied faster than images
        for tensor in self.between:
            tensor.random_(0, 2)
        for key, step in self.tunable().items():
            self._plans[key] = tuner.choose(key, plans[key], lambda plan, step=step: step.run(plan, False))  # type: ignore[misc]
            self._report.append(tuner.said[key])
        if tuner.capability >= (9, 0):
            tuner.compile([partial(s.run, self.plan_of(s), True) for s in different])
            key = f"early-x{self.scale}-{self.shape[0]}x{self.shape[1]}"
            self._early = tuner.choose(key, (False, True), self.run)

    def _step(self, kind: str, name: str, x: Tensor, conv: Conv, call: partial[None]) -> KernelStep:
        """Of ``call``, which reads ``x``; the short dense layers share the plan of the longest of them."""
        height, width, c_in = x.shape
        key = f"{kind}-{max(c_in, 3 * GROWTH)}-{conv.weights.shape[-1]}-{height}x{width}"
        return KernelStep(name, call, kind, key)

    def _plane(self, height: int, width: int, channels: int) -> Tensor:
        self.between.append(plane(height, width, channels, self._device))
        return self.between[-1]

    def _low_level(self, module: DenseNet) -> Iterator[KernelStep]:
        """Up to ``self._low``."""
        one, two = (conv for conv in module.low if isinstance(conv, nn.Conv2d))
        split = one.out_channels
        first = Conv(pack_weights(one.weight, self._device), self._biases[:split])
        second = Conv(pack_weights(two.weight, self._device), self._biases[split : split + two.out_channels])
        features = self._plane(*self.shape, split)
        self._low = self._plane(*self.shape, LAYERS * GROWTH)
        yield KernelStep("low 1", partial(first_conv3, self.lr, *first, features, self.status))
        yield self._conv("low 2", features, second, self._low)

    def _dense_blocks(self, module: DenseNet) -> Iterator[KernelStep]:
        """Up to the last block's output, which is ``self._features``."""
        biases = self._biases[-len(module.blocks) * LAYERS * WIDEST :].reshape(-1, LAYERS, WIDEST)
        outputs = [self._plane(*self.shape, LAYERS * GROWTH) for _ in range(2)]
        scratch = self._plane(*self.shape, 3 * GROWTH)
        self._features = self._low
        for index, block in enumerate(cast(Iterable[DenseBlock], module.blocks)):
            packed = [pack_weights(weights, self._device) for weights in pack.look_ahead(block)]
            layers = [Conv(w, own[: w.shape[-1]]) for w, own in zip(packed, biases[index], strict=True)]
            out = outputs[index % 2]
            yield from self._dense_block(f"block {index + 1}", layers, self._features, out, scratch)
            self._features = out

    def _dense_block(
        self, name: str, layers: list[Conv], x: Tensor, out: Tensor, scratch: Tensor
    ) -> Iterator[KernelStep]:
        one, two, three, four, ahead, six, seven, eight = layers

        def of(first: int, last: int) -> Tensor:
            """The channels of layers ``first`` to ``last``."""
            return out[..., (first - 1) * GROWTH : last * GROWTH]

        yield self._conv(f"{name}, layer 1", x, one, of(1, 1))
        for i, layer in enumerate((two, three, four), 2):
            yield self._conv(f"{name}, layer {i}", of(1, i - 1), layer, of(i, i))
        yield self._conv(f"{name}, layer 5 and ahead", of(1, 4), ahead, of(5, 5), scratch=scratch)
        for i, layer in enumerate((six, seven, eight), 6):
            waiting = scratch[..., (i - 6) * GROWTH : (i - 5) * GROWTH]
            yield self._conv(f"{name}, layer {i}", of(5, i - 1), layer, of(i, i), partial=waiting)

    def _conv(self, name: str, x: Tensor, conv: Conv, out: Tensor, **sums: Any) -> KernelStep:
        """``sums`` are ``partial`` or ``scratch`` of ``conv3``."""
        call = partial(conv3, x, *conv, out, **sums)
        return self._step(plan_kind(conv.weights.shape[-1]), name, x, conv, call)

    def _head(self, module: DenseNet) -> Iterator[KernelStep]:
        """From the last block's output to the image."""
        x = self._features
        *stages, last = (pack.phases(cast(UpStage, stage).conv, self._device) for stage in module.up)
        if module.skip == "add":
            yield KernelStep("hand-over", partial(hand_over, x, self._low))
        for i, stage in enumerate(stages, 1):
            out = self._plane(2 * x.shape[0], 2 * x.shape[1], stage.weights.shape[-1] // 4)
            yield self._step(UP, f"doubling {i}", x, stage, partial(up_conv3, x, *stage, out))
            x = out
        projected = torch.zeros((*x.shape[:2], 4, 9), dtype=torch.float16, device=self._device)
        self.between.append(projected)
        taps = torch.zeros((module.last.in_channels, TAPS), dtype=torch.float16, device=self._device)
        taps[:, :9] = module.last.weight.detach()[0].flatten(1).to(taps)
        call = partial(project, x, *last, taps, projected)
        yield self._step(PROJECT, f"doubling {len(stages) + 1}, projected", x, last, call)
        assert module.last.bias is not None
        bias = module.last.bias.detach().to(self._device, torch.float32)
        base = None if module.base is None else module.base.taps.reshape(-1, 5, 5).contiguous().to(bias)
        trust = self.guided.trust if self.guided is not None else None
        yield KernelStep(
            "image", partial(finish, projected, self.lr, base, bias, self.sr, self.status, trust)
        )
