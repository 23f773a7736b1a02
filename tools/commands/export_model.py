"""`clesr export-model`: a model as ONNX, for other runtimes."""

from __future__ import annotations

import logging
from pathlib import Path

import rich_click as click

from clesr.engines.common.errors import UsageError
from clesr.engines.common.files import WriteRule
from clesr.engines.models.registry import SCALES
from clesr.tools.common.options import general_options, overwrite_option, parse_size

log = logging.getLogger(__name__)


@click.command("export-model")
@click.argument("model")
@click.option("--output", "-o", required=True, metavar="FILE.onnx", help="Where to write.")
@click.option(
    "--scale",
    type=click.Choice([str(scale) for scale in SCALES]),
    default="4",
    show_default=True,
    help="Of a model given by name.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp16", "fp32"]),
    default="fp16",
    show_default=True,
    help="Of all numbers.",
)
@click.option(
    "--size",
    metavar="WIDTHxHEIGHT",
    help="Of the LR images, for runtimes that want it fixed.  [default: any, 8 to 4096 pixels a side]",
)
@overwrite_option()
@general_options()
def export_model(
    model: str, output: str, scale: str, precision: str, size: str | None, overwrite: bool
) -> None:
    """Write MODEL (a shipped name or a .safetensors file) as ONNX.

    The network reads `lr`, (1, 1, H, W) in [0, 1], and gives `sr`, (1, 1, sH, sW) in [0, 1].

    Examples:

    - `clesr export-model densenet --scale 4 -o densenet-x4.onnx`
    - `clesr export-model runs/mine/weights.safetensors --precision fp32 --size 256x256 -o mine.onnx`
    """
    from clesr.engines.models.onnx_export import export_onnx
    from clesr.engines.models.weights import find_model

    shape = size and parse_size(size)
    path = Path(output)
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"--output {output} does not end in .onnx; name the file so")
    rule = WriteRule.of(overwrite, model)
    rule.check(path)
    found = find_model(model, _scale(model, int(scale)))
    export_onnx(found, path, precision=precision, shape=shape or None, rule=rule)
    log.info(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB): {found}, {precision}, size {size or 'any'}")


def _scale(model: str, scale: int) -> int:
    """The scale of a weights file is its own."""
    from clesr.engines.models.weights import read_descriptor

    path = Path(model)
    return read_descriptor(path).scale if path.suffix else scale
