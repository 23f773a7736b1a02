"""A plain training loop: L1 or L2, Adam, a seed that fixes every batch, checkpoints, resume."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import nn

from clesr.engines.models import build_model
from clesr.engines.resample import quantise, resize
from clesr.engines.weights import Descriptor, identity, save_model
from clesr.pipeline.errors import ClesrError, UsageError
from clesr.tools.evaluation.metrics import field_of_view, psnr
from clesr.tools.training.data import Pair, Patches, halve, image_files, make_pair, read_gray

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"
LOG = "log.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Every number of a training run. ``data`` entries are folders, files, patterns or ``demo:`` addresses,
    each with ``=WEIGHT`` behind it where it is to be drawn more or less often than weight 1. ``init`` names weights
    to start from, ``test`` images for the closing figures alone: never trained on, and nothing is chosen by them."""

    name: str
    architecture: str
    scale: int
    arguments: dict[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    steps: int = 4000
    batch: int = 8
    patch: int = 64
    loss: str = "l1"
    learning_rate: float = 5e-4
    schedule: str = "cosine"
    seed: int = 0
    shrunk: float = 0.25
    hold_out: int = 8
    init: str | None = None
    test: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "patch"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} {getattr(self, name)} is not positive")
        if self.loss not in ("l1", "l2"):
            raise UsageError(f"--loss {self.loss!r} is not l1 or l2")
        if self.schedule not in ("cosine", "constant"):
            raise UsageError(f"--schedule {self.schedule!r} is not cosine or constant")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands: steps done of all, the mean loss since the last report, dB over bicubic on
    the held-out images (None where not measured yet)."""

    step: int
    steps: int
    loss: float
    gain_db: float | None


def load_data(recipe: Recipe) -> tuple[list[Pair], list[Pair]]:
    """The training pairs and the held-out ones: every ``hold_out``-th image file, never trained on.

    Raises UsageError for an empty or unreadable entry.
    """
    pairs: list[Pair] = []
    held: list[Pair] = []
    for entry in recipe.data:
        address, weight = _split_weight(entry)
        if address.startswith("demo:"):
            from clesr.tools.training.phantoms import phantom_images

            images = phantom_images(address)
            pairs += [
                make_pair(name, im, recipe.scale, recipe.patch, weight / len(images)) for name, im in images
            ]
            continue
        files = image_files(address)
        for index, path in enumerate(files):
            image = read_gray(path)
            if recipe.hold_out and index % recipe.hold_out == recipe.hold_out // 2 and len(files) > 2:
                held.append(make_pair(path.name, image, recipe.scale, recipe.patch, 1.0))
                continue
            pairs.append(make_pair(path.name, image, recipe.scale, recipe.patch, weight))
            if recipe.shrunk and min(image.shape) >= 2 * recipe.patch:
                half = halve(image)
                pairs.append(
                    make_pair(f"{path.name} / 2", half, recipe.scale, recipe.patch, weight * recipe.shrunk)
                )
    return pairs, held


def _split_weight(entry: str) -> tuple[str, float]:
    """``ADDRESS=WEIGHT`` taken apart; the '=' of a demo: address's own last option belongs to the address."""
    address, separator, text = entry.rpartition("=")
    options = address.partition("?")[2]
    if not separator or (options and "=" not in options.rpartition("&")[2]) or address.endswith("?"):
        return entry, 1.0
    try:
        weight = float(text)
    except ValueError:
        return entry, 1.0
    if not weight > 0:
        raise UsageError(f"weight {text} of {address} is not positive")
    return address, weight


def gain_over_bicubic(module: nn.Module, pairs: list[Pair]) -> float:
    """Mean true PSNR of ``module`` minus that of bicubic, dB, inside the field of view of ``pairs``."""
    gains = []
    for pair in pairs:
        mask = field_of_view(pair.hr)
        sr = upscale_image(module, pair.lr)
        bicubic = quantise(resize(pair.lr, *pair.hr.shape), pair.hr.dtype)
        gains.append(psnr(pair.hr, sr, mask) - psnr(pair.hr, bicubic, mask))
    return float(np.mean(gains)) if gains else math.nan


def upscale_image(module: nn.Module, lr: Any) -> Any:
    """The SR image (sH, sW) uint8 of ``lr`` (H, W) uint8, in FP32 on the module's device."""
    device = next(module.parameters()).device
    with torch.inference_mode():
        x = torch.from_numpy(np.ascontiguousarray(lr)).to(device)[None, None].float() / 255
        y = module(x)[0, 0].clamp(0, 1) * 255
    return y.round().to(torch.uint8).cpu().numpy()


