"""`clesr models`: what models there are, and what a weights file is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from clesr.pipeline.settings import setting
from clesr.tools.common.options import command

if TYPE_CHECKING:
    from clesr.engines.models.weights import Model


@dataclass(frozen=True, kw_only=True)
class ModelsOptions:
    """How it is shown."""

    json: bool = setting(False, "Print JSON instead of a table.")


@command(ModelsOptions)
@click.argument("file", required=False, metavar="[FILE]")
def models(options: ModelsOptions, file: str | None) -> None:
    """List the models that ship with clesr, or describe one weights FILE."""
    from rich.console import Console
    from rich.table import Table

    from clesr.engines.models.weights import load_model, shipped

    found = [load_model(Path(file))] if file else [load_model(path) for path in shipped().values()]
    rows = [{**asdict(model.descriptor), "sha256": model.sha256} for model in found]
    if options.json or file:
        print(json.dumps(rows if options.json else rows[0], indent=2))
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
