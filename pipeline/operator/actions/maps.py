"""Maps, which the frames of a moving probe are joined into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clesr.engines.common.errors import UsageError
from clesr.pipeline.controls import Action
from clesr.pipeline.operator.operator import Operator
from clesr.pipeline.sinks.mosaic import MosaicFile


def _maps(operator: Operator) -> MosaicFile:
    if operator.maps is None:
        raise UsageError("no map is made; start with --mosaic FILE.ome.tif")
    return operator.maps


def _mosaic(operator: Operator) -> Mapping[str, Any]:
    on = not operator.controls.view.mosaic
    if on:
        _maps(operator)
    operator.controls.change(mosaic=on)
    return {"said": f"map {'on' if on else 'off'}", "on": on}


def _save_map(operator: Operator) -> Mapping[str, Any]:
    maps = _maps(operator)
    if not maps.mosaic.growing:
        raise UsageError("no map has begun; save it when an image has come")
    maps.save()
    return {"said": f"the map is being written beside {maps.path}"}


MOSAIC: Action[Operator] = Action(
    "mosaic", "The growing map beside the image; needs --mosaic.", _mosaic, key="j", quick=True
)
SAVE_MAP: Action[Operator] = Action(
    "save-map",
    "Write the map as it is, and go on; needs --mosaic.",
    _save_map,
    key="m",
    group="Recording",
    quick=True,
)
