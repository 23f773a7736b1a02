"""Which part of the image is seen. What is computed and recorded stays whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clesr.engines.common.errors import UsageError
from clesr.pipeline.controls import Action, Argument
from clesr.pipeline.operator.operator import Operator
from clesr.pipeline.prepare import Roi

NEAREST = 16.0
STEP = 1.5


def _zoom_to(operator: Operator, zoom: float) -> Mapping[str, Any]:
    zoom = min(max(zoom, 1.0), NEAREST)
    centred = {"centre": (0.5, 0.5)} if zoom == 1 else {}
    operator.controls.change(zoom=zoom, **centred)
    return {"said": f"zoom {zoom:.3g}" if zoom > 1 else "the whole image", "zoom": zoom}


def _zoom(operator: Operator, value: float) -> Mapping[str, Any]:
    return _zoom_to(operator, value or operator.controls.view.zoom * STEP)


def _centre(operator: Operator, x: float, y: float) -> Mapping[str, Any]:
    operator.controls.change(centre=(x, y))
    return {"centre": [x, y]}


def _region(operator: Operator, x: int, y: int, width: int, height: int, zoom: bool) -> Mapping[str, Any]:
    if not (width and height):
        operator.controls.change(region=None)
        return {"said": "no region is marked", "region": None}
    seen, region = operator.look(), Roi(x, y, width, height)
    whole = seen.frame.image.shape
    region.check((whole[0], whole[1]), "the region")
    operator.controls.change(region=(x, y, width, height))
    if zoom:
        _show(operator, region, seen.lr.shape)
    return {"said": f"region of {width}x{height} pixels", "region": [x, y, width, height]}


def _show(operator: Operator, region: Roi, shape: tuple[int, ...]) -> None:
    """Zoom to ``region``, in pixels of the captured image, of an image that was made of ``shape`` (H, W) of them."""
    roi = operator.pipeline.prepare.roi
    left, top = (roi.x, roi.y) if roi is not None else (0, 0)
    height, width = shape
    x, y = (region.x + region.width / 2 - left) / width, (region.y + region.height / 2 - top) / height
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise UsageError(f"the region {region} lies outside of what is up-scaled; mark one inside of it")
    _zoom_to(operator, min(width / region.width, height / region.height))
    _centre(operator, x, y)


ZOOM: Action[Operator] = Action(
    "zoom",
    "Nearer.",
    _zoom,
    (Argument("value", float, "how many times; 0 for a step nearer", 0.0, minimum=0, maximum=NEAREST),),
    key="+",
    quick=True,
    repeats=True,
)
ZOOM_OUT: Action[Operator] = Action(
    "zoom-out",
    "Farther.",
    lambda operator: _zoom_to(operator, operator.controls.view.zoom / STEP),
    key="-",
    quick=True,
    repeats=True,
)
WHOLE: Action[Operator] = Action(
    "whole", "The whole image again.", lambda operator: _zoom_to(operator, 1.0), key="0", quick=True
)
CENTRE: Action[Operator] = Action(
    "centre",
    "What stands in the middle of a zoomed image. It can be dragged.",
    _centre,
    (
        Argument("x", float, "as a share of the width", minimum=0, maximum=1),
        Argument("y", float, "as a share of the height", minimum=0, maximum=1),
    ),
    quick=True,
)
REGION: Action[Operator] = Action(
    "region",
    "Mark a part of the captured image, for stills and to zoom in. Without a size the mark goes.",
    _region,
    (
        Argument("x", int, "left edge, in captured pixels", 0, minimum=0, maximum=65535),
        Argument("y", int, "upper edge", 0, minimum=0, maximum=65535),
        Argument("width", int, "0 for no region", 0, minimum=0, maximum=65535),
        Argument("height", int, "0 for no region", 0, minimum=0, maximum=65535),
        Argument("zoom", bool, "whether to zoom to it", False),
    ),
    quick=True,
)
