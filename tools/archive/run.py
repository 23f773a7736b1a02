"""One run over an archive: which step of which file comes next, and what is made of each answer."""

from __future__ import annotations

import contextlib
import stat
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clesr.engines.common.errors import ClesrError
from clesr.engines.common.folders import Folder, relative_parts
from clesr.tools.archive.crew import Crew, Lost
from clesr.tools.archive.ledger import Ledger, Record, Status, spelled
from clesr.tools.archive.messages import (
    Answer,
    Done,
    Failure,
    Fatal,
    Halted,
    Inseparable,
    Job,
    Made,
    Plan,
    Step,
    Task,
)
from clesr.tools.archive.settings import Settings
from clesr.tools.archive.tree import Entry, Unreadable, kind, partial_target
from clesr.tools.archive.work import WORK

ATTEMPTS = 3  # at one step, before a file counts as broken
LONGEST_REASON = 2000  # characters
LISTED = 20  # broken files that are listed by name at the end; the ledger has them all


@dataclass
class Report:
    """What a run has come to: files finished now, found finished, and broken (name and reason of the first);
    their frames; LR pixels done. ``met`` has bytes and LR pixels of all files begun by suffix, ``passed`` the bytes of
    those found finished: what the time left is reckoned from."""

    done: int = 0
    skipped: int = 0
    broken: int = 0
    listed: list[tuple[str, str]] = field(default_factory=list)
    frames: int = 0
    pixels: int = 0
    latest: str = ""
    met: dict[str, tuple[int, int]] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "skipped": self.skipped,
            "broken": self.broken,
            "listed": [list(pair) for pair in self.listed],
            "frames": self.frames,
            "pixels": self.pixels,
        }


@dataclass
class _Open:
    """A file that is being done: its plan and how many pieces are still to come."""

    plan: Plan
    left: int


