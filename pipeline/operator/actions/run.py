"""The run itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clesr.pipeline.controls import Action, Argument
from clesr.pipeline.operator.operator import Operator


def _quit(operator: Operator, sure: bool) -> Mapping[str, Any]:
    run = (operator, *operator.others)
    going = [each for each in run if each.recordings.going]
    if going and not sure:
        return {"asking": _question([each.stream for each in going if each.stream])}
    for each in run:
        each.pipeline.stop()
    return {"said": "stopping"}


def _question(streams: list[str]) -> str:
    """``streams`` are the names of those that are recorded, where a run has several."""
    if not streams:
        return "a recording is going on; once more ends it and quits"
    several = len(streams) > 1
    return (
        f"{', '.join(streams)} {'are' if several else 'is'} recorded; "
        f"once more ends {'them' if several else 'it'} and quits"
    )


QUIT: Action[Operator] = Action(
    "quit",
    "End the run, all its streams; while something is recorded, once more within 5 seconds.",
    _quit,
    (Argument("sure", bool, "whether to end a recording without being asked", False),),
    key="q",
    group="Run",
    quick=True,
)
