"""What of a frame is seen. Nothing of it is in a recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from clesr.pipeline.controls import Action, Argument
from clesr.pipeline.display.view_state import Mode
from clesr.pipeline.operator.operator import NUMBER, Operator, instead, switch

MODES = {
    Mode.SR: "the up-scaled image",
    Mode.WIPE: "bicubic left of the edge, the up-scaled image right of it",
    Mode.SIDE: "bicubic and the up-scaled image side by side",
    Mode.BICUBIC: "bicubic",
    Mode.RAW: "the captured image as it came",
    Mode.RAW_SIDE: "captured pixels and the up-scaled image side by side",
}


def _freeze(operator: Operator, number: int) -> Mapping[str, Any]:
    controls = operator.controls
    if controls.view.frozen:
        controls.shown = None
        controls.change(frozen=False)
        return {"said": "live", "frozen": False}
    held = controls.shown = operator.look(number)
    controls.change(frozen=True)
    return {"said": f"{instead(number, held)}frozen", "frozen": True, "number": held.frame.number}


def _show(operator: Operator, mode: Mode, **more: Any) -> Mapping[str, Any]:
    operator.controls.change(mode=mode, **more)
    return {"said": MODES[mode], "mode": mode}


def _toggle(mode: Mode) -> Callable[[Operator], Mapping[str, Any]]:
    """Show ``mode``, or, where it is shown, the up-scaled image again."""
    return lambda operator: _show(operator, Mode.SR if operator.controls.view.mode is mode else mode)


def _mode(operator: Operator, mode: str) -> Mapping[str, Any]:
    modes = list(Mode)
    following = modes[(modes.index(operator.controls.view.mode) + 1) % len(modes)]
    return _show(operator, Mode(mode) if mode else following)


def _wipe(operator: Operator, position: float) -> Mapping[str, Any]:
    if position >= 0:
        return _show(operator, Mode.WIPE, wipe=position)
    return _toggle(Mode.WIPE)(operator)


FREEZE: Action[Operator] = Action(
    "freeze",
    "Hold the image; again: back to the live one. Recording goes on.",
    _freeze,
    (NUMBER,),
    key="space",
    quick=True,
)
FIDELITY: Action[Operator] = Action(
    "fidelity",
    "Colour the image where it disagrees with what was measured.",
    switch("overlay", "fidelity overlay"),
    key="f",
    quick=True,
)
WIPE: Action[Operator] = Action(
    "wipe",
    "Bicubic left of an edge, the up-scaled image right of it. The edge can be dragged.",
    _wipe,
    (
        Argument(
            "position",
            float,
            "where the edge stands, as a share of the width; -1 switches the wipe on and off",
            -1.0,
            minimum=-1,
            maximum=1,
        ),
    ),
    key="w",
    quick=True,
)
SIDE_BY_SIDE: Action[Operator] = Action(
    "side-by-side", "Bicubic and the up-scaled image side by side.", _toggle(Mode.SIDE), key="d", quick=True
)
BICUBIC: Action[Operator] = Action(
    "bicubic", "Bicubic alone, as without a network.", _toggle(Mode.BICUBIC), key="i", quick=True
)
RAW: Action[Operator] = Action(
    "raw", "The captured image, pixel by pixel.", _toggle(Mode.RAW), key="o", quick=True
)
MODE: Action[Operator] = Action(
    "mode",
    "What of a frame is shown; without a word the next of them.",
    _mode,
    (Argument("mode", str, "which; empty for the next one", "", choices=("", *Mode)),),
    key="v",
    quick=True,
)