class Run:
    """Gives the steps of ``entries`` to ``crew`` and records finished files in ``ledger``.

    Files are begun only when no step of a begun one waits: so what is in memory and on the way is bounded by the crew
    and by the pieces of its files, however many entries there are. ``deep`` reads every finished input again instead
    of trusting its size and time of change.
    """

    def __init__(
        self,
        crew: Crew,
        entries: Iterable[Entry | Unreadable],
        ledger: Ledger,
        settings: Settings,
        out: Path,
        *,
        deep: bool = False,
    ) -> None:
        self.crew, self.ledger, self.out = crew, ledger, out
        self.report = Report()
        self._settings, self._identity, self._deep = settings, settings.identity, deep
        self._entries: Iterator[Entry | Unreadable] = iter(entries)
        self._ready: deque[Task] = deque()
        self._open: dict[str, _Open] = {}
        self._given = 0
        self._stop = threading.Event()

    def run(self) -> Report:
        """To the end, or until ``stop``. Raises ClesrError where nothing can go on; what is finished is kept."""
        more = True
        while not self._stop.is_set() and (more or self._given or self._ready):
            while self.crew.free() and more and not self._stop.is_set():
                task = self._next()
                if task is None:
                    more = False
                    break
                self._given += 1
                self.crew.give(task)
            for task, answer in self.crew.wait():
                self._given -= 1
                self._take(task, answer)
                more = True
        return self.report

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """From any thread, or a signal handler: begin nothing more and give up what is being done."""
        self._stop.set()
        self.crew.stop()

    # --- what comes next

    def _next(self) -> Task | None:
        while self._ready:
            task = self._ready.popleft()
            if task.plan is None or self._current(task):
                return task
        for entry in self._entries:
            if self._stop.is_set():
                return None
            if isinstance(entry, Unreadable):
                self._break(entry.name, entry.reason)
                continue
            job = self._job(entry)
            if job is not None:
                return Task(job)
        return None

    def _job(self, entry: Entry) -> Job | None:
        """What is to be done of ``entry``; None where it was done with these settings and has not changed."""
        job = Job(entry.name, str(entry.path), entry.target, entry.size, entry.mtime_ns)
        record = self.ledger.find(entry.name)
        if record is not None and record.output in _names(entry.target):
            job = replace(job, earlier=record.output_sha256)
        if record is None or record.status is Status.FAILED or record.settings != self._identity:
            return job
        if not self._has_result(record, entry):
            return job
        if self._deep or (record.size, record.mtime_ns) != (entry.size, entry.mtime_ns):
            return replace(job, known=record.input_sha256)
        self._skip(record)
        return None

    def _has_result(self, record: Record, entry: Entry) -> bool:
        wanted = entry.target if record.status is Status.DONE else partial_target(entry.target)
        if record.output != spelled(wanted):
            return False
        try:
            state = (self.out / wanted).lstat()
        except OSError:
            return False
        return stat.S_ISREG(state.st_mode) and state.st_size == record.output_size

    def _skip(self, record: Record) -> None:
        self.report.skipped += 1
        self.report.passed[kind(record.input)] += record.size
        if record.status is Status.PARTIAL:
            self._list(record.input, record.reason)

    # --- what became of it

    def _take(self, task: Task, answer: Answer | Lost) -> None:
        if task.plan is not None and not self._current(task):
            return  # a piece of a file that was given up meanwhile
        match answer:
            case Plan():
                self._split(answer)
            case Made():
                self._made(task)
            case Done():
                self._done(task, answer)
            case Inseparable():
                assert task.plan is not None
                self._split(task.plan.whole())
            case Failure(again=True) | Lost():
                self._again(task, answer.reason)
            case Failure():
                self._break(task.job.name, answer.reason, task.job)
            case Fatal():
                raise ClesrError(answer.reason)
            case Halted():
                self._stop.set()

    def _split(self, plan: Plan) -> None:
        if plan.job.name not in self._open:
            self._count(plan.job, sum(plan.pixels(index) for index in range(plan.pieces)))
        self._open[plan.job.name] = _Open(plan, plan.pieces)
        self._ready.extend(Task(plan.job, Step.PIECE, plan, index) for index in range(plan.pieces))

    def _made(self, task: Task) -> None:
        assert task.plan is not None
        state = self._open[task.job.name]
        state.left -= 1
        self.report.pixels += task.plan.pixels(task.index)
        if not state.left:
            self._ready.appendleft(Task(task.job, Step.FINISH, task.plan, lost=task.lost))

    def _done(self, task: Task, answer: Done) -> None:
        job, record = task.job, answer.record
        self.report.latest = job.name
        if answer.unchanged:
            known = self.ledger.find(job.name)
            assert known is not None
            record = replace(known, size=job.size, mtime_ns=job.mtime_ns)
            self.ledger.add(record)
            self._skip(record)
            return
        earlier = self.ledger.find(job.name)
        self.ledger.add(record)
        if earlier is not None and earlier.status is Status.PARTIAL and record.status is Status.DONE:
            self._remove_partial(job, earlier)
        if self._open.pop(job.name, None) is None:
            self._count(job, record.pixels)
            self.report.pixels += record.pixels
        self.report.frames += record.frames
        self._clear(record)
        if record.status is Status.PARTIAL:
            self._list(job.name, record.reason)
        else:
            self.report.done += 1

    def _again(self, task: Task, reason: str) -> None:
        if task.lost + 1 >= ATTEMPTS:
            self._break(task.job.name, f"{reason} ({ATTEMPTS} attempts)", task.job)
            return
        again = replace(task, lost=task.lost + 1)
        if task.step is Step.FINISH and isinstance(task.plan, Plan):
            self._open[task.job.name] = _Open(task.plan, task.plan.pieces)
            self._ready.extend(
                Task(task.job, Step.PIECE, task.plan, index, again.lost) for index in range(task.plan.pieces)
            )
            return
        self._ready.appendleft(again)

    def _break(self, name: str, reason: str, job: Job | None = None) -> None:
        reason = " ".join(reason.split()).removeprefix(f"{job.path if job else name}: ")[:LONGEST_REASON]
        self._open.pop(name, None)
        record = Record(input=name, status=Status.FAILED, reason=reason, settings=self._identity)
        if job is not None:
            record = replace(record, size=job.size, mtime_ns=job.mtime_ns)
        self.ledger.add(record)
        self._list(name, reason)

    def _list(self, name: str, reason: str) -> None:
        self.report.broken += 1
        if len(self.report.listed) < LISTED:
            self.report.listed.append((name, reason))

    # --- small parts

    def _current(self, task: Task) -> bool:
        state = self._open.get(task.job.name)
        return state is not None and state.plan is task.plan

    def _count(self, job: Job, pixels: int) -> None:
        suffix = kind(job.path)
        size, known = self.report.met.get(suffix, (0, 0))
        self.report.met[suffix] = size + job.size, known + pixels

    def _clear(self, record: Record) -> None:
        """Delete what was half-made of the file."""
        with contextlib.suppress(OSError), Folder(self.out) as out, out.folder(*WORK) as work:
            work.remove_tree(self._settings.key(record.input_sha256, record.input))

    def _remove_partial(self, job: Job, earlier: Record) -> None:
        """Delete the result of an earlier run that the whole one replaces, if it is still what that run made."""
        name = partial_target(job.target)
        if earlier.output != spelled(name):
            return
        *folders, file_name = relative_parts(name)
        with contextlib.suppress(OSError), Folder(self.out) as out, out.folder(*folders) as folder:
            if folder.sha256(file_name) == earlier.output_sha256:
                folder.remove(file_name)


def _names(target: str) -> tuple[str, str]:
    """What the result of a file may be called, as the ledger has it."""
    return spelled(target), spelled(partial_target(target))
