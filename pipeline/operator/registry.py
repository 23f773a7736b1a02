"""The actions by name: a new one is a line here, or an entry point of another package."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from clesr.engines.common.errors import ClesrError
from clesr.engines.common.registry import Registry
from clesr.pipeline.controls import Action

log = logging.getLogger(__name__)
_PLACES = {
    "freeze": "view:FREEZE",
    "wipe": "view:WIPE",
    "side-by-side": "view:SIDE_BY_SIDE",
    "bicubic": "view:BICUBIC",
    "raw": "view:RAW",
    "mode": "view:MODE",
    "fidelity": "view:FIDELITY",
    "contrast": "look:CONTRAST",
    "levels": "look:LEVELS",
    "lookup-table": "look:LOOKUP_TABLE",
    "zoom": "zoom:ZOOM",
    "zoom-out": "zoom:ZOOM_OUT",
    "centre": "zoom:CENTRE",
    "whole": "zoom:WHOLE",
    "region": "zoom:REGION",
    "scale-bar": "look:SCALE_BAR",
    "hud": "look:HUD",
    "full-screen": "look:FULL_SCREEN",
    "help": "look:HELP",
    "mosaic": "maps:MOSAIC",
    "record": "recording:RECORD",
    "save-last": "recording:SAVE_LAST",
    "note": "recording:NOTE",
    "acknowledge": "recording:ACKNOWLEDGE",
    "still": "still:STILL",
    "save-map": "maps:SAVE_MAP",
    "scale": "engine:SCALE",
    "model": "engine:MODEL",
    "temporal": "engine:TEMPORAL",
    "cores": "cores:CORES",
    "calibrate-cores": "cores:CALIBRATE_CORES",
    "exposure": "source:EXPOSURE",
    "gain": "source:GAIN",
    "quit": "run:QUIT",
}

ACTIONS: Registry[Action[Any]] = Registry(
    "clesr.actions",
    {name: f"clesr.pipeline.operator.actions.{place}" for name, place in _PLACES.items()},
)


def all_actions() -> Iterator[Action[Any]]:
    """All actions, in their order. What another package offers and does not load, or is no action of its name, is told
    and left out; its key is left to those that have it already."""
    keys: set[str] = set()
    for name in ACTIONS:
        action: object = None
        try:
            action = ACTIONS[name]
        except ClesrError as error:
            log.warning(f"{error}; it is left out")
            continue
        if not isinstance(action, Action) or action.name != name:
            log.warning(f"{name} in {ACTIONS.group} is no action of that name; it is left out")
            continue
        if action.key in keys:
            log.warning(f"the key {action.key!r} of {name} is taken; [keys] in the settings gives it another")
            action = replace(action, key="")
        keys.add(action.key or name)
        yield action
