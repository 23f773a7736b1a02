"""What a finished run leaves behind: weights with their descriptor, a model card, the curves."""

from __future__ import annotations

import csv
import platform
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from clesr.engines.common.files import NEW, WriteRule, new_file, write_file
from clesr.engines.common.processor import cpu_name
from clesr.engines.models.registry import count_operations, count_parameters
from clesr.engines.models.weights import Descriptor, identity, load_model, save_model
from clesr.tools.bench.machine import git
from clesr.tools.data.pairs import degraded_pairs, load_pairs
from clesr.tools.evaluation.gain import gain_over_bicubic, upscale_image
from clesr.tools.training.train import LOG, Trainer
from clesr.tools.training.validate import fidelity_limit, phantoms

WEIGHTS = "weights.safetensors"
CARD = "MODEL_CARD.md"
CURVES = "curves.png"


def publish(trainer: Trainer, rule: WriteRule = NEW) -> Path:
    """Write the weights, MODEL_CARD.md and curves.png of ``trainer`` into its folder; the path of the weights."""
    trainer.module.eval()
    descriptor = describe(trainer)
    path = trainer.folder / WEIGHTS
    sha256 = save_model(path, trainer.module, descriptor, rule)
    parameters, side = count_parameters(trainer.module), 64
    operations = count_operations(trainer.module.to("meta"), side, side) / side**2
    write_file(trainer.folder / CARD, model_card(descriptor, sha256, parameters, operations), rule)
    with new_file(trainer.folder / CURVES, rule) as temporary:
        draw_curves(trainer.folder / LOG, temporary, descriptor)
    return path


def describe(trainer: Trainer) -> Descriptor:
    """Name, parameters, data, machine, figures and fidelity limit of what was trained."""
    recipe = trainer.recipe
    upscale = partial(upscale_image, trainer.module)
    metrics: dict[str, Any] = {}
    if trainer.held:
        metrics["validation_gain_db"] = round(gain_over_bicubic(upscale, trainer.held), 3)
    if trainer.held and trainer.validated:
        metrics["validation_gains_db"] = {
            str(one): round(gain_over_bicubic(upscale, degraded_pairs(trainer.held, [one], recipe.scale)), 3)
            for one in trainer.validated
        }
    if recipe.test:
        pairs = load_pairs(recipe.test, recipe.scale)
        metrics["test_gain_db"] = round(gain_over_bicubic(upscale, pairs), 3)
        metrics["test_images"] = [pair.name for pair in pairs]
    described = (
        "name", "architecture", "scale", "arguments", "data", "init", "test", "teacher", "core_patterns",
    )  # fmt: skip
    parameters = {key: value for key, value in asdict(recipe).items() if key not in described}
    return Descriptor(
        name=recipe.name,
        architecture=recipe.architecture,
        scale=recipe.scale,
        arguments=recipe.arguments,
        training={
            **parameters,
            "steps": trainer.schedule.steps,
            "epoch_steps": trainer.schedule.epoch_steps,
            "images": trainer.names,
            "held_out": sorted(pair.name for pair in trainer.held),
            "minutes": round(trainer.seconds / 60, 1),
            "machine": machine(trainer),
            "torch": torch.__version__,
            "init": _identity(recipe.init),
            "teacher": _identity(recipe.teacher),
            "core_patterns": Path(recipe.core_patterns).name if recipe.core_patterns else None,
        },
        metrics=metrics,
        fidelity=fidelity_limit(trainer.module, recipe.scale, [pair.lr for pair in trainer.held], phantoms()),
        commit=git("rev-parse", "HEAD") or None,
    )


