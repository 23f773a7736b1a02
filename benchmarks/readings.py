"""The readings of the paper's text, each trained with the same budget on the same patches: curves and a table.

python benchmarks/readings.py --data 'cle/*.png' [--data ...] [--steps 2000] [--folder runs/readings]

The paper's text has no connection around its dense blocks and no base; its authors' code has one (see ``DenseNet``).
A run that was stopped goes on where it was: every reading has a folder of its own.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import click
from common import environment

from clesr.engines.common.files import OWN, write_json
from clesr.engines.models.registry import build_model, count_operations, count_parameters
from clesr.tools.training.recipe import Recipe
from clesr.tools.training.train import LOG, Progress, Trainer

SCALE = 4
READINGS = (
    ("none", "none"),  # the paper's text
    ("none", "bicubic"),
    ("add", "none"),
    ("add", "bicubic"),
    ("low", "bicubic"),
    ("all", "bicubic"),
)


def train_reading(recipe: Recipe, folder: Path, every: int) -> list[dict[str, float]]:
    """The rows of the log of ``recipe`` trained in ``folder``."""
    trainer = Trainer(recipe, folder)
    if trainer.step < trainer.schedule.steps:

        def report(progress: Progress) -> None:
            if progress.step % every == 0:
                click.echo(f"{folder.name}: step {progress.step}, {progress.gain_db:+.3f} dB")

        trainer.run(report, every=every)
    with (folder / LOG).open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def measure(skip: str, base: str, folder: Path, every: int, **budget: Any) -> dict[str, Any]:
    """One row of the results."""
    arguments = {"skip": skip, "base": base}
    name = f"{skip}-{base}"
    recipe = Recipe(name=name, architecture="densenet", scale=SCALE, arguments=arguments, **budget)
    rows = train_reading(recipe, folder / name, every)
    module = build_model("densenet", SCALE, arguments).to("meta")
    return {
        "skip": skip,
        "base": base,
        "parameters": count_parameters(module),
        "gflop_256_to_1024": round(count_operations(module, 256, 256) / 1e9, 1),
        "minutes": round(rows[-1]["seconds"] / 60, 1),
        "gain_db": rows[-1]["gain_db"],
        "curve": [[row["step"], row["loss"], row["gain_db"]] for row in rows],
    }


def draw(result: dict[str, Any], target: Path) -> None:
    """Gain over bicubic against the steps, a line for each reading; those with the bicubic base larger beside."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (whole, part) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    for index, row in enumerate(result["rows"]):
        steps, gains = [point[0] for point in row["curve"]], [point[2] for point in row["curve"]]
        label = f"skip {row['skip']}, base {row['base']} ({row['gflop_256_to_1024']:.0f} GFLOP)"
        for axes in (whole, part) if row["base"] == "bicubic" else (whole,):
            axes.plot(steps, gains, marker=".", color=f"C{index}", label=label)
    whole.axhline(0, color="grey", linewidth=0.8)
    whole.set(ylabel="held-out images, dB over bicubic", ylim=(-2, None), title="every reading")
    part.set(title="those with the bicubic base")
    for axes in (whole, part):
        axes.set(xlabel="training step", xlim=(0, None))
        axes.grid(alpha=0.3)
    whole.legend(loc="lower right", fontsize="small")
    figure.savefig(target, dpi=120)
    plt.close(figure)


@click.command()
@click.option("--data", multiple=True, required=True, help="As of `clesr train`.")
@click.option("--steps", default=2000, show_default=True)
@click.option("--batch", default=8, show_default=True)
@click.option("--learning-rate", default=4e-4, show_default=True)
@click.option("--precision", default="32", show_default=True, help="As of `clesr train`.")
@click.option("--every", default=100, show_default=True, help="Steps between two points of a curve.")
@click.option("--folder", default="runs/readings", show_default=True, help="Where the runs go.")
@click.option("--output", default="benchmarks/results/readings.json", show_default=True)
@click.option("--figure", default="docs/readings.png", show_default=True)
def main(
    data: tuple[str, ...], steps: int, batch: int, learning_rate: float, precision: str, every: int, folder: str,
    output: str, figure: str,
) -> None:  # fmt: skip
    """Train every reading, write JSON and the figure."""
    budget = {
        "data": data, "steps": steps, "batch": batch, "learning_rate": learning_rate, "schedule": "cosine",
        "warm_up": 50, "epsilon": 1e-8, "precision": precision,
    }  # fmt: skip
    rows = [measure(skip, base, Path(folder), every, **budget) for skip, base in READINGS]
    shown = {key: value for key, value in budget.items() if key != "data"}
    result = {"benchmark": "readings", **environment(), "scale": SCALE, **shown, "rows": rows}
    write_json(Path(output), result, OWN)
    draw(result, Path(figure))
    click.echo(f"wrote {output} and {figure}")


if __name__ == "__main__":
    main()
