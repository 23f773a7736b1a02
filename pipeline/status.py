"""Where a run stands, and what it has come to: snapshots that any thread may read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from clesr.pipeline.frame import Outcome


@dataclass(frozen=True, slots=True)
class OutageTotal:
    """How often a source was away, ``uncounted`` of them with an unknown number of frames lost, and how long in all."""

    count: int = 0
    uncounted: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        unknown = f", {self.uncounted} of unknown number" if self.uncounted else ""
        return f"{self.count} outage{'s' * (self.count > 1)} of {self.seconds:.1f} s{unknown}"


class State(StrEnum):
    """Where a run stands."""

    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"  # the engine failed: bicubic images, marked, until it is back
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


class SinkState(StrEnum):
    """What a sink does with the results."""

    WORKING = "working"
    BEHIND = "behind"  # it is too slow: what it has no room for is left out
    SILENT = "silent"  # it does not come back from a call
    BROKEN = "broken"  # it takes nothing more


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """Where a sink stands: how many results it was given, how many were left out, how often it failed, and what it
    said then, in a line."""

    state: SinkState
    delivered: int = 0
    left_out: int = 0
    errors: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """A snapshot of a run. ``age_ns`` is the time since the capture of the newest result, None before the
    first; ``period_ns`` that after which the image on show is due to be replaced, None where unknown;
    ``stalled`` means that the source gave no frame for two of its periods, ``recording`` that a
    session is being recorded, ``recording_s`` for how long, None where it is not; ``disk_minutes`` are those until its
    disk is full at the present rate, ``recording_bytes`` and ``disk_bytes`` the size of the session and what is free on
    its disk, None where that is not known; ``disk_low`` that up-scaled images are left out because it is nearly full.
    ``alarm`` is what the user must not overlook, such as a recording that broke off, or an output: it stays until it is
    acknowledged, and the next takes its place. ``alarms`` are all that wait, ``alarm`` first, ``acknowledged`` the last
    that were acknowledged, the newest last. ``sinks`` says where each sink stands; ``troubles`` which parts do not
    work, and why: ``source``, ``engine``, and sinks by their names, ``recorder`` also while a recording that was begun
    does not go on. ``damaged`` counts frames that build on damaged
    pictures, ``outages`` when the source was away. ``scale`` is that of the next image. ``switching`` says in words
    which engine is on its way, ``switch_error`` why the last one did not take over; ``temporal`` whether earlier frames
    help, ``cores`` whether the pattern of fibre cores is removed. ``engine_restarts`` and ``source_restarts`` count how
    often each was opened again after it had failed.
    ``pixel_um`` is the width of a captured pixel in micrometres, None where nobody knows."""

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
    alarms: tuple[str, ...] = ()
    acknowledged: tuple[str, ...] = ()
    damaged: int = 0
    outages: OutageTotal = OutageTotal()
    recording_s: float | None = None
    disk_minutes: float | None = None
    recording_bytes: int | None = None
    disk_bytes: int | None = None
    disk_low: bool = False
    engine_restarts: int = 0
    source_restarts: int = 0
    scale: int = 0
    switching: str = ""
    switch_error: str = ""
    temporal: bool = False
    cores: bool = False
    pixel_um: float | None = None
    sinks: Mapping[str, SinkStatus] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)


OLD_PERIODS = 3  # frame periods after which an image is old


def is_old(status: Status) -> bool:
    """Whether the newest image is older than three frame periods."""
    age, period = status.age_ns, status.period_ns
    return status.stalled or (age is not None and period is not None and age > OLD_PERIODS * period)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to; ``as_json`` is what ``--summary`` writes. ``outages`` lists when the source was away: begin
    and end in seconds since the start of the run, and how many frames were lost, None where nobody knows;
    ``outage_total`` in words counts them all. ``damaged`` counts frames that build on damaged pictures."""

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
    damaged: int = 0
    outages: tuple[Mapping[str, float | int | None], ...] = ()
    outage_total: str = ""

    def as_json(self) -> dict[str, Any]:
        values = asdict(self) | {"fps": round(self.fps, 3), "seconds": round(self.seconds, 3)}
        values["fidelity_db"] = values.pop("fidelity")
        return values
