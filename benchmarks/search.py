"""How wide and deep ``fast`` may be: quality and time of several, each trained with the same budget.

python benchmarks/search.py --data 'cle/*.png' [--teacher densenet] [--network 16x8 ...] [--folder runs/search]

Video rate is 25 frames a second of 256 x 256 to 1024 x 1024; the best network that leaves a third of that time to
the rest of the path in FP32, which is all that many processors have, is marked. Times want a quiet machine. A run that
was stopped goes on where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from common import environment, lr_and_hr, percentiles
from readings import train_reading

from clesr.engines.common.files import OWN, write_json
from clesr.engines.factory import engines, open_engine
from clesr.engines.models.weights import load_model, shipped
from clesr.tools.training.publish import publish
from clesr.tools.training.recipe import Recipe
from clesr.tools.training.train import Trainer
from engines import take_turns, through

SCALE = 4
SHAPE = (256, 256)
NETWORKS = ("8x8", "12x8", "16x6", "16x8", "16x10", "24x6", "24x8", "32x5")
BUDGET_MS = 1000 / 25 * 2 / 3


def train(channels: int, depth: int, folder: Path, every: int, **budget: Any) -> tuple[Path, float, float]:
    """The weights of one network, its gain over bicubic on held-out images in dB, the minutes that it took."""
    arguments = {"channels": channels, "depth": depth}
    recipe = Recipe(name="fast", architecture="fast", scale=SCALE, arguments=arguments, **budget)
    rows = train_reading(recipe, folder, every)
    return publish(Trainer(recipe, folder)), rows[-1]["gain_db"], round(rows[-1]["seconds"] / 60, 1)


@click.command()
@click.option("--data", multiple=True, required=True, help="As of `clesr train`.")
@click.option("--teacher", help="Name or file of the model to learn from as well; slow on a processor.")
@click.option(
    "--network", "networks", multiple=True, default=NETWORKS, show_default=True, metavar="CHANNELSxDEPTH"
)
@click.option("--steps", default=3000, show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--patch", default=96, show_default=True)
@click.option("--every", default=500, show_default=True)
@click.option("--folder", default="runs/search", show_default=True)
@click.option("--output", default="benchmarks/results/search.json", show_default=True)
def main(
    data: tuple[str, ...], teacher: str | None, networks: tuple[str, ...], steps: int, batch: int, patch: int,
    every: int, folder: str, output: str,
) -> None:  # fmt: skip
    """Train and time every network, write JSON."""
    weights = str(shipped()[teacher, SCALE]) if teacher and (teacher, SCALE) in shipped() else teacher
    budget = {
        "data": data, "teacher": weights, "steps": steps, "batch": batch, "patch": patch,
        "learning_rate": 1e-3, "schedule": "cosine", "warm_up": 50, "epsilon": 1e-8,
    }  # fmt: skip
    rows: list[dict[str, Any]] = []
    for network in networks:
        channels, depth = map(int, network.split("x"))
        path, gain, minutes = train(channels, depth, Path(folder) / network, every, **budget)
        rows.append({"network": network, "weights": path, "gain_db": gain, "minutes": minutes})
    lr, _ = lr_and_hr(SCALE, SHAPE)
    precisions = [o.precision for o in engines() if o.name == "openvino" and o.kind == "cpu" and o.available]
    seconds = take_turns(
        {
            f"{row['network']} {precision}": through(
                open_engine("openvino", load_model(row["weights"]), SCALE, SHAPE, precision=precision)
            )
            for row in rows
            for precision in precisions
        },
        lr,
    )
    for row in rows:
        del row["weights"]
        row["ms"] = {
            precision: percentiles(seconds[f"{row['network']} {precision}"]) for precision in precisions
        }
    fitting = [row for row in rows if row["ms"]["fp32"]["p50"] <= BUDGET_MS]
    best = max(fitting, key=lambda row: row["gain_db"], default=None)
    for row in rows:
        mark = "  <- best in time" if row is best else ""
        times = ", ".join(f"{name} {ms['p50']:.1f} ms" for name, ms in row["ms"].items())
        click.echo(f"{row['network']:>6}: {row['gain_db']:+.3f} dB, {times}{mark}")
    shown = {key: value for key, value in budget.items() if key not in ("data", "teacher")}
    result = {
        "benchmark": "search", **environment(), "scale": SCALE, "lr": list(SHAPE),
        "teacher": weights and Path(weights).name, **shown, "budget_ms": round(BUDGET_MS, 1),
        "best": best and best["network"], "rows": rows,
    }  # fmt: skip
    write_json(Path(output), result, OWN)
    click.echo(f"wrote {output}")


if __name__ == "__main__":
    main()
