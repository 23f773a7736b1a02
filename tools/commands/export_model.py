"""`clesr export-model`: a model as ONNX, for other runtimes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import rich_click as click

from clesr.engines.common.errors import UsageError
from clesr.engines.common.files import WriteRule
from clesr.engines.models.registry import SCALES
from clesr.pipeline.settings import overwriting, setting
from clesr.tools.common.options import command, parse_size

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExportModelOptions:
    """What is written, and where to."""

    output: str = setting(..., "Where to write.", "FILE.onnx", names=("-o",))
    scale: int = setting(4, "Of a model given by name.", choices=SCALES)
    precision: str = setting("fp16", "Of all numbers.", choices=("fp16", "fp32"))
    size: str | None = setting(
        None,
        "Of the LR images, for runtimes that want it fixed.  [default: any, 8 to 4096 pixels a side]",
        "WIDTHxHEIGHT",
    )
    overwrite: bool = overwriting()


@command(ExportModelOptions)
@click.argument("model")
def export_model(options: ExportModelOptions, model: str) -> None:
    """Write MODEL (a shipped name or a .safetensors file) as ONNX.

    The network reads `lr`, (1, 1, H, W) in [0, 1], and gives `sr`, (1, 1, sH, sW) in [0, 1].

    Examples:

    - `clesr export-model densenet --scale 4 -o densenet-x4.onnx`
    - `clesr export-model runs/mine/weights.safetensors --precision fp32 --size 256x256 -o mine.onnx`
    """
    from clesr.engines.models.onnx_export import export_onnx
    from clesr.engines.models.weights import find_model, read_descriptor

    shape = parse_size(options.size) if options.size else None
    path, precision = Path(options.output), options.precision
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"--output {path} does not end in .onnx; name the file so")
    rule = WriteRule.of(options.overwrite, model)
    rule.check(path)
    scale = read_descriptor(Path(model)).scale if Path(model).suffix else options.scale
    found = find_model(model, scale)
    export_onnx(found, path, precision=precision, shape=shape, rule=rule)
    size = options.size or "any"
    log.info(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB): {found}, {precision}, size {size}")
