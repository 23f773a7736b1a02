"""The paper's schedule on a GPU: DenseNet by the paper's protocol, as far as the minutes go.

python benchmarks/paper.py --minutes M [--scale 4] [--skip add] [--base bicubic] [--dry]

Images are those of CLESR_DATA (train/, measured on test/). A run that the time cut short is taken up again by the
same command: its checkpoint lies in the folder of the results. Lightning need not be installed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from time import monotonic

import click
import torch
from stage import folder, leave, tell

from clesr.engines.common.errors import ClesrError
from clesr.engines.common.files import OWN
from clesr.engines.models.registry import BASES, SKIPS
from clesr.engines.models.weights import save_model
from clesr.tools.bench.images import DATA
from clesr.tools.training.publish import describe
from clesr.tools.training.recipe import Recipe
from clesr.tools.training.train import Progress, Trainer, TrainingStopped

EVERY_S = 15.0  # between two lines of progress


def recipe_for(scale: int, skip: str, base: str, dry: bool) -> Recipe:
    """The paper's numbers, but bf16 products; dry, two steps of a tiny network on phantoms."""
    arguments: dict[str, object] = {"skip": skip, "base": base}
    if dry:
        tiny = {**arguments, "blocks": 1, "layers": 2, "growth": 4}
        return Recipe(
            name="paper", architecture="densenet", scale=scale, arguments=tiny, data=("demo:?images=2&size=64",),
            hold_out=2, batch=2, steps=2,
        )  # fmt: skip
    data = os.environ.get(DATA)
    if not data:
        raise click.ClickException(f"{DATA} is not set: it names the folder with train/ and test/")
    return Recipe(
        name="paper", architecture="densenet", scale=scale, arguments=arguments, data=(f"{data}/train",),
        test=f"{data}/test", precision="bf16",
    )  # fmt: skip


def train(trainer: Trainer, seconds: float) -> bool:
    """Go on until the recipe's last step or for ``seconds``; whether it came to the end."""
    end = monotonic() + seconds
    said = 0.0

    def report(progress: Progress) -> None:
        nonlocal said
        if monotonic() - said > EVERY_S:
            said = monotonic()
            gain = "" if progress.gain_db is None else f", {progress.gain_db:+.2f} dB over bicubic"
            click.echo(f"step {progress.step} of {progress.steps}: loss {progress.loss:.4f}{gain}")

    try:
        trainer.run(report, stopping=lambda: monotonic() > end)
    except TrainingStopped:
        return False
    return True


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), required=True)
@click.option("--scale", type=click.Choice(["2", "4", "8"]), default="4", show_default=True)
@click.option("--skip", type=click.Choice(SKIPS), default="add", show_default=True)
@click.option("--base", type=click.Choice(BASES), default="bicubic", show_default=True)
@click.option("--dry", is_flag=True, help="Tiny, on a processor.")
def main(minutes: float, scale: str, skip: str, base: str, dry: bool) -> None:
    """Train, print, write paper.json and the weights."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not dry:
        raise click.ClickException("there is no NVIDIA GPU here; --dry takes two steps on a processor")
    run = folder() / f"paper-x{scale}"
    try:
        trainer = Trainer(recipe_for(int(scale), skip, base, dry), run, device=device)
        finished = train(trainer, 60 * minutes)
    except ClesrError as error:
        sys.exit(leave("paper", False, [str(error)], dry=dry))
    trainer.module.eval()
    about = describe(trainer)
    weights: Path = folder() / f"paper-x{scale}.safetensors"
    sha256 = save_model(weights, trainer.module, about, OWN)
    gains = ", ".join(f"{key} {value:+.2f}" for key, value in about.metrics.items() if key.endswith("_db"))
    reached = f"step {trainer.step} of {trainer.schedule.steps} in {trainer.seconds / 60:.1f} min"
    headline = [f"x{scale}: {reached}{'' if finished else ', to be taken up again'}: {gains}; {weights.name}"]
    tell(headline[0])
    sys.exit(leave("paper", True, headline, dry=dry, finished=finished, sha256=sha256, metrics=about.metrics))


if __name__ == "__main__":
    main()
