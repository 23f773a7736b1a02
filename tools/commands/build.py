"""`clesr build`: compiled engines ahead of time, so that no examination waits for one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import rich_click as click

from clesr.engines.common.errors import ClesrError, EngineError, UsageError
from clesr.engines.models.registry import SCALES
from clesr.pipeline.settings import setting
from clesr.tools.common.console import progress_bar
from clesr.tools.common.options import command, parse_size

if TYPE_CHECKING:
    from clesr.engines.backends.tensorrt.engine import CompiledEngine
    from clesr.engines.models.weights import Model

log = logging.getLogger(__name__)
DEFAULT_MODEL = "densenet"
SMALLEST = 8  # pixels a side


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Which engines are built."""

    scale: tuple[str, ...] = setting(
        (),
        "Of models given by name; more than once for several.  [default: all that the model has]",
        choices=SCALES,
    )
    size: tuple[str, ...] = setting(
        ("256x256",), "Of the LR images; more than once for several.", "WIDTHxHEIGHT"
    )


@command(BuildOptions)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
def build(options: BuildOptions, models: tuple[str, ...]) -> None:
    """Compile TensorRT engines for MODELs (shipped names or .safetensors files; densenet if none is given).

    An engine belongs to one model, one size, this graphics card and its driver. It takes minutes to build and is
    kept on disk. `clesr-live --engine auto` considers TensorRT only where its engine has been built.

    Examples:

    - `clesr build densenet --scale 4 --size 256x256 --size 576x592`
    - `clesr build runs/mine/weights.safetensors`
    """
    from clesr.engines.backends.tensorrt.engine import CompiledEngine, why_no_tensorrt

    shapes = [parse_size(size, SMALLEST) for size in options.size]
    found = list(_models(models or (DEFAULT_MODEL,), [int(scale) for scale in options.scale]))
    reason = why_no_tensorrt()
    if reason:
        raise EngineError(f"there is no engine to build on this machine: {reason}")
    build_all([CompiledEngine(model, shape) for model in found for shape in shapes])


def build_all(engines: Sequence[CompiledEngine]) -> None:
    """Build those of ``engines`` that are not there yet, saying of each what became of it.

    One that fails does not stop the others; raises EngineError at the end where any did.
    """
    failed = 0
    with progress_bar("build", len(engines), unit="engines") as advance:
        for done, engine in enumerate(engines):
            label = f"{engine.model}, {engine.shape[1]}x{engine.shape[0]}"
            advance(done, label)
            if engine.find() is not None:
                log.info(f"{label}: already there")
                continue
            start = perf_counter()
            try:
                engine.build()
            except ClesrError as error:
                failed += 1
                log.error(f"{label}: {error}")
            else:
                log.info(f"{label}: built in {perf_counter() - start:.0f} s")
        advance(len(engines), "")
    if failed:
        raise EngineError(f"{failed} of {len(engines)} engines could not be built")


def _models(names: Sequence[str], scales: Sequence[int]) -> Iterator[Model]:
    from clesr.engines.models.weights import find_model, load_model, shipped

    for name in names:
        if Path(name).suffix:
            model = load_model(Path(name))
            if scales and model.scale not in scales:
                raise UsageError(
                    f"{name} is for scale {model.scale}; leave --scale out, or give {model.scale}"
                )
            yield model
            continue
        having = [scale for shipped_name, scale in sorted(shipped()) if shipped_name == name]
        for scale in scales or having or SCALES:
            yield find_model(name, scale)
