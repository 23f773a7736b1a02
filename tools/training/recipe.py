"""The parameters of a training run, and how its learning rate goes."""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from clesr.engines.common.errors import UsageError

LOSSES = ("l1", "l2")
SCHEDULES = ("steps", "cosine", "constant")
PRECISIONS = ("32", "bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Every parameter of a training run; the defaults are the paper's (Izadi, Moriarty, Hamarneh 2018, section 3).

    ``data`` entries are folders, files, patterns or ``demo:`` addresses, each with ``=WEIGHT`` behind it where it is
    to be drawn more or less often than weight 1. An epoch is as many patches as cover the training images
    once, or ``epoch_patches``; ``steps``, where given, takes the place of ``epochs``. ``shift`` lets the grid of the LR
    pixels fall anywhere on the images. The paper has its learning rate "multiplied by 10" at epochs 50 and 200, which
    can only mean divided: ``decay`` is 0.1. ``init`` names weights to start from, ``teacher`` a model whose output is
    ``teacher_share`` of the aim, ``test`` images for the closing figures alone: never trained on, and nothing is
    chosen by them. ``degradation`` are entries as of tools/data/degradations.py, from which each patch draws one;
    none is the clean reduction; ``core_patterns`` is a folder of raw frames of fibre bundles for those with cores.
    With such entries images are dimmed by factors from ``contrast`` to 1.
    """

    name: str
    architecture: str
    scale: int
    arguments: dict[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    test: str | None = None
    hold_out: int = 8
    shrunk: float = 0.0
    shift: bool = False
    degradation: tuple[str, ...] = ()
    core_patterns: str | None = None
    contrast: float = 1.0
    epochs: int = 300
    epoch_patches: int | None = None
    steps: int | None = None
    batch: int = 128
    patch: int = 64
    loss: str = "l1"
    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-4
    schedule: str = "steps"
    milestones: tuple[int, ...] = (50, 200)
    decay: float = 0.1
    warm_up: int = 0
    seed: int = 0
    precision: str = "32"
    init: str | None = None
    teacher: str | None = None
    teacher_share: float = 0.5

    def __post_init__(self) -> None:
        for name in ("epochs", "epoch_patches", "steps", "batch", "patch", "learning_rate", "decay"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"--{name.replace('_', '-')} {value} is not positive")
        for name, allowed in (("loss", LOSSES), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise UsageError(f"--{name} {getattr(self, name)!r} is not one of {', '.join(allowed)}")
        if not 0.05 <= self.contrast <= 1:
            raise UsageError(f"--contrast {self.contrast} is not between 0.05 and 1")
        if not 0 <= self.teacher_share <= 1:
            raise UsageError(f"--teacher-share {self.teacher_share} is not between 0 and 1")
        if self.patch % self.scale:
            raise UsageError(f"--patch {self.patch} is no multiple of the scale {self.scale}")


DEFAULTS = {field.name: field.default for field in fields(Recipe) if field.default is not MISSING}


class Schedule:
    """A recipe laid out over the training images: steps an epoch, steps in all, the learning rate of each."""

    def __init__(self, recipe: Recipe, covering_patches: int) -> None:
        self.recipe = recipe
        self.epoch_steps = max(1, round((recipe.epoch_patches or covering_patches) / recipe.batch))
        self.steps = recipe.steps or recipe.epochs * self.epoch_steps

    def learning_rate(self, step: int) -> float:
        """Adam's learning rate at ``step``, counted from 0."""
        recipe = self.recipe
        rate = recipe.learning_rate * min(1.0, (step + 1) / max(recipe.warm_up, 1))
        if recipe.schedule == "cosine":
            return rate * (0.01 + 0.99 * (1 + math.cos(math.pi * step / self.steps)) / 2)
        if recipe.schedule == "steps":
            passed = sum(step >= epoch * self.epoch_steps for epoch in recipe.milestones)
            return float(rate * recipe.decay**passed)
        return rate
