"""The cores of a fibre bundle."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Any

from clesr.engines.common.errors import ClesrError, UsageError
from clesr.engines.common.files import NEW, make_parents
from clesr.pipeline.controls import Action, Argument
from clesr.pipeline.cores.calibration import CoreCalibration, save_cores
from clesr.pipeline.cores.flat_field import FRAMES
from clesr.pipeline.operator.operator import Operator, checked_name

FRAME_S = 30.0  # for the next frame to come
FIND_S = 120.0  # for the cores to be found, and so much again for each megapixel
TELL_S = 1.0  # between two words of how far it is


@dataclass(slots=True)
class FramesTaken:
    """How many frames were taken, and since when; ``given_up``: no more are wanted."""

    since_ns: int
    count: int = 0
    given_up: bool = False


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
    found = _awaited(operator, frames, path.name)
    save_cores(path, found)
    prepare.cores, prepare.remove_cores = found, True
    return {"said": f"calibrated: {path}", "file": str(path), "cores": len(found.places)}


def _awaited(operator: Operator, frames: int, name: str) -> CoreCalibration:
    """What the next ``frames`` frames make; the view says how far that is. Raises ClesrError where no frame comes,
    or the cores are not found, in time."""
    clock, seen = operator.pipeline.clock, operator.seen
    find_s = FIND_S * (1 + (seen.frame.image.size / 1e6 if seen is not None else 0))
    taken = FramesTaken(clock.now_ns())

    def tell(count: int) -> None:
        if taken.given_up:
            raise ClesrError("the calibration was given up")
        taken.count, taken.since_ns = count, clock.now_ns()

    found = operator.pipeline.prepare.calibrate(frames, name=name, tell=tell)
    while not wait([found], TELL_S).done:
        count, waited_s = taken.count, (clock.now_ns() - taken.since_ns) / 1e9
        finding = count >= frames
        words = "the cores are being found" if finding else f"{count} of {frames} frames"
        operator.controls.change(said=f"calibration: {words}")
        taken.given_up = waited_s > (find_s if finding else FRAME_S)
        if taken.given_up and finding:
            raise ClesrError(
                f"the cores were not found within {find_s:.0f} s; this machine is busy, or the image too large: "
                "save a frame of the flat field, and run `clesr calibrate` on it"
            )
        if taken.given_up:
            raise ClesrError(
                f"the calibration got {count} of {frames} frames, and no more for {FRAME_S:.0f} s; "
                "see to the source, and calibrate again"
            )
    return found.result()


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
    long=True,
)
