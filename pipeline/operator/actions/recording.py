"""What goes to the disk while a stream runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clesr.engines.common.errors import UsageError
from clesr.pipeline.controls import Action, Argument
from clesr.pipeline.frame import Result
from clesr.pipeline.operator.operator import NUMBER, Operator, instead
from clesr.pipeline.session.recorder import NOTHING_KEPT, Recorder


def _record(operator: Operator, folder: str, to: str) -> Mapping[str, Any]:
    operator.recorder  # noqa: B018 - raises where there is none
    recordings = operator.recordings
    going = recordings.going
    if to == "start" or (not to and not going):
        if going:
            raise UsageError("a recording is going on already; stop it first")
        begun = recordings.begin(folder).result()
        return {"said": "recording begins", "recording": True, "folder": str(begun)}
    if folder:
        raise UsageError("a folder is for a recording that begins; stop the present one first")
    if not going:
        raise UsageError("nothing is recorded that could be stopped; record begins")
    operator.pipeline.stop_recording()
    return {"said": "recording ends", "recording": False}


def _nothing_kept(operator: Operator) -> str:
    recorder = operator.pipeline.recorder
    return "" if isinstance(recorder, Recorder) and recorder.settings.retro_s > 0 else NOTHING_KEPT


def _save_last(operator: Operator, seconds: float, folder: str) -> Mapping[str, Any]:
    place = operator.recordings.folder(folder)
    made, frames = operator.recorder.save_last(place, seconds or None).result()
    return {"said": f"the last {frames} frames are in {made}", "folder": str(made), "frames": frames}


def _note(operator: Operator, moment: tuple[int, Result | None], text: str, number: int) -> Mapping[str, Any]:
    time_ns, seen = moment
    folder, seconds = operator.recorder.note(text, seen.frame.number if seen else None, time_ns).result()
    told = {"folder": str(folder), "seconds": None if seconds is None else round(seconds, 3)}
    other = instead(number, seen) if seen else ""
    if seconds is None:
        return {"said": f"{other}noted; the recording begins with the next image", **told}
    return {"said": f"{other}noted at {seconds:.1f} s", **told}


def _moment(operator: Operator, text: str, number: int) -> tuple[int, Result | None]:
    return operator.pipeline.clock.now_ns(), operator.look(number) if operator.seen else None


def _number(operator: Operator) -> int | None:
    """The number of the frame that is seen."""
    seen = operator.seen
    return seen.frame.number if seen is not None else None


def _acknowledge(operator: Operator, alarm: str) -> Mapping[str, Any]:
    alarms, recorder = operator.pipeline.alarms, operator.pipeline.recorder
    if isinstance(recorder, Recorder):
        seen = recorder.acknowledge(alarm, _number(operator))
    else:
        seen = alarms.acknowledge(alarm)
    waiting = len(alarms.waiting)
    said = "acknowledged" if seen else "that alarm does not wait" if alarm else "there is no alarm"
    return {"said": f"{said}; {waiting} more" if waiting else said, "alarm": seen, "waiting": waiting}


RECORD: Action[Operator] = Action(
    "record",
    "Begin a recording, or end it.",
    _record,
    (
        Argument("folder", str, "name of the new folder, beside the other recordings", "", maximum=100),
        Argument(
            "to", str, "start or stop; empty for the other of what goes on", "", choices=("", "start", "stop")
        ),
    ),
    key="r",
    group="Recording",
    long=True,
)
SAVE_LAST: Action[Operator] = Action(
    "save-last",
    "Save the last seconds, which --retro keeps, as a recording of their own.",
    _save_last,
    (
        Argument("seconds", float, "how many; 0 for all that are kept", 0.0, minimum=0, maximum=86400),
        Argument("folder", str, "name of the new folder, beside the other recordings", "", maximum=100),
    ),
    key="l",
    group="Recording",
    missing=_nothing_kept,
    long=True,
)
NOTE: Action[Operator] = Action(
    "note",
    "Write a note, with the time, into the recording.",
    _note,
    (Argument("text", str, "what to note", "mark", minimum=1, maximum=1000), NUMBER),
    key="n",
    group="Recording",
    seen=_moment,
    long=True,
)
ACKNOWLEDGE: Action[Operator] = Action(
    "acknowledge",
    "The alarm that is shown was seen; the next one is shown.",
    _acknowledge,
    (Argument("alarm", str, "its words, as the status has them; empty for the one that is shown", ""),),
    key="a",
    group="Recording",
    quick=True,
)
