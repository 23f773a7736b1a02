"""`clesr train`: weights from a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from clesr.engines.models import ARCHITECTURES, BASES, SCALES, SKIPS
from clesr.pipeline.errors import UsageError
from clesr.tools.console import progress_bar, tell
from clesr.tools.options import general_options


@click.command()
@click.option_panel("Data", options=["--data", "--test", "--hold-out", "--shrunk"])
@click.option_panel(
    "Network", options=["--architecture", "--scale", "--skip", "--base", "--channels", "--depth", "--init"]
)
@click.option_panel(
    "Schedule", options=["--steps", "--batch", "--patch", "--loss", "--learning-rate", "--schedule", "--seed"]
)
@click.option_panel("Output", options=["--output", "--name", "--every", "--threads", "--device"])
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="PATH[=WEIGHT]",
    help="A folder, pattern or file of images, or demo:?images=16 for phantoms; WEIGHT draws it more or less "
    "often.  Repeat for more.",
)
@click.option("--test", metavar="PATH", help="Images for the closing figures alone; never trained on.")
@click.option(
    "--hold-out",
    type=int,
    default=8,
    show_default=True,
    help="Every N-th image is kept for validation; 0: none.",
)
@click.option(
    "--shrunk",
    type=float,
    default=0.25,
    show_default=True,
    help="Weight of each image's half-size copy; 0: none.",
)
@click.option("--architecture", type=click.Choice(list(ARCHITECTURES)), default="densenet", show_default=True)
@click.option("--scale", type=click.Choice([str(s) for s in SCALES]), default="4", show_default=True)
@click.option(
    "--skip",
    type=click.Choice(SKIPS),
    default="add",
    show_default=True,
    help="densenet: how low-level features are joined.",
)
@click.option(
    "--base",
    type=click.Choice(BASES),
    default="bicubic",
    show_default=True,
    help="densenet: what the network's output is added to.",
)
@click.option("--channels", type=int, default=16, show_default=True, help="fast: channels of each layer.")
@click.option("--depth", type=int, default=8, show_default=True, help="fast: number of convolutions.")
@click.option(
    "--init", metavar="FILE", help="Start from these weights; layers that fit are taken, of any scale."
)
@click.option("--steps", type=int, default=4000, show_default=True, help="Training steps in all.")
@click.option("--batch", type=int, default=8, show_default=True, help="Patches a step.")
@click.option("--patch", type=int, default=64, show_default=True, help="HR pixels a side of a patch.")
@click.option(
    "--loss",
    type=click.Choice(["l1", "l2"]),
    default="l1",
    show_default=True,
    help="l1 as the paper; l2 for a last stretch that aims at PSNR.",
)
@click.option("--learning-rate", type=float, default=5e-4, show_default=True, help="Adam's, at its highest.")
@click.option("--schedule", type=click.Choice(["cosine", "constant"]), default="cosine", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Fixes initialisation and every batch.")
@click.option(
    "--output",
    "-o",
    required=True,
    metavar="FOLDER",
    help="Where checkpoint, log and weights go; an unfinished run there is taken up again.",
)
@click.option("--name", help="Name of the model.  [default: the architecture]")
@click.option(
    "--every", type=int, default=200, show_default=True, help="Steps between checkpoints and validation."
)
@click.option("--threads", type=int, metavar="N", help="Processor threads.  [default: all]")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@general_options()
def train(output: str, every: int, threads: int | None, device: str, **options: Any) -> None:
    """Train a network on your own images, and go on where an interrupted run stopped.

    Images are degraded by antialiased bicubic shrinking; the network learns to undo it by Adam. Validation prints
    decibels over bicubic inside the field of view of held-out images.

    Examples:

    - `clesr train --data images/ --scale 2 -o runs/x2`
    - `clesr train --data 'cle/*.png=3' --data demo:?images=16 --architecture fast -o runs/fast`
    """
    import torch

    from clesr.tools.training.train import Progress, Recipe, Trainer

    if threads:
        torch.set_num_threads(threads)
    trainer = Trainer(_recipe(options, Recipe), Path(output), device=device)
    if trainer.step:
        tell(f"going on at step {trainer.step} of {trainer.recipe.steps}")
    shown: float | None = None
    with progress_bar("train", trainer.recipe.steps, unit="steps") as advance:

        def report(progress: Progress) -> None:
            nonlocal shown
            gain = "" if progress.gain_db is None else f"{progress.gain_db:+.2f} dB over bicubic"
            advance(progress.step, f"loss {progress.loss:.4f} {gain}")
            if progress.gain_db is not None and progress.gain_db != shown:
                shown = progress.gain_db
                tell(f"step {progress.step}: loss {progress.loss:.4f}, {gain}")

        weights = trainer.run(report, every=every)
    size = weights.stat().st_size
    tell(f"wrote {weights} ({size / 1e6:.1f} MB); use it with --model {weights}")


def _recipe(options: dict[str, Any], recipe: Any) -> Any:
    """The recipe that the options say; raises UsageError where they do not fit together."""
    architecture = options.pop("architecture")
    skip, base = options.pop("skip"), options.pop("base")
    channels, depth = options.pop("channels"), options.pop("depth")
    arguments: dict[str, Any] = {}
    if architecture == "densenet":
        arguments = {"skip": skip, "base": base}
    elif architecture == "fast":
        if channels < 1 or depth < 2:
            raise UsageError(
                f"--channels {channels} --depth {depth}: at least 1 channel and 2 layers are needed"
            )
        arguments = {"channels": channels, "depth": depth}
    options["scale"] = int(options["scale"])
    options["data"] = tuple(options["data"])
    options["name"] = options["name"] or architecture
    return recipe(architecture=architecture, arguments=arguments, **options)
