"""What must come of each fault at each place: the table in docs/faults.md, and what tests/pipeline/chaos tries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clesr.pipeline.chaos.plan import FAULTS
from clesr.pipeline.frame import Outcome


@dataclass(frozen=True, slots=True)
class Expected:
    """``does`` is what clesr does, for the user. Some frames have the ``outcome``. clesr-live ends with the exit
    ``status``. Recordings, ``sessions`` of them at least, hold; with ``complete`` every
    frame is in one."""

    does: str
    outcome: Outcome = Outcome.UPSCALED
    status: int = 0
    complete: bool = True
    sessions: int = 1


_REOPENED = "`failed`: the bicubic image is shown, marked, and the engine opened again"
_DETACHED = Expected("It is closed and named; the others go on", status=1)
_SKIPPED = Expected("The others go on; what it had no room for is counted as skipped")
_LATE = Expected("Told when more than the last second would be lost by a power cut; nothing is lost")
MATRIX: Mapping[str, Expected] = {
    "source-stall": Expected("Frames of the time come late, each with its own time; what the driver kept is there"),
    "source-slow": Expected("What the driver had to drop is counted as `lost-at-source`", Outcome.LOST),
    "source-corrupt": Expected("Each is counted as `corrupt`; the run goes on", Outcome.CORRUPT),
    "source-away": Expected("A gap with begin, end and number", Outcome.LOST),
    "source-size": Expected("Recording goes on in `NAME-2`, and in `NAME-3` when the size is back", sessions=3),
    "source-time-back": Expected("The frame gets the time of its arrival; its record says so"),
    "source-duplicate": Expected("It gets the next number; its record says so"),
    "source-exception": Expected("A live source is opened again, after growing waits; a gap of unknown number"),
    "source-memory": Expected("That frame is `corrupt`; the run goes on", Outcome.CORRUPT),
    "engine-stall": Expected("Told after three seconds; frames of the time are `stale`", Outcome.STALE),
    "engine-slow": Expected("Frames that it has no time for are `stale`", Outcome.STALE),
    "engine-corrupt": Expected(_REOPENED, Outcome.FAILED),
    "engine-away": Expected(f"{_REOPENED}, after growing waits, until it is back", Outcome.FAILED),
    "engine-size": Expected(_REOPENED, Outcome.FAILED),
    "engine-exception": Expected(_REOPENED, Outcome.FAILED),
    "engine-memory": Expected(_REOPENED, Outcome.FAILED),
    "sink-stall": _SKIPPED,
    "sink-slow": _SKIPPED,
    "sink-exception": _DETACHED,
    "sink-memory": _DETACHED,
    "sink-full": _DETACHED,
    "disk-stall": _LATE,
    "disk-slow": _LATE,
    "disk-exception": Expected(
        "The session is closed with what is on the disk and holds; the view goes on",
        status=3,
        complete=False,
    ),
    "disk-full": Expected(
        "Space is kept for closing the session, which holds; an alarm; the view goes on",
        status=3,
        complete=False,
    ),
    "disk-folder": Expected(
        "An alarm; recording goes on in `NAME-2`", status=3, complete=False
    ),
}  # fmt: skip


def table() -> str:
    """The rows of docs/faults.md, in Markdown."""
    rows = []
    for place, kinds in FAULTS.items():
        for kind, what in kinds.items():
            expected = MATRIX[f"{place}-{kind}"]
            ended = f"; exit status {expected.status}" if expected.status else ""
            rows.append(f"| `{place}-{kind}` | The {place} {what} | {expected.does}{ended} |")
    return "\n".join(["| fault | what happens | what clesr does |", "|---|---|---|", *rows])
