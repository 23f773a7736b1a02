"""How the image looks on the screen, and what is written beside it. Nothing of it is in a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clesr.engines.common.errors import UsageError
from clesr.pipeline.controls import Action, Argument
from clesr.pipeline.display.view_state import LOOKUP_TABLES, Contrast
from clesr.pipeline.operator.operator import Operator, switch

PLACES = ("over", "beside", "off")
BY_KEY = (Contrast.AS_IS, Contrast.AUTO, Contrast.CLAHE)  # the levels of the other come from a drag


def _following(values: Sequence[Any], value: Any) -> Any:
    """The value after ``value``; the first where it is the last, or none of them."""
    return values[(values.index(value) + 1) % len(values)] if value in values else values[0]


def _contrast(operator: Operator, mode: str) -> Mapping[str, Any]:
    found = Contrast(mode) if mode else _following(BY_KEY, operator.controls.view.contrast)
    operator.controls.change(contrast=found)
    return {"said": f"contrast {found}", "contrast": found}


def _levels(operator: Operator, low: float, high: float) -> Mapping[str, Any]:
    if not low < high:
        raise UsageError(f"low {low:g} is not below high {high:g}; give the darker level first")
    operator.controls.change(contrast=Contrast.FIXED, levels=(low, high))
    return {"said": f"contrast from {low:.0f} to {high:.0f}", "levels": [low, high]}


def _lookup_table(operator: Operator, name: str) -> Mapping[str, Any]:
    found = name or _following(LOOKUP_TABLES, operator.controls.view.lookup_table)
    operator.controls.change(lookup_table=found)
    return {"said": f"colours {found}", "lookup_table": found}


def _hud(operator: Operator, place: str) -> Mapping[str, Any]:
    found = place or _following(PLACES, operator.controls.view.hud)
    operator.controls.change(hud=found)
    return {"said": "" if found == "off" else f"figures {found} the image", "hud": found}


def _missing_size(operator: Operator) -> str:
    known = operator.pipeline.pixel_um is not None
    return "" if known else "nobody knows how large a pixel is; start with --pixel-size, in micrometres"


CONTRAST: Action[Operator] = Action(
    "contrast",
    "Contrast on the screen: as it is, automatic, local (CLAHE); a drag sets fixed levels.",
    _contrast,
    (Argument("mode", str, "which; empty for the next one", "", choices=("", *Contrast)),),
    key="c",
    quick=True,
)
LEVELS: Action[Operator] = Action(
    "levels",
    "Grey levels that become black and white on the screen.",
    _levels,
    (
        Argument("low", float, "what becomes black", minimum=0, maximum=255),
        Argument("high", float, "what becomes white", minimum=0, maximum=255),
    ),
    quick=True,
)
LOOKUP_TABLE: Action[Operator] = Action(
    "lookup-table",
    "Colours for grey levels on the screen.",
    _lookup_table,
    (Argument("name", str, "which; empty for the next one", "", choices=("", *LOOKUP_TABLES)),),
    key="t",
    quick=True,
)
HUD: Action[Operator] = Action(
    "hud",
    "Figures over the image, beside it, or off. Alarms are always shown.",
    _hud,
    (Argument("place", str, "where; empty for the next one", "", choices=("", *PLACES)),),
    key="h",
    quick=True,
)
SCALE_BAR: Action[Operator] = Action(
    "scale-bar",
    "A bar of so many micrometres; needs --pixel-size.",
    switch("scale_bar", "scale bar"),
    key="b",
    missing=_missing_size,
    quick=True,
)
FULL_SCREEN: Action[Operator] = Action(
    "full-screen",
    "The whole screen for the image.",
    switch("full_screen", "full screen"),
    key="x",
    quick=True,
)
HELP: Action[Operator] = Action("help", "All keys.", switch("help", "help"), key="?", quick=True)
