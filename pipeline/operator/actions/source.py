"""The camera."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from clesr.pipeline.controls import Action, Argument
from clesr.pipeline.operator.operator import Operator
from clesr.pipeline.source import adjust, lacks


def _set(name: str) -> Callable[..., Mapping[str, Any]]:
    def act(operator: Operator, value: int) -> Mapping[str, Any]:
        adjust(operator.pipeline.source, name, str(value))
        return {"said": f"{name} {value}", name: value}

    return act


def _action(name: str, help: str) -> Action[Operator]:
    value = Argument(
        "value",
        int,
        "in the camera's own units; its automatic is put off",
        minimum=-(2**31),
        maximum=2**31 - 1,
    )
    return Action(
        name,
        help,
        _set(name),
        (value,),
        group="Camera",
        missing=lambda operator: lacks(operator.pipeline.source, name),
    )


EXPOSURE: Action[Operator] = _action("exposure", "Set the camera's exposure.")
GAIN: Action[Operator] = _action("gain", "Set the camera's gain.")
