"""The training loop, on Lightning Fabric where it is installed: one process or several, resumed to the bit."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from clesr.engines.common.errors import WHY, ClesrError, UsageError, told_as
from clesr.engines.common.files import OWN, write_file
from clesr.engines.common.parsing import one_line, parse_json, read_bounded, unreadable
from clesr.engines.models.densenet import DenseBlock
from clesr.engines.models.layers import BicubicUp
from clesr.engines.models.registry import LEVELS, build_model, level_names
from clesr.engines.models.weights import load_model
from clesr.tools.data.degradations import parse_degradations, parse_mix
from clesr.tools.data.pairs import degraded_pairs
from clesr.tools.evaluation.gain import gain_over_bicubic, upscale_image
from clesr.tools.training import checkpoint
from clesr.tools.training.patches import VALIDATED, Patches, load_data
from clesr.tools.training.recipe import DEFAULTS, Recipe, TrainingSchedule
from clesr.tools.training.single_process import SingleProcess
from clesr.tools.training.validate import silent_layers

if TYPE_CHECKING:
    from lightning.fabric import Fabric

USUAL_ERROR = 0.02  # of the range: that of a bicubic image
LEAST = 0.2  # of it: patches that are nearly flat do not count for more
LOG = "log.csv"
LOG_BYTES = 64 << 20  # at most
COLUMNS = "step,epoch,seconds,learning_rate,loss,gain_db"


class TrainingStopped(Exception):
    """Training was asked to stop; a checkpoint of the step it had reached is on disk."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands: steps done of all, the mean loss since the last line of the log, dB over bicubic on
    the held-out images (None where not measured yet, or none are held out), layers that put out nothing but zeros
    there."""

    step: int
    steps: int
    loss: float
    gain_db: float | None
    silent: int = 0


class Trainer:
    """One run in one folder: ``run`` goes on from the last checkpoint, or from the start.

    ``device`` is cpu or cuda. Under ``torchrun``, or with more ``devices`` than one, each process takes its share of
    every batch and the gradients are averaged, so that the weights are those of one process to rounding. Raises
    UsageError for a recipe that the images, the folder or the machine do not fit.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, device: str = "cpu", devices: int = 1) -> None:
        self.recipe, self.folder = recipe, folder
        mix = parse_mix(recipe.degradation, recipe.core_patterns)
        pairs, self.held = load_data(recipe)
        self.names = sorted({pair.name for pair in pairs})
        drawn = {name: getattr(recipe, name) for name in ("scale", "patch", "seed", "shift", "contrast")}
        self.patches = Patches(pairs, mix=mix, **drawn)
        # What the gain is measured on while training goes on: of a mix, some of what live frames suffer.
        self.validated = parse_degradations(",".join(VALIDATED)) if mix else []
        self.measured = degraded_pairs(self.held, self.validated, recipe.scale) if mix else self.held
        self.schedule = TrainingSchedule(recipe, self.patches.covering)
        self.fabric = _launch(device, devices)
        rank, world = self.fabric.global_rank, self.fabric.world_size
        if recipe.batch % world:
            raise UsageError(
                f"--batch {recipe.batch} cannot be shared by {world} processes; take a multiple of {world}"
            )
        self.share = range(recipe.batch * rank // world, recipe.batch * (rank + 1) // world)
        self.module = build_model(recipe.architecture, recipe.scale, recipe.arguments)
        if level_names(self.module) not in ((), LEVELS):
            raise UsageError(f"training gives a network all of the levels {', '.join(LEVELS)}, or none")
        _initialise(self.module, recipe.seed)
        if recipe.init:
            _start_from(self.module, load_model(Path(recipe.init)).module)
        self.teacher = _teacher(recipe)
        self._bicubic = self.fabric.to_device(BicubicUp(recipe.scale))
        self.step, self.seconds = 0, 0.0
        for parameter in self.module.parameters():
            if parameter.dim() == 4:  # the memory layout that trains faster on CPUs and GPUs alike
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        betas, weights = (recipe.beta1, recipe.beta2), self.module.parameters()
        optimiser = torch.optim.Adam(weights, recipe.learning_rate, betas=betas, eps=recipe.epsilon)
        self.optimiser: torch.optim.Optimizer
        self._wrapped, self.optimiser = self.fabric.setup(self.module, optimiser)
        if self.teacher is not None:
            self.teacher = self.fabric.to_device(self.teacher)
        self._resume()

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and talks."""
        return bool(self.fabric.is_global_zero)

    def run(
        self,
        report: Callable[[Progress], None] = lambda _progress: None,
        *,
        every: int = 200,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train to the recipe's last step; ``report`` is called after every step.

        A checkpoint, a line of the log and the gain on held-out images come ``every`` steps. Where
        ``stopping`` turns true a checkpoint is written and TrainingStopped raised. Raises ClesrError where the loss
        is no number or the disk is full.
        """
        self._prepare_folder()
        gain: float | None = None
        silent = 0
        losses: list[float] = []
        started, before = monotonic(), self.seconds
        while self.step < self.schedule.steps:
            loss, stop = self._train_step(stopping())
            losses.append(loss)
            self.step += 1
            self.seconds = before + monotonic() - started
            mean = float(np.mean(losses))
            if self.step % every == 0 or self.step == self.schedule.steps:
                gain, silent = self._validate()
                self._checkpoint()
                self._log(mean, gain)
                losses.clear()
            report(Progress(self.step, self.schedule.steps, mean, gain, silent))
            if stop and self.step < self.schedule.steps:
                self._checkpoint()
                raise TrainingStopped

    def _prepare_folder(self) -> None:
        """Fail now, not hours later, where the folder cannot hold a checkpoint."""
        with told_as(ClesrError, f"the folder {self.folder} cannot be made: {WHY}"):
            self.folder.mkdir(parents=True, exist_ok=True)
        if not self.step:
            self._checkpoint()

    def _train_step(self, stop: bool) -> tuple[float, bool]:
        """The loss over the whole batch, and whether any process was asked to stop."""
        self.module.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.learning_rate(self.step)
        parts = (torch.from_numpy(part) for part in self.patches(self.step, self.share))
        lr, hr, mask, levels = (self.fabric.to_device(part) for part in parts)
        loss = self._loss(lr, hr, mask, levels)
        self.optimiser.zero_grad()
        self.fabric.backward(loss)
        self.optimiser.step()
        figures = torch.stack([loss.detach().float(), loss.new_tensor(float(stop), dtype=torch.float32)])
        mean = self.fabric.all_reduce(figures, reduce_op="mean")
        assert isinstance(mean, Tensor)
        value, stops = mean.tolist()
        if not math.isfinite(value):
            raise ClesrError(
                f"the loss became {value} at step {self.step}; lower --learning-rate and start again"
            )
        return value, stops > 0

    def _loss(self, lr: Tensor, hr: Tensor, mask: Tensor, levels: Tensor) -> Tensor:
        """Mean distance of all pixels, those outside the field of view counted as right."""
        # Not by Fabric, whose mixed precision rounds the images themselves to bf16: to a grey level.
        mixed = self.recipe.precision == "bf16"
        with torch.autocast(lr.device.type, torch.bfloat16, enabled=mixed):
            made = _upscaled(self._wrapped, self.module, lr, levels)
        made = made.float()
        if self.recipe.balanced:
            mask = mask / self._bicubic_error(lr, hr, mask)
        loss = self._distance(made, hr, mask)
        if self.teacher is None:
            return loss
        with torch.no_grad():
            taught = _upscaled(self.teacher, self.teacher, lr, levels)
        share = self.recipe.teacher_share
        return (1 - share) * loss + share * self._distance(made, taught, mask)

    def _bicubic_error(self, lr: Tensor, hr: Tensor, mask: Tensor) -> Tensor:
        """The mean absolute error of the bicubic image of each patch (N, 1, 1, 1), in units of a usual one."""
        bicubic: Tensor = self._bicubic(lr).clamp(0, 1)
        error = (bicubic - hr).abs() * mask
        return error.mean((1, 2, 3), keepdim=True) / USUAL_ERROR + LEAST

    def _distance(self, made: Tensor, aim: Tensor, mask: Tensor) -> Tensor:
        error = (made - aim) * mask
        return error.abs().mean() if self.recipe.loss == "l1" else error.square().mean()

    def _validate(self) -> tuple[float | None, int]:
        """The gain on held-out images, dB, and how many layers are silent on the first of them."""
        self.module.eval()
        found: tuple[float | None, int] = None, 0
        if self.first and self.held:
            silent = silent_layers(self.module, self.held[0].lr)
            found = gain_over_bicubic(partial(upscale_image, self.module), self.measured), silent
        return self.fabric.broadcast(found)

    def _checkpoint(self) -> None:
        if self.first:
            state = {
                "recipe": json.dumps(asdict(self.recipe)),
                "model": self.module.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
            }
            checkpoint.save(self.folder, state)
        self.fabric.barrier()

    def _resume(self) -> None:
        state = checkpoint.load(self.folder)
        if state is None:
            return
        damaged = f"{self.folder / checkpoint.NAME} is damaged ({{}}); remove it to start anew"
        try:
            recipe = parse_json(state["recipe"], dict[str, Any])
        except ValueError as error:
            raise ClesrError(damaged.format(error)) from error
        ours, defaults = (json.loads(json.dumps(values)) for values in (asdict(self.recipe), DEFAULTS))
        theirs = defaults | recipe
        if ours != theirs:
            changed = [key for key in ours if ours[key] != theirs.get(key)]
            raise UsageError(
                f"{self.folder} holds a run with other {', '.join(changed)}; give the same options to go on "
                "with it, or another --output to start anew"
            )
        try:
            self.module.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ClesrError(damaged.format(one_line(error))) from error
        self.step, self.seconds = state["step"], state["seconds"]
        if self.first:
            _cut_log(self.folder / LOG, self.step)

    def _log(self, loss: float, gain: float | None) -> None:
        if not self.first:
            return
        path = self.folder / LOG
        head = "" if path.exists() else COLUMNS + "\n"
        rate, epoch = self.schedule.learning_rate(self.step - 1), self.step / self.schedule.epoch_steps
        gained = "" if gain is None else f"{gain:.4f}"
        with path.open("a") as file:
            file.write(f"{head}{self.step},{epoch:.3f},{self.seconds:.1f},{rate:.4g},{loss:.8f},{gained}\n")


def _upscaled(called: Callable[..., Any], network: nn.Module, lr: Tensor, levels: Tensor) -> Tensor:
    """What ``network``, run by ``called``, makes of ``lr``; it gets the levels if it takes them."""
    made: Tensor = called(lr, levels) if level_names(network) else called(lr)
    return made


def _launch(device: str, devices: int) -> Fabric | SingleProcess:
    """The processes that train: those of torchrun, else ``devices`` of this machine. Only several need Lightning."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no NVIDIA GPU; use --device cpu")
    world = int(os.environ.get("WORLD_SIZE", "0"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world or devices))
    several = (world or devices) > 1
    if not several and importlib.util.find_spec("lightning") is None:
        return SingleProcess(device)
    from lightning.fabric import Fabric

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice, not faults
        fabric = Fabric(
            accelerator="cuda" if device == "cuda" else "cpu",
            devices=local,
            num_nodes=max(1, world // local),
            strategy="ddp" if several else "auto",
        )
        fabric.launch()
    return fabric


def _teacher(recipe: Recipe) -> nn.Module | None:
    if recipe.teacher is None:
        return None
    model = load_model(Path(recipe.teacher))
    if model.scale != recipe.scale:
        raise UsageError(f"--teacher is for scale {model.scale}, not {recipe.scale}; give one for the same")
    return model.module.requires_grad_(False)


def _initialise(module: nn.Module, seed: int) -> None:
    """Kaiming's normal initialisation; the last layer starts at zero, so that a network with a bicubic
    base starts as bicubic.

    Dense blocks pass on what their first layers read of the channels before, and a tenth of noise: a hundred layers of
    noise alone leave little that the last of them could learn from, and training then silences it for good.
    """
    generator = torch.Generator().manual_seed(seed)
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    for conv in convolutions:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=generator)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    for linear in (m for m in module.modules() if isinstance(m, nn.Linear)):
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu", generator=generator)
        nn.init.constant_(linear.bias, 0.1)
    with torch.no_grad():
        for block in module.modules():
            if isinstance(block, DenseBlock):
                first = cast(nn.Conv2d, block.layers[0]).weight
                first *= 0.1
                passed = torch.arange(len(first))
                first[passed, passed, 1, 1] += 1
    if getattr(module, "base", None) is not None:
        nn.init.zeros_(convolutions[-1].weight)


def _start_from(module: nn.Module, other: nn.Module) -> None:
    """Copy every tensor that both networks have in the same shape: the trunk, across scales."""
    ours, theirs = module.state_dict(), other.state_dict()
    shared = {k: v for k, v in theirs.items() if k in ours and ours[k].shape == v.shape}
    if not shared:
        raise UsageError("--init names weights that share no layer with this network")
    module.load_state_dict({**ours, **shared})


def _cut_log(path: Path, step: int) -> None:
    """Drop what a run wrote after its last checkpoint."""
    if not path.exists():
        return
    try:
        lines = read_bounded(path, LOG_BYTES).decode().splitlines()[1:]
        kept = [line for line in lines if int(line.partition(",")[0]) <= step]
    except (OSError, ValueError) as error:
        raise ClesrError(f"{path} {unreadable(error)}; remove it, then the run goes on") from error
    write_file(path, "\n".join([COLUMNS, *kept]) + "\n", OWN, wait=False)
