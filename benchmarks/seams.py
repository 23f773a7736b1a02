"""How far a tile's edge is felt: the result of an image cut in two against that of the whole, by the width of the halo.

python benchmarks/seams.py [--model densenet:4 ...] [--output FILE]

A network sees a tile's edge as the image's border. ``levels`` is the largest difference of any pixel beside the cut, in
8-bit levels before rounding, for a halo of so many LR pixels; ``halo`` is the smallest from which on it stays
below half a level, so that rounded results differ by one at most. Images: endomicroscopy from the
training folder (CLESR_DATA), the phantom, and noise of all levels, which no network was made for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from common import environment
from numpy.typing import NDArray

from clesr.engines.common.files import OWN, write_json
from clesr.engines.guidance import guide
from clesr.engines.models.registry import level_names
from clesr.engines.models.weights import Model, find_model, shipped
from clesr.pipeline.sources.simulator.demo import DemoSource
from clesr.tools.data.images import read_gray

HALOS = (0, 2, 4, 8, 12, 16, 24, 32, 48, 64)
SIDE = 144  # LR pixels; the cut lies in the middle
LIMIT = 0.5
STILLS = ("cle_original37.png", "cle_severe_68199_carc_oc.png")


def images() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The middles of the images."""
    folder = os.environ.get("CLESR_DATA")
    if not folder:
        raise click.UsageError("CLESR_DATA is not set: it names the folder of real images")
    for name in STILLS:
        yield name, _middle(read_gray(Path(folder) / "train" / name))
    source = DemoSource("demo:?size=256&pace=max")
    yield "phantom", _middle(source.read(1.0).image)  # type: ignore[union-attr,arg-type]
    source.close()
    yield "noise", np.random.default_rng(2018).integers(0, 256, (SIDE, SIDE), np.uint8)


def _middle(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, left = ((n - SIDE) // 2 for n in image.shape)
    return np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE])


@torch.inference_mode()
def seam(model: Model, image: NDArray[np.uint8]) -> dict[int, float]:
    """The largest difference for each halo, cut across and along; what a network is told is that of the whole."""
    x = torch.from_numpy(image.astype(np.float32) / 255)[None, None]
    told = (torch.from_numpy(guide(image).levels)[None],) if level_names(model.module) else ()
    whole = model.module(x, *told)[0, 0]
    half, found = SIDE // 2, {}
    for halo in HALOS:
        upper = model.module(x[:, :, : half + halo], *told)[0, 0, : half * model.scale]
        left = model.module(x[:, :, :, : half + halo], *told)[0, 0, :, : half * model.scale]
        across = (upper - whole[: half * model.scale]).abs().max()
        along = (left - whole[:, : half * model.scale]).abs().max()
        found[halo] = 255 * max(float(across), float(along))
    return found


def needed(levels: Mapping[int, float]) -> int | None:
    """The smallest halo from which on the seam stays below LIMIT; None where none of HALOS is enough."""
    enough = None
    for halo in sorted(levels, reverse=True):
        if levels[halo] >= LIMIT:
            break
        enough = halo
    return enough


@click.command()
@click.option("--model", "names", multiple=True, metavar="NAME:SCALE", help="[default: all that are shipped]")
@click.option("--output", default="benchmarks/results/seams.json", show_default=True)
def main(names: tuple[str, ...], output: str) -> None:
    """Measure and write JSON."""
    rows: list[dict[str, Any]] = []
    for name, scale in [(n.split(":")[0], int(n.split(":")[1])) for n in names] or sorted(shipped()):
        model = find_model(name, scale)
        for label, image in images():
            levels = seam(model, image)
            row = {
                "model": name, "scale": scale, "sha256": model.sha256, "image": label, "halo": needed(levels),
                "levels": {str(halo): round(value, 4) for halo, value in levels.items()},
            }  # fmt: skip
            rows.append(row)
            click.echo(f"{name} x{scale} {label}: halo {row['halo']}, {row['levels']}")
    result = {"benchmark": "seams", **environment(), "side": SIDE, "limit": LIMIT, "rows": rows}
    write_json(Path(output), result, OWN)
    click.echo(f"wrote {output}")


if __name__ == "__main__":
    main()
