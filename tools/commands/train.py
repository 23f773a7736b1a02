"""`clesr train`: weights from a folder of images."""

from __future__ import annotations

import importlib.util
import json
import logging
import threading
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from clesr.engines.common.errors import UsageError
from clesr.engines.common.files import WriteRule, write_file
from clesr.engines.models.registry import BASES, NETWORKS, SCALES, SKIPS
from clesr.pipeline.settings import overwriting, setting
from clesr.tools.common.console import progress_bar
from clesr.tools.common.options import check_options, make_settings, read_toml, settings_options
from clesr.tools.common.signals import INTERRUPTED, stopping_on_signals
from clesr.tools.training.recipe import PANELS, Recipe

if TYPE_CHECKING:
    from clesr.tools.training.train import Trainer

log = logging.getLogger(__name__)
OWN = (*NETWORKS.own, "densenet-paper", "a+")
_network, _machine = (partial(setting, panel=panel) for panel in ("Network", "Machine and output"))
RESULTS = ("checkpoint.pt", "log.csv", "recipe.toml", "weights.safetensors", "MODEL_CARD.md", "curves.png")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options beside those of the recipe."""

    architecture: str = _network(
        "densenet",
        f"{', '.join(OWN)}, or what another package adds.  densenet-paper is the paper's text to the letter: --skip "
        "none --base none.  a+ is no network: of the other options --data, --test, --hold-out, --shrunk, --patch, "
        "--scale and --seed matter to it.",
        "NAME",
    )
    scale: int = _network(4, "", choices=SCALES)
    skip: str = _network("add", "densenet: how low-level features are joined.", choices=SKIPS)
    base: str = _network("bicubic", "densenet: what the network's output is added to.", choices=BASES)
    channels: int = _network(16, "fast: channels of each layer.", minimum=1)
    depth: int = _network(8, "fast: number of convolutions.", minimum=2)
    levels: bool = _network(
        False,
        "densenet, fast: the network is told how noisy, detailed and blocky the image is.",
        negative=True,
    )
    output: str = _machine(
        ...,
        "Where checkpoint, log, curves, weights and model card go; an unfinished run there is taken up again.",
        "FOLDER",
        names=("-o",),
    )
    name: str | None = _machine(None, "Name of the model.  [default: the architecture]")
    every: int = _machine(200, "Steps between checkpoints and validation.", minimum=1)
    device: str = _machine("cpu", "", choices=("cpu", "cuda"))
    devices: int = _machine(1, "GPUs of this machine; torchrun sets its own.", minimum=1)
    threads: int | None = _machine(None, "Processor threads.  [default: all]", "N", minimum=1)
    overwrite: bool = overwriting("Machine and output")


def _read_recipe(context: click.Context, _parameter: click.Parameter, path: str | None) -> None:
    """Make what the TOML file at ``path`` says the defaults of the other options."""
    if path is None:
        return
    found = check_options(read_toml(Path(path), "the recipe"), context.command, path)
    context.default_map = {**(context.default_map or {}), **found}


@click.command()
@settings_options(TrainOptions, Recipe, panels=PANELS)
@click.option(
    "--recipe",
    panel="Schedule",
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=_read_recipe,
    help="Options from this TOML file, as a run leaves it in recipe.toml; those given here go first.",
)
def train(
    output: str, every: int, threads: int | None, device: str, devices: int, overwrite: bool, **options: Any
) -> None:
    """Train a network on your own images, and go on where an interrupted run stopped.

    Images are degraded by antialiased bicubic shrinking; the network learns to undo it. The defaults are the
    paper's: 64 x 64 patches, 128 a step, 300 epochs, L1, Adam at 1e-3, a tenth of that from epoch 50, a hundredth
    from epoch 200. Round fields of view are found and only what lies inside counts. Ctrl-C writes a checkpoint; the
    same command goes on. With `torchrun` each process takes its share of every batch.

    Examples:

    - `clesr train --data images/ --scale 2 -o runs/x2`
    - `clesr train --data 'cle/*.png=3' --data demo:?images=16 --architecture fast --steps 5000 -o runs/fast`
    - `clesr train --recipe runs/x2/recipe.toml --scale 4 --init runs/x2/weights.safetensors -o runs/x4`
    - `torchrun --nproc_per_node 2 --no-python clesr train --data images/ --device cuda -o runs/two`
    """
    import torch

    from clesr.tools.training.publish import publish
    from clesr.tools.training.train import Progress, Trainer, TrainingStopped

    for name in ("lightning", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"training needs {name}; install it with: pip install 'clesr[train]'")
    if threads:
        torch.set_num_threads(threads)
    recipe = _recipe(options)
    rule = _write_rule(recipe, Path(output), overwrite)
    if recipe.architecture == "a+":
        _train_aplus(recipe, Path(output), rule)
        return
    trainer = Trainer(recipe, Path(output), device=device, devices=devices)
    if trainer.first:
        log.info(_plan(trainer))
    silent = 0
    stop = threading.Event()
    with (
        stopping_on_signals(stop.set),
        progress_bar("train", trainer.schedule.steps, unit="steps") as advance,
    ):

        def report(progress: Progress) -> None:
            nonlocal silent
            if not trainer.first:
                return
            gain = "" if progress.gain_db is None else f", {progress.gain_db:+.2f} dB over bicubic"
            advance(progress.step, f"loss {progress.loss:.4f}{gain}")
            if progress.step % every == 0 or progress.step == progress.steps:
                log.info(f"step {progress.step}: loss {progress.loss:.4f}{gain}")
                if progress.silent > silent:
                    log.warning(
                        f"{progress.silent} layers put out nothing but zeros and will learn no more; start again "
                        f"with a lower --learning-rate, now {recipe.learning_rate:g}, or with --warm-up"
                    )
                silent = progress.silent

        try:
            trainer.run(report, every=every, stopping=stop.is_set)
        except TrainingStopped:
            if trainer.first:
                log.info(f"stopped at step {trainer.step}; the same command goes on from there")
            raise SystemExit(INTERRUPTED) from None
    if trainer.first:
        given = {key: value for key, value in options.items() if value not in (None, ())}
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in given.items()]
        write_file(Path(output) / "recipe.toml", "".join(lines), rule)
        weights = publish(trainer, rule)
        log.info(f"wrote {weights} ({weights.stat().st_size / 1e6:.1f} MB); use it with --model {weights}")


def _write_rule(recipe: Recipe, folder: Path, overwrite: bool) -> WriteRule:
    """What may be replaced in ``folder``: where a run is there, its own files. Raises ClesrError where others are in
    the way."""
    from clesr.tools.data.images import named_files
    from clesr.tools.training import checkpoint

    resumed = (folder / checkpoint.NAME).is_file()
    inputs = named_files([*recipe.data, recipe.test or ""])
    rule = WriteRule.of(overwrite or resumed, recipe.init, recipe.teacher, *inputs)
    rule.check_all(*(folder / name for name in RESULTS))
    return rule


def _train_aplus(recipe: Recipe, folder: Path, rule: WriteRule) -> None:
    from clesr.tools.evaluation.aplus import load
    from clesr.tools.training.aplus import train_aplus

    with progress_bar("train a+", 100, unit="%") as advance:
        path = train_aplus(
            recipe, folder, report=lambda what, share: advance(round(100 * share), what), rule=rule
        )
    metrics = load(path).about.metrics
    gain = (
        f"; {metrics['validation_gain_db']:+.2f} dB over bicubic" if "validation_gain_db" in metrics else ""
    )
    log.info(
        f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB){gain}; compare it by `clesr evaluate --methods {path}`"
    )


def _plan(trainer: Trainer) -> str:
    """What is about to happen, in one line."""
    plan, images = trainer.schedule, len(trainer.names)
    going = f"going on at step {trainer.step} of" if trainer.step else "training"
    return (
        f"{going} {plan.steps} steps of {plan.recipe.batch} patches from {images} images "
        f"({plan.epoch_steps} steps an epoch); {len(trainer.held)} held out"
    )


def _recipe(options: dict[str, Any]) -> Recipe:
    """The recipe that the options say; raises UsageError where they do not fit together."""
    asked = options["architecture"]
    architecture, arguments = asked, dict[str, Any]()
    if asked == "densenet-paper":
        architecture, arguments = "densenet", {"skip": "none", "base": "none"}
    elif asked == "densenet":
        arguments = {"skip": options["skip"], "base": options["base"]}
    elif asked == "fast":
        arguments = {"channels": options["channels"], "depth": options["depth"]}
    elif asked not in OWN and asked not in NETWORKS:
        names = ", ".join(dict.fromkeys((*OWN, *NETWORKS)))
        raise UsageError(f"--architecture {asked!r} is not one of {names}")
    if options["levels"]:
        if asked not in ("densenet", "fast"):
            raise UsageError(f"--levels goes with densenet and fast, not with {asked}")
        from clesr.engines.models.registry import LEVELS

        arguments["levels"] = LEVELS
    known = [each.name for each in fields(Recipe)]
    given = {name: value for name, value in options.items() if name in known and value is not None}
    given |= {"scale": int(options["scale"]), "name": options["name"] or asked, "architecture": architecture}
    return make_settings(Recipe, given | {"arguments": arguments})
