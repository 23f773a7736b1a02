"""How much of a degraded image linear filters can give back: for each image the best one that there is for it, which
nobody can know beforehand. A network that reaches that has little left to gain, unless by what is not linear.

python benchmarks/linear.py --data 'test/cle_*' [--output FILE]

For each of the scale's x scale places of an HR pixel in an LR pixel, least squares find the filter of so many LR
pixels, and a constant, that come closest to the true image inside its field of view.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from common import environment

from clesr.engines.common.files import OWN, write_json
from clesr.engines.common.image import Pixels
from clesr.engines.common.resample import quantise
from clesr.engines.models.registry import SCALES
from clesr.tools.data.degradations import parse_degradations
from clesr.tools.data.pairs import Pair, degraded_pairs, load_pairs
from clesr.tools.evaluation.gain import gain_over_bicubic

SIDE = 9  # LR pixels of a filter
SUFFERED = ("clean", "noise=2", "noise=5", "noise=10", "jpeg=50")


def filtered(pair: Pair) -> Pixels:
    """What the best filters for ``pair`` make of its LR image: (sH, sW) uint8."""
    height, width = pair.lr.shape
    scale = pair.hr.shape[0] // height
    around = np.pad(pair.lr.astype(np.float64), SIDE // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(around, (SIDE, SIDE)).reshape(height * width, -1)
    seen = np.column_stack([windows, np.ones(len(windows))])
    places = pair.hr.reshape(height, scale, width, scale).transpose(0, 2, 1, 3)
    truth = places.reshape(height * width, scale * scale).astype(np.float64)
    inside = pair.mask.reshape(height, scale, width, scale).any(axis=(1, 3)).ravel()
    filters, *_ = np.linalg.lstsq(seen[inside], truth[inside], rcond=None)
    made = (seen @ filters).reshape(height, width, scale, scale).transpose(0, 2, 1, 3)
    return quantise(made.reshape(pair.hr.shape), pair.hr.dtype)


def gain(pair: Pair) -> float:
    """dB over bicubic."""
    return gain_over_bicubic(lambda _lr: filtered(pair), [pair])


@click.command()
@click.option("--data", required=True, help="Images: a folder, a file or a pattern.")
@click.option("--output", default="benchmarks/results/linear.json", show_default=True)
def main(data: str, output: str) -> None:
    """Measure and write JSON."""
    rows = []
    for scale in SCALES:
        pairs = load_pairs(data, scale)
        for text in SUFFERED:
            gains = [gain(pair) for pair in degraded_pairs(pairs, parse_degradations(text), scale)]
            rows.append({"scale": scale, "degradation": text, "gain_db": round(float(np.mean(gains)), 3)})
            click.echo(f"x{scale} {text}: {rows[-1]['gain_db']:+.2f} dB")
    names = [pair.name for pair in load_pairs(data, SCALES[0])]
    written = {"benchmark": "linear", **environment(), "side": SIDE, "images": names, "rows": rows}
    write_json(Path(output), written, OWN)


if __name__ == "__main__":
    main()