def model_card(descriptor: Descriptor, sha256: str, parameters: int, operations: float) -> str:
    """The model card as Markdown: what it is, what it was trained on and how, what it reached, what it is not for."""
    training, metrics = descriptor.training, descriptor.metrics
    reached = [
        f"- {title}: {metrics[key]:+.3f} dB over bicubic (true PSNR inside the field of view)"
        for key, title in (("validation_gain_db", "held-out images"), ("test_gain_db", "test images"))
        if key in metrics
    ]
    reached += [
        f"- held-out images, {degradation}: {gain:+.3f} dB over bicubic"
        for degradation, gain in metrics.get("validation_gains_db", {}).items()
    ]
    if descriptor.fidelity:
        reached.append(
            f"- degraded again, its images lie {descriptor.fidelity['limit_db']:.1f} dB or more from the measured "
            f"ones in 99 of 100 tiles ({descriptor.fidelity['tiles']:.0f} tiles of held-out images)"
        )
    mix = ", ".join(f"`{entry}`" for entry in training.get("degradation", ()))
    suffered = f", or degraded by one of (with ranges, and weights behind @) {mix}" if mix else ""
    lines = [
        f"# {descriptor.name} x{descriptor.scale}",
        "",
        f"A `{descriptor.architecture}` network {descriptor.arguments or ''} for up-scaling confocal laser "
        f"endomicroscopy images by {descriptor.scale}: {parameters:,} parameters, {operations / 1e3:,.0f} thousand "
        f"operations an input pixel. Identity `{sha256}`, made at commit `{descriptor.commit}`.",
        "",
        "## Reached",
        "",
        *(reached or ["- not measured: no image was held out"]),
        "",
        "## Trained",
        "",
        f"{training['steps']} steps of {training['batch']} patches of {training['patch']} x {training['patch']} HR "
        f"pixels in {training['minutes']} minutes on {training['machine']}; loss {training['loss']}, Adam, learning "
        f"rate {training['learning_rate']:g}, schedule {training['schedule']}, seed {training['seed']}. LR images are "
        f"the HR images shrunk by antialiased bicubic interpolation (a = -0.5), rounded to 8 bits{suffered}.",
        "",
        f"On {len(training['images'])} images: {', '.join(training['images'])}.",
        "",
        f"Held out: {', '.join(training['held_out']) or 'none'}.",
        "",
        "## Not for",
        "",
        "Diagnosis. Counting or measuring structure near the pixel size. Probes, dyes and tissue unlike those above "
        "without training anew: a network can invent structure.",
        "",
        f"Licence of the weights: {descriptor.licence}; check that it suits the images.",
    ]
    return "\n".join(lines) + "\n"


def draw_curves(log: Path, target: Path, descriptor: Descriptor) -> None:
    """Loss and gain over bicubic against the steps, as a PNG."""
    from matplotlib.figure import Figure

    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows]
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    loss = descriptor.training["loss"]
    unit = 255 if loss == "l1" else 255**2
    left.plot(steps, [float(row["loss"]) * unit for row in rows], color="tab:blue", marker=".")
    left.set(
        xlabel="step", ylabel=f"training loss, {'grey levels' if loss == 'l1' else 'grey levels squared'}"
    )
    right.plot(steps, [float(row["gain_db"] or "nan") for row in rows], color="tab:green", marker=".")
    right.axhline(0, color="grey", linewidth=0.8)
    right.set(xlabel="step", ylabel="held-out images, dB over bicubic")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.set_xlim(left=0)
    figure.suptitle(f"{descriptor.name} x{descriptor.scale}")
    figure.savefig(target, dpi=120)


def machine(trainer: Trainer) -> str:
    """Where a run took place, in words."""
    world = trainer.fabric.world_size
    processes = f"{world} processes, " if world > 1 else ""
    if trainer.fabric.device.type == "cuda":
        return f"{processes}{torch.cuda.get_device_name(trainer.fabric.device)}"
    return f"{processes}{cpu_name()} ({platform.machine()}), {torch.get_num_threads()} threads"


def _identity(weights: str | None) -> str | None:
    return weights and identity(load_model(Path(weights)).module.state_dict())
