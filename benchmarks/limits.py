"""Computes the fidelity limits of weights anew, from the images that were held out of their training and phantoms.

python benchmarks/limits.py --data FOLDER [--write] [FILE ...]

Without --write it only says what the limits are and what they would be. Tensors and identity stay as they are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from clesr.engines.common.files import OWN
from clesr.engines.models.weights import load_model, save_model, shipped
from clesr.tools.data.pairs import Pair, load_pairs
from clesr.tools.training.validate import fidelity_limit, phantoms


def held_out(folder: Path, names: list[str], scale: int) -> list[Pair]:
    """The pairs of the images called ``names``, anywhere in ``folder``; raises UsageError where one is missing."""
    found = {path.name: path for path in sorted(folder.rglob("*")) if path.is_file()}
    missing = [name for name in names if name not in found]
    if missing:
        raise click.UsageError(f"{folder} does not have {', '.join(missing)}")
    return [pair for name in names for pair in load_pairs(str(found[name]), scale)]


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path), help="Folder of images.")
@click.option("--write", is_flag=True, help="Write the new limits into the files.")
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
def main(data: Path, write: bool, files: tuple[Path, ...]) -> None:
    """Of FILE ..., or of the shipped weights."""
    for path in files or shipped().values():
        model = load_model(path)
        pairs = held_out(data, model.descriptor.training.get("held_out", []), model.scale)
        limit = fidelity_limit(model.module, model.scale, [pair.lr for pair in pairs], phantoms())
        click.echo(f"{path.name}: {model.descriptor.fidelity} -> {limit}")
        if write:
            identity = save_model(path, model.module, replace(model.descriptor, fidelity=limit), OWN)
            if identity != model.sha256:
                raise click.ClickException(f"the tensors of {path} have changed: {identity}")


if __name__ == "__main__":
    main()