class Trainer:
    """One run in one folder: ``run`` goes on from the last checkpoint, or from the start."""

    def __init__(self, recipe: Recipe, folder: Path, *, device: str = "cpu") -> None:
        self.recipe, self.folder, self.device = recipe, folder, device
        torch.manual_seed(recipe.seed)
        module = build_model(recipe.architecture, recipe.scale, recipe.arguments)
        _initialise(module)
        if recipe.init:
            _start_from(module, find_model_any_scale(recipe.init))
        self.module = _channels_last(module.to(device))
        self.optimiser = torch.optim.Adam(self.module.parameters(), recipe.learning_rate)
        self.step, self.seconds = 0, 0.0
        if (folder / CHECKPOINT).exists():
            self._resume()
        pairs, self.held = load_data(recipe)
        self.patches = Patches(
            pairs, scale=recipe.scale, patch=recipe.patch, batch=recipe.batch, seed=recipe.seed
        )
        self.names = sorted({pair.name for pair in pairs})

    def run(self, report: Callable[[Progress], None], *, every: int = 200) -> Path:
        """Train to the recipe's last step; ``report`` is called after every step.

        A checkpoint, a line of the log and the gain on held-out images come ``every`` steps. Returns the
        path of the weights. Interrupting at any moment loses at most the steps since the last checkpoint.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        gain: float | None = None
        losses: list[float] = []
        mean = 0.0
        started, before = monotonic(), self.seconds
        while self.step < self.recipe.steps:
            losses.append(self._train_step())
            self.step += 1
            mean = float(np.mean(losses))
            self.seconds = before + monotonic() - started
            if self.step % every == 0 or self.step == self.recipe.steps:
                self.module.eval()
                gain = gain_over_bicubic(self.module, self.held)
                self._checkpoint()
                self._log(mean, gain)
                losses.clear()
            report(Progress(self.step, self.recipe.steps, mean, gain))
        return self._finish()

    def _train_step(self) -> float:
        self.module.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate()
        lr, hr = (torch.from_numpy(a).to(self.device) for a in self.patches(self.step))
        error = self.module(lr) - hr
        loss = error.abs().mean() if self.recipe.loss == "l1" else error.square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ClesrError(
                f"the loss became {value} at step {self.step}; lower --learning-rate and start again"
            )
        return value

    def _learning_rate(self) -> float:
        recipe = self.recipe
        if recipe.schedule == "constant":
            return recipe.learning_rate
        warm_up = min(1.0, (self.step + 1) / 50)
        decay = (1 + math.cos(math.pi * self.step / recipe.steps)) / 2
        return recipe.learning_rate * warm_up * (0.01 + 0.99 * decay)

    def _checkpoint(self) -> None:
        state = {
            "recipe": json.dumps(asdict(self.recipe)),
            "model": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        temporary = self.folder / (CHECKPOINT + ".part")
        torch.save(state, temporary)
        os.replace(temporary, self.folder / CHECKPOINT)

    def _resume(self) -> None:
        state = torch.load(self.folder / CHECKPOINT, weights_only=True)
        ours, theirs = json.loads(json.dumps(asdict(self.recipe))), json.loads(state["recipe"])
        if ours != theirs:
            changed = [key for key in ours if ours[key] != theirs.get(key)]
            raise UsageError(
                f"{self.folder} holds a run with other {', '.join(changed)}; give the same options to go on "
                "with it, or another --output to start anew"
            )
        self.module.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _log(self, loss: float, gain: float) -> None:
        path = self.folder / LOG
        head = "" if path.exists() else "step,seconds,learning_rate,loss,gain_db\n"
        with path.open("a") as file:
            file.write(
                f"{head}{self.step},{self.seconds:.1f},{self._learning_rate():.3g},{loss:.6f},{gain:.4f}\n"
            )

    def _finish(self) -> Path:
        recipe = self.recipe
        self.module.eval()
        metrics: dict[str, Any] = {}
        if self.held:
            metrics["validation_gain_db"] = round(gain_over_bicubic(self.module, self.held), 3)
        if recipe.test:
            files = image_files(recipe.test)
            pairs = [make_pair(p.name, read_gray(p), recipe.scale, recipe.patch, 1.0) for p in files]
            metrics["test_gain_db"] = round(gain_over_bicubic(self.module, pairs), 3)
            metrics["test_images"] = [pair.name for pair in pairs]
        described = ("name", "architecture", "scale", "arguments", "data", "init", "test")
        numbers = {key: value for key, value in asdict(recipe).items() if key not in described}
        descriptor = Descriptor(
            name=recipe.name,
            architecture=recipe.architecture,
            scale=recipe.scale,
            arguments=recipe.arguments,
            training={
                "images": self.names,
                "held_out": sorted(pair.name for pair in self.held),
                "minutes": round(self.seconds / 60, 1),
                "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {self.device}",
                "torch": torch.__version__,
                "init": recipe.init and identity(find_model_any_scale(recipe.init).state_dict()),
                **numbers,
            },
            metrics=metrics,
            commit=_git_commit(),
        )
        path = self.folder / WEIGHTS
        save_model(path, self.module, descriptor)
        return path


def find_model_any_scale(name_or_path: str) -> nn.Module:
    """The module in a weights file, whatever its scale."""
    from clesr.engines.weights import load_model

    return load_model(Path(name_or_path)).module


def _channels_last(module: nn.Module) -> nn.Module:
    """Weights in the memory layout that trains faster on CPUs and GPUs alike."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def _initialise(module: nn.Module) -> None:
    """Kaiming's normal initialisation; the last layer starts at zero, so that a network with a bicubic
    base starts as bicubic."""
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    for conv in convolutions:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    if getattr(module, "base", None) is not None:
        nn.init.zeros_(convolutions[-1].weight)


def _start_from(module: nn.Module, other: nn.Module) -> None:
    """Copy every tensor that both networks have in the same shape: the trunk, across scales."""
    ours, theirs = module.state_dict(), other.state_dict()
    shared = {k: v for k, v in theirs.items() if k in ours and ours[k].shape == v.shape}
    if not shared:
        raise UsageError("--init names weights that share no layer with this network")
    module.load_state_dict({**ours, **shared})


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
