"""What must come of each fault at each place: the table in docs/faults.md, and what tests/pipeline/chaos tries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from clesr.pipeline.chaos.plan import FAULTS


class Claim(StrEnum):
    """What clesr does about a fault, as the table says it; test_matrix.py has a check for each."""

    MARKED = "an image older than a second is marked as old"
    LATE = "what the driver kept comes late, each frame with its own time"
    DROPPED = "what the driver had to drop is counted as `lost-at-source`"
    CORRUPT = "counted as `corrupt`"
    GAP = "a gap with begin, end and number"
    UNKNOWN_GAP = "a gap of unknown number"
    SOURCE_AGAIN = "a live source is opened again"
    SECOND = "recording goes on in `NAME-2`"
    THIRD = "and in `NAME-3` when the size is back"
    ARRIVAL = "the frame gets the time of its arrival; its record says so"
    NUMBER = "it gets the next number; its record says so"
    ENGINE_TOLD = "told after three seconds"
    STALE = "frames that the engine has no time for are `stale`"
    BICUBIC = "`failed`: the bicubic image is shown, marked"
    ENGINE_AGAIN = "the engine is opened again"
    WAITS = "after growing waits, until it is back"
    SKIPPED = "what it had no room for is counted as skipped"
    DETACHED = "it is closed and named"
    SINK_ALARM = "an alarm until it is acknowledged"
    DISK_LATE = "told that more than the last second would be lost by a power cut"
    COMPLETE = "every frame is recorded"
    CLOSED = "the session is closed with what is on the disk and holds"
    RESERVE = "space is kept for closing the session"
    RECORDING_ALARM = "an alarm"
    GOES_ON = "the view goes on"
    OTHERS = "the others go on"


@dataclass(frozen=True, slots=True)
class Expected:
    """What clesr does, for the user, about a fault that lasts for ``seconds`` where it lasts. clesr-live ends with the
    exit ``status``."""

    claims: tuple[Claim, ...]
    status: int = 0
    seconds: float = 0.4

    @property
    def does(self) -> str:
        words = "; ".join(self.claims)
        return words if words.startswith("`") else words[0].upper() + words[1:]


_C = Claim
_REOPENED = (_C.BICUBIC, _C.ENGINE_AGAIN, _C.GOES_ON)
_DETACHED = Expected((_C.DETACHED, _C.SINK_ALARM, _C.OTHERS), status=1)
_SKIPPED = Expected((_C.SKIPPED, _C.OTHERS))
MATRIX: Mapping[str, Expected] = {
    "source-stall": Expected((_C.MARKED, _C.LATE, _C.DROPPED, _C.GOES_ON), seconds=1.5),
    "source-slow": Expected((_C.DROPPED, _C.GOES_ON)),
    "source-corrupt": Expected((_C.CORRUPT, _C.GOES_ON)),
    "source-away": Expected((_C.MARKED, _C.GAP, _C.GOES_ON), seconds=1.5),
    "source-size": Expected((_C.SECOND, _C.THIRD, _C.COMPLETE, _C.GOES_ON)),
    "source-time-back": Expected((_C.ARRIVAL, _C.GOES_ON)),
    "source-duplicate": Expected((_C.NUMBER, _C.GOES_ON)),
    "source-exception": Expected((_C.SOURCE_AGAIN, _C.UNKNOWN_GAP, _C.GOES_ON)),
    "source-memory": Expected((_C.CORRUPT, _C.GOES_ON)),
    "engine-stall": Expected((_C.MARKED, _C.ENGINE_TOLD, _C.STALE, _C.COMPLETE, _C.GOES_ON), seconds=3.6),
    "engine-slow": Expected((_C.STALE, _C.COMPLETE, _C.GOES_ON)),
    "engine-corrupt": Expected(_REOPENED),
    "engine-away": Expected((_C.BICUBIC, _C.ENGINE_AGAIN, _C.WAITS, _C.GOES_ON), seconds=0.8),
    "engine-size": Expected(_REOPENED),
    "engine-exception": Expected(_REOPENED),
    "engine-memory": Expected(_REOPENED),
    "sink-stall": _SKIPPED,
    "sink-slow": _SKIPPED,
    "sink-exception": _DETACHED,
    "sink-memory": _DETACHED,
    "sink-full": _DETACHED,
    "disk-stall": Expected((_C.DISK_LATE, _C.COMPLETE, _C.GOES_ON), seconds=1.8),
    "disk-slow": Expected((_C.COMPLETE, _C.GOES_ON)),
    "disk-exception": Expected((_C.CLOSED, _C.RECORDING_ALARM, _C.GOES_ON), status=3),
    "disk-full": Expected((_C.RESERVE, _C.CLOSED, _C.RECORDING_ALARM, _C.GOES_ON), status=3),
    "disk-folder": Expected((_C.RECORDING_ALARM, _C.SECOND, _C.GOES_ON), status=3),
}


def table() -> str:
    """The rows of docs/faults.md, in Markdown."""
    rows = []
    for place, kinds in FAULTS.items():
        for kind, what in kinds.items():
            expected = MATRIX[f"{place}-{kind}"]
            ended = f"; exit status {expected.status}" if expected.status else ""
            rows.append(f"| `{place}-{kind}` | The {place} {what} | {expected.does}{ended} |")
    return "\n".join(["| fault | what happens | what clesr does |", "|---|---|---|", *rows])
