"""What makes the images, switched while the stream runs: the present engine goes on until the new one has proved
itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clesr.engines.common.errors import UsageError
from clesr.engines.common.numbers import shortened
from clesr.engines.models.registry import SCALES, names_file
from clesr.pipeline.controls import Action, Argument
from clesr.pipeline.operator.operator import Operator


def _scale(operator: Operator, value: int) -> Mapping[str, Any]:
    present = operator.pipeline.scale
    wanted = value or SCALES[(SCALES.index(present) + 1) % len(SCALES)]
    operator.pipeline.switch(scale=wanted)
    return {"said": f"x{wanted} is being opened", "scale": wanted}


def _model(operator: Operator, name: str) -> Mapping[str, Any]:
    if names_file(name) and name != operator.settings.model:
        raise UsageError(
            f"{shortened(name)} is a file; only that of --model, or a model by its name, can be had"
        )
    operator.pipeline.switch(model=name)
    return {"said": f"{name} is being opened", "model": name}


def _temporal(operator: Operator) -> Mapping[str, Any]:
    on = operator.pipeline.temporal = not operator.pipeline.temporal
    return {"said": f"earlier frames {'help' if on else 'are left out'}", "on": on}


SCALE: Action[Operator] = Action(
    "scale",
    "Another scale, without a stop.",
    _scale,
    (Argument("value", int, "which; 0 for the next one", 0, choices=(0, *SCALES)),),
    key="k",
    group="Engine",
)
MODEL: Action[Operator] = Action(
    "model",
    "Another model, without a stop.",
    _model,
    (Argument("name", str, "fast, densenet, bicubic, another that --model takes, or auto", maximum=100),),
    group="Engine",
)
TEMPORAL: Action[Operator] = Action(
    "temporal",
    "Earlier frames of the same tissue help each image, or do not.",
    _temporal,
    key="e",
    group="Engine",
    quick=True,
)
