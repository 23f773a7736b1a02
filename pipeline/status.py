"""Where a run stands, and what it has come to: snapshots that any thread may read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from clesr.pipeline.frame import Outcome


class State(StrEnum):
    """Where a run stands."""

    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"  # the engine failed: bicubic images, marked, until it is back
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Status:
    """A snapshot of a run. ``age_ns`` is the time since the capture of the newest result, None before the
    first; ``period_ns`` that after which the image on show is due to be replaced, None where unknown;
    ``stalled`` means that the source gave no frame for two of its periods, ``recording`` that a
    session is being recorded; ``alarm`` is what the user must not overlook, such as a recording that broke off."""

    state: State
    source: str
    engine: str
    model: str
    captured: int
    outcomes: Mapping[Outcome, int]
    fps: float
    age_ns: int | None
    period_ns: int | None
    stalled: bool
    message: str = ""
    recording: bool = False
    alarm: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to; ``as_json`` is what ``--summary`` writes."""

    source: str
    captured: int
    outcomes: Mapping[Outcome, int]
    fps: float
    latency_ms: Mapping[str, Mapping[str, float]]
    engine: str
    model: str
    scale: int
    state: State
    seconds: float
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sinks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    fidelity: Mapping[str, float | None] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        values = asdict(self) | {"fps": round(self.fps, 3), "seconds": round(self.seconds, 3)}
        values["fidelity_db"] = values.pop("fidelity")
        return values
