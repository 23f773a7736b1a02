"""DenseNet by the kernels: one LR image of integer levels in, one SR image of integer levels out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from clesr.engines.backends.cuda.buffers import GuidedInputs
from clesr.engines.backends.cuda.kernels.conv import (
    conv3,
    first_conv3,
    hand_over,
    kind_of,
    programs,
    up_conv3,
)
from clesr.engines.backends.cuda.kernels.fp8 import activation_gains, pack_phases_fp8
from clesr.engines.backends.cuda.kernels.plan import PROJECT, TRUNK, UP, Plan, worth_measuring
from clesr.engines.backends.cuda.kernels.planes import pitch_of, plane, planes
from clesr.engines.backends.cuda.kernels.tail import TAPS, finish, project
from clesr.engines.backends.cuda.kernels.trunk import LAYERS, dense_blocks, multiprocessors, pack_trunk
from clesr.engines.backends.cuda.kernels.tuner import FORMS, TunedPlan, Tuner, card_tuner
from clesr.engines.common.errors import WHY, told_as
from clesr.engines.models.densenet import DenseBlock, DenseNet, UpStage
from clesr.engines.models.layers import Settled

GROWTH = 16  # channels of a dense layer: the narrowest tile of a matrix unit
WIDEST = 4 * GROWTH  # of a convolution of the blocks: what layers 1 to 4 give to 5 to 8
LAYERED = Plan()  # stands for a launch a layer, beside the plans of TRUNK
CHECKS = 20  # runs that must agree before the dense blocks run in one launch


class UnsupportedNetworkError(Exception):
    """The kernels cannot run this network; the message says why."""


class _Conv(NamedTuple):
    weights: Tensor  # (3, 3, C_in, C_out) FP16, or phase-major with 4 in front
    bias: Tensor  # FP32
    gain: Tensor | None = None  # FP32, where the weights are FP8


@dataclass(frozen=True, slots=True)
class KernelStep:
    """One kernel of a run: ``run(plan, early)``. Steps of one ``key`` share a plan; None for kernels without."""

    name: str
    run: Callable[[Plan | None, bool], None]
    kind: str = ""
    key: str | None = None


class DenseNetKernels:
    """``module`` on ``device`` for LR images of ``shape`` (H, W) and ``dtype`` (torch.uint8 or torch.uint16).

    All memory is allocated here; ``run`` allocates nothing, so that it can be captured in a CUDA graph. On a GPU the
    plans of the kernels are measured here too, at the first opening (``tuner``, by default the card's), unless
    ``tuned`` is false.

    The dense block has no concatenation: a layer reads a run of the block's 128-channel buffer and writes the next 16
    channels. What the first four layers' outputs give to the last four is one convolution of 64 channels
    (look-ahead); of its sums the first 16 are already the fifth layer's, the others wait for layers 6 to 8.
    ``precision`` "fp8" computes the doublings in FP8 (E4M3), the rest as with "fp16".

    Raises UnsupportedNetworkError for networks of other numbers.
    """

    def __init__(
        self,
        module: nn.Module,
        shape: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device | str,
        *,
        precision: str = "fp16",
        tuner: Tuner | None = None,
        tuned: bool = True,
    ) -> None:
        module = supported(module)
        settled = Settled(module) if module.levels else None
        module = supported(settled.plain) if settled else module
        self.shape, self.scale, self.precision, self._device = shape, module.scale, precision, device
        self.lr = torch.zeros(shape, dtype=dtype, device=device)
        self.sr = torch.zeros([side * self.scale for side in shape], dtype=dtype, device=device)
        self._biases = pack_biases(dict(module.named_parameters())).to(device)
        self.guided: GuidedInputs | None = None
        if settled is not None:
            trust = torch.full(shape, 255, dtype=torch.uint8, device=device)
            self.guided = GuidedInputs(self._biases, trust, lambda told: pack_biases(settled(told)).numpy())
        gains = activation_gains(module, shape) if precision == "fp8" else [1.0] * len(module.up)
        with told_as(UnsupportedNetworkError, WHY, ValueError):  # a plane too large
            self._low_steps = list(self._low_level(module))
            self._block_steps = list(self._dense_blocks(module))
            self._head_steps = list(self._head(module, gains))
        self._plans: dict[str, Plan] = {}
        self._choices: dict[str, TunedPlan] = {}
        self._early = False
        self.whole: Plan | None = None  # of all dense blocks in one launch; None: layer by layer
        tuner = tuner or card_tuner(device)
        if tuned and tuner is not None:
            self._tune(tuner)

    def run(self) -> None:
        """Read ``self.lr``, write ``self.sr``."""
        self._run([*self._low_steps, *self._blocks(), *self._head_steps])

    def run_blocks(self) -> None:
        """The dense blocks alone, by ``whole``."""
        self._run(self._blocks())

    def _run(self, steps: list[KernelStep]) -> None:
        for step in steps:
            step.run(self._plans.get(step.key or ""), self._early)

    def _blocks(self) -> list[KernelStep]:
        """The dense blocks, by ``whole``."""
        whole = self.whole
        if whole is None:
            return self._block_steps
        return [KernelStep("dense blocks", lambda _plan, _early: self._whole_step(whole))]

    def _whole_step(self, plan: Plan) -> None:
        weights, biases = self._packed
        dense_blocks(
            self._planes, self._scratch, weights, biases, self._flags, plan, multiprocessors(self._device)
        )

    def steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Each kernel of a run by name, in order, for kernel-by-kernel times."""
        for step in (*self._low_steps, *self._blocks(), *self._head_steps):
            yield step.name, functools.partial(step.run, self._plans.get(step.key or ""), False)

    def report(self) -> list[str]:
        """What was chosen on this card, a line for each kind of kernel."""
        lines = [
            f"{key}: {choice.plan} ({choice.microseconds:.1f} us, best of {choice.tried})"
            for key, choice in self._choices.items()
        ]
        if not lines:
            return []
        whole = "no" if self.whole is None else str(self.whole)
        early = "yes" if self._early else "no"
        return [*lines, f"early start of kernels: {early}", f"dense blocks in one launch: {whole}"]

    def tunable(self) -> dict[str, KernelStep]:
        """The step that stands for each key: the last and widest of those that share it."""
        steps = (*self._low_steps, *self._block_steps, *self._head_steps)
        return {step.key: step for step in steps if step.key}

    def _tune(self, tuner: Tuner) -> None:
        standing = self.tunable()
        plans = {
            key: worth_measuring(step.kind, tuner.capability, self.precision)
            for key, step in standing.items()
        }
        whole = [*TRUNK, LAYERED] if tuner.capability >= (8, 0) else []
        trunk = f"trunk-{len(self._block_steps)}-{self.shape[0]}x{self.shape[1]}"
        new = [key for key in standing if tuner.recall(key, plans[key]) is None]
        if new:
            trunks = () if tuner.recall(trunk, whole) else TRUNK
            jobs = [functools.partial(self._whole_step, plan) for plan in trunks]
            jobs += [functools.partial(step.run, None, False) for step in self._different_steps()]
            jobs += [functools.partial(standing[key].run, plan, False) for key in new for plan in plans[key]]
            tuner.compile(jobs)
            noise = torch.randint(0, 256, self.shape, generator=torch.Generator().manual_seed(0))
            self.lr.copy_(noise.to(self.lr.dtype))
            self.run()  # zeros would be multiplied faster than images
        for key, step in standing.items():
            self._choices[key] = tuner.choose(key, plans[key], lambda plan, step=step: step.run(plan, False))  # type: ignore[misc]
            self._plans[key] = self._choices[key].plan
        self._tune_launches(tuner)
        if whole:
            choice = self._choices[trunk] = tuner.choose(trunk, whole, self._run_whole)
            self.whole = None if choice.plan == LAYERED else choice.plan
            if self.whole is not None and not self._whole_agrees():
                self.whole = None

    def _tune_launches(self, tuner: Tuner) -> None:
        """Whether kernels start early, compiled as they are launched from now on."""
        if tuner.capability < (9, 0):
            return
        early = f"early-{self.precision}-x{self.scale}-{self.shape[0]}x{self.shape[1]}"
        known = tuner.recall(early, FORMS)
        forms = (True, False) if known is None else (known.plan == FORMS[0],)
        steps = [(step, self._plans.get(step.key or "")) for step in self._different_steps()]
        tuner.compile([functools.partial(step.run, plan, form) for step, plan in steps for form in forms])
        self._early = tuner.faster(early, self._run_early)

    def _different_steps(self) -> list[KernelStep]:
        """One of each kernel: the blocks' are alike."""
        return [*self._low_steps, *self._block_steps[:LAYERS], *self._head_steps]

    def _run_whole(self, plan: Plan) -> None:
        self.whole = None if plan == LAYERED else plan
        self.run_blocks()

    def _whole_agrees(self) -> bool:
        """Whether the blocks in one launch give what they give layer by layer, time after time."""
        plan, self.whole = self.whole, None
        self._run(self._low_steps)
        self.run_blocks()
        expected = self._features.float()
        self.whole = plan
        for _ in range(CHECKS):
            self._planes[:2] = float("nan")
            self.run_blocks()
            worst = (self._features.float() - expected).abs().max()
            if not bool(worst <= 0.01 * expected.abs().max()):
                return False
        return True

    def _run_early(self, early: bool) -> None:
        self._early = early
        self.run()

    def _key(self, kind: str, x: Tensor, conv: _Conv) -> str:
        height, width, c_in = x.shape
        precision = self.precision if kind in (UP, PROJECT) else "fp16"
        shared = max(c_in, 3 * GROWTH)  # the short ones go with the longest of them
        return f"{kind}-{precision}-{shared}-{conv.weights.shape[-1]}-{height}x{width}"

    def _plane(self, height: int, width: int, channels: int, dtype: torch.dtype = torch.float16) -> Tensor:
        return plane(height, width, channels, dtype, self._device)

    def _low_level(self, module: DenseNet) -> Iterator[KernelStep]:
        """Up to ``self._low``, and the memory of the dense blocks."""
        height, width = self.shape
        one, two = (
            self._load(conv, bias) for conv, bias in zip(module.low, self._low_biases(module), strict=True)
        )
        first = self._plane(height, width, one.weights.shape[-1])
        self._planes = planes(3, height, width, LAYERS * GROWTH, torch.float16, self._device)
        self._low = self._planes[2]
        self._scratch = torch.empty((height, width, 3 * GROWTH), dtype=torch.float16, device=self._device)
        self.between = [first, self._planes, self._scratch]
        yield KernelStep(
            "low 1", lambda _plan, early: first_conv3(self.lr, one.weights, one.bias, first, early=early)
        )
        yield self._conv("low 2", first, two, self._low)

    def _dense_blocks(self, module: DenseNet) -> Iterator[KernelStep]:
        """Up to the last block's output, which is ``self._features``."""
        blocks = cast(Iterable[DenseBlock], module.blocks)
        biases = self._biases[-len(module.blocks) * LAYERS * WIDEST :].reshape(-1, LAYERS, WIDEST)
        layers = [
            [self._load(conv, of) for conv, of in zip(_look_ahead(block), own, strict=True)]
            for block, own in zip(blocks, biases, strict=True)
        ]
        self._packed = pack_trunk([[layer.weights for layer in block] for block in layers]), biases
        pitch = pitch_of(self._low)
        most = max(programs(self.shape[0], pitch, plan) for plan in TRUNK)
        self._flags = torch.zeros(most, dtype=torch.int32, device=self._device)
        self._features = self._low
        for index, block in enumerate(layers):
            out = self._planes[index % 2]
            yield from self._dense_block(f"block {index + 1}", block, self._features, out, self._scratch)
            self._features = out

    def _dense_block(
        self, name: str, layers: list[_Conv], x: Tensor, out: Tensor, scratch: Tensor
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

    def _conv(self, name: str, x: Tensor, conv: _Conv, out: Tensor, **sums: Tensor) -> KernelStep:
        """``sums`` are ``partial`` or ``scratch`` of ``conv3``."""

        def run(plan: Plan | None, early: bool) -> None:
            conv3(x, conv.weights, conv.bias, out, plan=plan, early=early, **sums)

        kind = kind_of(conv.weights.shape[-1])
        return KernelStep(name, run, kind, self._key(kind, x, conv))

    def _head(self, module: DenseNet, gains: list[float]) -> Iterator[KernelStep]:
        """From the trunk's output to the image. ``gains`` are those of each doubling's input."""
        height, width = self.shape
        x, narrow = self._features, self.precision == "fp8"
        stages = [self._load_phases(stage, gain) for stage, gain in zip(module.up, gains, strict=True)]
        if module.skip == "add" or narrow:
            source, low = x, self._low if module.skip == "add" else None
            first = x = self._plane(height, width, x.shape[2], torch.float8_e4m3fn) if narrow else x
            yield KernelStep(
                "hand-over", lambda _plan, early: hand_over(source, low, first, gains[0], early=early)
            )
        for i, stage in enumerate(stages[:-1], 1):
            dtype = torch.float8_e4m3fn if narrow else torch.float16
            out = self._plane(height << i, width << i, stage.weights.shape[-1], dtype)
            self.between.append(out)
            yield KernelStep(f"doubling {i}", _bound_up(x, stage, out, gains[i]), UP, self._key(UP, x, stage))
            x = out
        projected = torch.empty((*x.shape[:2], 4, 9), dtype=torch.float16, device=self._device)
        self.between.append(projected)
        taps = torch.zeros((module.last.in_channels, TAPS), dtype=torch.float16, device=self._device)
        taps[:, :9] = module.last.weight.detach()[0].flatten(1).to(taps)
        last = stages[-1]

        def run(plan: Plan | None, early: bool) -> None:
            project(x, last.weights, last.bias, taps, projected, gain=last.gain, plan=plan, early=early)

        yield KernelStep(f"doubling {len(stages)}, projected", run, PROJECT, self._key(PROJECT, x, last))
        assert module.last.bias is not None
        bias = module.last.bias.detach().to(self._device, torch.float32)
        base = None
        if module.base is not None:
            base = module.base.taps.reshape(-1, 5, 5).to(self._device, torch.float32).contiguous()
        trust = self.guided.trust if self.guided is not None else None
        yield KernelStep(
            "image",
            lambda _plan, early: finish(projected, self.lr, base, bias, self.sr, trust, early=early),
        )

    def _low_biases(self, module: DenseNet) -> tuple[Tensor, ...]:
        """Those of the first two convolutions, which ``pack_biases`` puts first."""
        one, two = (conv.out_channels for conv in module.low if isinstance(conv, nn.Conv2d))
        return self._biases[:one], self._biases[one : one + two]

    def _load(self, conv: nn.Module, biases: Tensor) -> _Conv:
        """``conv`` without its own biases, which stand in ``biases`` (C_out or more), as long as they are."""
        assert isinstance(conv, nn.Conv2d)
        weights = conv.weight.detach().permute(2, 3, 1, 0).to(self._device, torch.float16).contiguous()
        return _Conv(weights, biases[: weights.shape[-1]])

    def _load_phases(self, stage: nn.Module, gain: float) -> _Conv:
        assert isinstance(stage, UpStage)
        conv = stage.conv
        assert conv.bias is not None
        bias = conv.bias.detach().reshape(-1, 4).T.to(self._device, torch.float32).contiguous()
        if self.precision == "fp8":
            weights, scales = pack_phases_fp8(conv.weight.detach().to(self._device))
            return _Conv(weights, bias, scales / gain)
        return _Conv(pack_phases(conv.weight.detach().to(self._device, torch.float16)), bias)


def supported(module: nn.Module) -> DenseNet:
    """``module`` where the kernels know it. Raises UnsupportedNetworkError where they do not."""
    if not isinstance(module, DenseNet):
        raise UnsupportedNetworkError(f"the kernels run densenet, not {type(module).__name__}")
    if module.skip not in ("none", "add"):
        raise UnsupportedNetworkError(f"the kernels know no skip {module.skip}")
    blocks = [block for block in module.blocks if isinstance(block, DenseBlock)]
    sizes = {
        (len(block.layers), conv.out_channels)
        for block in blocks
        for conv in block.layers
        if isinstance(conv, nn.Conv2d)
    }
    if sizes != {(LAYERS, GROWTH)}:
        raise UnsupportedNetworkError(f"the kernels want blocks of {LAYERS} layers of {GROWTH} channels")
    return module


def pack_biases(biases: Mapping[str, Tensor]) -> Tensor:
    """DenseNet's ``biases`` by their names, in FP32: those of the first two convolutions, then (blocks, 8, 64): a row
    for each of layers 1 to 4 and one for 5 to 8, which are one convolution as far as they read 1 to 4."""
    blocks = 1 + max(int(name.split(".")[1]) for name in biases if name.startswith("blocks."))
    packed = torch.zeros(blocks, LAYERS, WIDEST)
    for block in range(blocks):
        own = [biases[f"blocks.{block}.layers.{layer}.bias"].detach().float() for layer in range(LAYERS)]
        packed[block, :4, :GROWTH] = torch.stack(own[:4])
        packed[block, 4] = torch.cat(own[4:])
    low = [biases[f"low.{i}.bias"].detach().float() for i in range(2)]
    return torch.cat([*low, packed.flatten()])


def pack_phases(weights: Tensor) -> Tensor:
    """(4C, C_in, 3, 3) as (4, 3, 3, C_in, C), where the phases' channels lie one after the other."""
    ordered = weights.reshape(-1, 4, *weights.shape[1:]).permute(3, 4, 2, 1, 0).contiguous()
    return ordered.permute(3, 0, 1, 2, 4)  # of (3, 3, C_in, 4, C)


def _bound_up(x: Tensor, stage: _Conv, out: Tensor, gain: float) -> Callable[[Plan | None, bool], None]:
    def run(plan: Plan | None, early: bool) -> None:
        up_conv3(x, stage.weights, stage.bias, out, gain=stage.gain, out_gain=gain, plan=plan, early=early)

    return run


def _look_ahead(block: DenseBlock) -> list[nn.Conv2d]:
    """Layers 1 to 4, layers 5 to 8 as far as they read 1 to 4 as one, and of 6 to 8 the rest, all without
    their biases."""
    layers = [layer for layer in block.layers if isinstance(layer, nn.Conv2d)]
    seen = 4 * GROWTH
    ahead = nn.Conv2d(seen, WIDEST, 3, padding=1)
    ahead.weight.data = torch.cat([layer.weight.detach()[:, :seen] for layer in layers[4:]])
    rest = []
    for layer in layers[5:]:
        part = nn.Conv2d(layer.in_channels - seen, GROWTH, 3, padding=1)
        part.weight.data = layer.weight.detach()[:, seen:]
        rest.append(part)
    return [*layers[:4], ahead, *rest]
