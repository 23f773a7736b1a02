"""What travels between a run and its workers: steps of jobs one way, answers the other. Names and frame ranges only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from clesr.tools.archive.ledger import Record
from clesr.tools.archive.recording import Look


@dataclass(frozen=True, slots=True)
class Job:
    """One input: its ``name`` in the archive, the file read, its ``target`` under the output folder, and the size and
    time of change that it had. ``known`` is the hash of its content where its result exists with these settings;
    ``earlier`` the hash of the result of an earlier run, which may be replaced."""

    name: str
    path: str
    target: str
    size: int
    mtime_ns: int
    known: str = ""
    earlier: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one input is done: what was seen of it, and the name of the folder in which it is worked on."""

    job: Job
    sha256: str
    key: str
    seen: Look

    @property
    def pieces(self) -> int:
        return max(1, len(self.seen.spans))

    def pixels(self, index: int) -> int:
        """LR pixels of a piece."""
        spans, (height, width) = self.seen.spans, self.seen.shape
        return (spans[index].stop - spans[index].start if spans else self.seen.frames) * height * width

    def whole(self) -> Plan:
        """The same without parts."""
        return replace(self, seen=replace(self.seen, spans=(), origin=None))


@dataclass(frozen=True, slots=True)
class Done:
    """The file is finished; nothing was computed where it is ``unchanged`` since an earlier run."""

    record: Record
    unchanged: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """The piece is finished."""


@dataclass(frozen=True, slots=True)
class Inseparable:
    """The input does not decode in parts as it does in sequence: it is to be done as a whole."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One line on what went wrong with one file. ``again``: another attempt may succeed."""

    reason: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Fatal:
    """One line on what would go wrong with every file: the run has to end."""

    reason: str


@dataclass(frozen=True, slots=True)
class Halted:
    """``stop`` was called before the step was through."""


Answer = Done | Plan | Made | Inseparable | Failure | Fatal | Halted


class Step(StrEnum):
    BEGIN = "begin"
    PIECE = "piece"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Task:
    """A step of a job; all but BEGIN have a plan. ``lost`` counts the attempts that came to nothing."""

    job: Job
    step: Step = Step.BEGIN
    plan: Plan | None = None
    index: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker says of itself: host, process, versions of what writes files, whether it sees the output folder,
    identity of its model, and its engine."""

    host: str
    process: int
    versions: tuple[str, ...]
    sees: bool
    model_sha256: str
    engine: str
