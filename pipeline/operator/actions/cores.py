"""The cores of a fibre bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clesr.engines.common.errors import UsageError
from clesr.engines.common.files import NEW, make_parents
from clesr.pipeline.controls import Action, Argument
from clesr.pipeline.cores.calibration import save_cores
from clesr.pipeline.cores.flat_field import FRAMES
from clesr.pipeline.operator.operator import Operator, checked_name

LONGEST_S = 60.0  # for the frames to come, and the cores to be found


def _cores(operator: Operator) -> Mapping[str, Any]:
    prepare = operator.pipeline.prepare
    if prepare.cores is None:
        raise UsageError("no probe is calibrated; start with --cores FILE, or do calibrate-cores")
    on = prepare.remove_cores = not prepare.remove_cores
    return {"said": f"core pattern {'removed' if on else 'as it is'}", "on": on}


def _calibrate(operator: Operator, name: str, frames: int) -> Mapping[str, Any]:
    path = operator.folder / f"{checked_name(name) if name else operator.recordings.dated('probe')}.cores"
    make_parents(path)
    NEW.check(path)  # before the work begins
    prepare = operator.pipeline.prepare
    found = prepare.calibrate(frames, name=path.name).result(LONGEST_S)
    save_cores(path, found)
    prepare.cores, prepare.remove_cores = found, True
    return {"said": f"calibrated: {path}", "file": str(path), "cores": len(found.places)}


CORES: Action[Operator] = Action(
    "cores",
    "Remove the core pattern of a fibre bundle, or leave it.",
    _cores,
    key="p",
    group="Engine",
    quick=True,
)
CALIBRATE_CORES: Action[Operator] = Action(
    "calibrate-cores",
    "Find the cores of the probe, which is held still before something evenly lit, and keep them in a file.",
    _calibrate,
    (
        Argument("name", str, "name of the probe and of the new file, beside the stills", "", maximum=100),
        Argument("frames", int, "whose mean is taken", FRAMES, minimum=1, maximum=1000),
    ),
    group="Engine",
)
