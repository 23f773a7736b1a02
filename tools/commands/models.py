"""`clesr models`: what models there are, and what a weights file is."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from clesr.tools.common.options import general_options

if TYPE_CHECKING:
    from clesr.engines.models.weights import Model


@click.command()
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@general_options()
def models(file: str | None, as_json: bool) -> None:
    """List the models that ship with clesr, or describe one weights FILE."""
    from rich.console import Console
    from rich.table import Table

    from clesr.engines.models.weights import load_model, shipped

    found = [load_model(Path(file))] if file else [load_model(path) for path in shipped().values()]
    if as_json:
        rows = [{**asdict(model.descriptor), "sha256": model.sha256} for model in found]
        json.dump(rows, sys.stdout, indent=2)
        print()
        return
    if file:
        print(json.dumps({**asdict(found[0].descriptor), "sha256": found[0].sha256}, indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("model", "scale", "numbers", "GFLOP", "test, dB over bicubic", "identity"):
        table.add_column(title, justify="right" if title in ("numbers", "GFLOP") else "left")
    for model in found:
        table.add_row(*_row(model))
    Console(soft_wrap=True).print(table)
    print("GFLOP: for a 1024x1024 image. Without weights: bicubic, bilinear, nearest.")


def _row(model: Model) -> list[str]:
    from clesr.engines.models.registry import count_operations, count_parameters

    side = 1024 // model.scale
    gain = model.descriptor.metrics.get("test_gain_db")
    return [
        model.name,
        f"x{model.scale}",
        f"{count_parameters(model.module):,}",
        f"{count_operations(model.module.to('meta'), side, side) / 1e9:.1f}",
        "" if gain is None else f"{gain:+.2f}",
        model.sha256[:12],
    ]
