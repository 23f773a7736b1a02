"""The parameters of a training run, and how its learning rate goes."""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from typing import Any

from clesr.engines.common.errors import UsageError
from clesr.pipeline.settings import check_values, setting

LOSSES = ("l1", "l2")
SCHEDULES = ("steps", "cosine", "constant")
PRECISIONS = ("32", "bf16")
PANELS = ("Data", "Network", "Schedule", "Machine and output")  # of the help, in order
_data, _network, _schedule, _machine = (partial(setting, panel=panel) for panel in PANELS)
Epochs = tuple[int, ...]


def _parse_milestones(text: str) -> Epochs:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise UsageError(f"--milestones {text!r} is no list of epochs; write them as 50,200") from None


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
    data: tuple[str, ...] = _data(
        (),
        "A folder, pattern or file of images, TIFF stacks, .mkt files or videos, or demo:?images=16 for "
        "phantoms; WEIGHT draws it more or less often.  Repeat for more.",
        "PATH[=WEIGHT]",
        required=True,
    )
    test: str | None = _data(None, "Images for the closing figures alone; never trained on.", "PATH")
    hold_out: int = _data(8, "Every N-th image is kept for validation; 0: none.", "N")
    shrunk: float = _data(0.0, "Weight of each image's half-size copy; 0: none.")
    shift: bool = _data(
        False,
        "Let the grid of the LR pixels fall anywhere on the images: more patches from few images.",
        negative=True,
    )
    degradation: tuple[str, ...] = _data(
        (),
        "What befalls patches beside the reduction, such as noise=1..8+jpeg=40..90@2: each draws one, by "
        "weight. Parts: clean, bicubic, area, point, gauss=, cores=, lines=, noise=, shot=, jpeg=, mpeg=.  "
        "Repeat for more.",
        "PART[+PART][@WEIGHT]",
    )
    core_patterns: str | None = _data(
        None, "Raw PNG frames of fibre bundles, for the cores of cores=.", "FOLDER"
    )
    contrast: float = _data(
        1.0,
        "With --degradation: images are dimmed by factors from this to 1: many ratios of signal to noise.",
        "FACTOR",
    )
    epochs: int = _schedule(300, "How often the images are covered.", above_zero=True)
    epoch_patches: int | None = _schedule(
        None, "Patches an epoch.  [default: as many as cover the images once]", "N", above_zero=True
    )
    steps: int | None = _schedule(None, "Training steps in all, in place of --epochs.", "N", above_zero=True)
    batch: int = _schedule(128, "Patches a step, of all processes together.", above_zero=True)
    patch: int = _schedule(64, "HR pixels a side of a patch.", above_zero=True)
    loss: str = _schedule("l1", "l1 as the paper; l2 for a last stretch that aims at PSNR.", choices=LOSSES)
    balanced: bool = _schedule(
        False, "Divide each patch's loss by that of the bicubic image: every kind of patch counts as much."
    )
    learning_rate: float = _schedule(0.001, "Adam's, at its highest.", above_zero=True)
    beta1: float = _schedule(0.9, "Adam's.")
    beta2: float = _schedule(0.999, "Adam's.")
    epsilon: float = _schedule(0.0001, "Adam's.")
    schedule: str = _schedule("steps", "steps: times --decay at each of --milestones.", choices=SCHEDULES)
    milestones: Epochs = _schedule(
        "50,200", "Epochs at which the learning rate falls.", "EPOCH,EPOCH", parse=_parse_milestones
    )
    decay: float = _schedule(
        0.1, "What it is multiplied by (the paper prints 10, which can only mean 1/10).", above_zero=True
    )
    warm_up: int = _schedule(0, "Steps in which the learning rate rises at the start.", "STEPS")
    seed: int = _schedule(0, "Fixes initialisation and every batch.")
    precision: str = _machine("32", "32, or bf16: mixed precision.", choices=PRECISIONS)
    init: str | None = _network(
        None, "Start from these weights; layers that fit are taken, of any scale.", "FILE"
    )
    teacher: str | None = _network(None, "Learn from this model's output as well: distillation.", "FILE")
    teacher_share: float = _network(0.5, "How much of the aim is the teacher's, 0 to 1.", "SHARE")

    def __post_init__(self) -> None:
        check_values(self)
        if not 0.05 <= self.contrast <= 1:
            raise UsageError(f"--contrast {self.contrast} is not between 0.05 and 1")
        if not 0 <= self.teacher_share <= 1:
            raise UsageError(f"--teacher-share {self.teacher_share} is not between 0 and 1")
        if self.patch % self.scale:
            raise UsageError(f"--patch {self.patch} is no multiple of the scale {self.scale}")


DEFAULTS = {field.name: field.default for field in fields(Recipe) if field.default is not MISSING}


class TrainingSchedule:
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
