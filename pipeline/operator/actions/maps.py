"""Maps, which the frames of a moving probe are joined into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clesr.engines.common.errors import UsageError
from clesr.pipeline.controls import Action
from clesr.pipeline.operator.operator import Operator, switch


def _missing(operator: Operator) -> str:
    return "no map is made; start with --mosaic FILE.ome.tif" if operator.maps is None else ""


def _save_map(operator: Operator) -> Mapping[str, Any]:
    maps = operator.maps
    if maps is None or not maps.mosaic.growing:
        raise UsageError("no map has begun; save it when an image has come")
    maps.save()
    return {"said": f"the map is being written beside {maps.path}"}


MOSAIC: Action[Operator] = Action(
    "mosaic",
    "The growing map beside the image; needs --mosaic.",
    switch("mosaic", "map"),
    key="j",
    missing=_missing,
    quick=True,
)
SAVE_MAP: Action[Operator] = Action(
    "save-map",
    "Write the map as it is, and go on; needs --mosaic.",
    _save_map,
    key="m",
    group="Recording",
    missing=_missing,
    quick=True,
)
