"""What travels between a run and its workers: tasks one way, answers the other. Names and frame ranges only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto
from typing import Protocol

from clesr.tools.archive.journal import JournalEntry
from clesr.tools.archive.recording import Scan
from clesr.tools.archive.settings import Settings
from clesr.tools.archive.tree import InputFile


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """How one input is done: the SHA-256 of its content, what was seen of it, and the name (``key``) of the folder in
    which it is worked on."""

    file: InputFile
    sha256: str
    key: str
    scan: Scan

    @property
    def segments(self) -> int:
        return max(1, len(self.scan.spans))

    def pixels(self, index: int) -> int:
        """LR pixels of a segment."""
        spans, (height, width) = self.scan.spans, self.scan.shape
        return (spans[index].stop - spans[index].start if spans else self.scan.frames) * height * width

    def whole(self) -> SegmentPlan:
        """The same in one segment."""
        return replace(self, scan=replace(self.scan, spans=(), origin=None))


@dataclass(frozen=True, slots=True)
class Done:
    """The file is finished; nothing was computed where it is ``unchanged`` since an earlier run."""

    entry: JournalEntry
    unchanged: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """One line on what went wrong with one file. ``again``: another attempt may succeed, as where a worker was lost."""

    reason: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Fatal:
    """One line on what would go wrong with every file: the run has to end."""

    reason: str


class Event(Enum):
    """Answers that need no more words."""

    SEGMENT_DONE = auto()  # the segment is finished
    INSEPARABLE = auto()  # the input does not decode in parts as it does in sequence: to be done as a whole
    HALTED = auto()  # ``stop`` was called before the step was through


Answer = Done | SegmentPlan | Event | Failure | Fatal


class Step(StrEnum):
    BEGIN = "begin"
    SEGMENT = "segment"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Task:
    """A step of one input; all but BEGIN have a plan. ``lost`` counts the attempts that came to nothing."""

    file: InputFile
    step: Step = Step.BEGIN
    plan: SegmentPlan | None = None
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


class Executor(Protocol):
    """Workers that take tasks and give answers, in any order: one in this process (worker.py), or many on a cluster
    (cluster.py). One thread calls; ``stop`` and ``progress`` may come from others."""

    def choose_model(self) -> str:
        """The name of the model that the model "auto" of the settings stands for."""

    def configure(self, settings: Settings) -> None:
        """Take other settings, before the first task."""

    def free(self) -> int:
        """How many tasks may be submitted now: never more than a few a worker."""

    def submit(self, task: Task) -> None: ...

    def wait(self) -> list[tuple[Task, Answer]]:
        """What has come back, perhaps nothing after a short while. Raises ClesrError where nobody can work."""

    def progress(self) -> int:
        """LR pixels done of tasks that are not finished, as far as is known."""

    def stop(self) -> None:
        """Give up what is being done."""

    def close(self) -> None:
        """End the workers. May be called twice."""
