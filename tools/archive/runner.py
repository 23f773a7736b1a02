"""One run over an archive: which step of which file comes next, and what is made of each answer."""

from __future__ import annotations

import contextlib
import logging
import stat
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clesr.engines.common.errors import ClesrError
from clesr.engines.common.folders import Folder, relative_parts
from clesr.pipeline.session.format import RAW, SessionError
from clesr.pipeline.session.manifest import recorded_window
from clesr.pipeline.session.reader import read_session
from clesr.tools.archive.journal import FileStatus, Journal, JournalEntry, spelled
from clesr.tools.archive.messages import (
    Answer,
    Done,
    Event,
    Executor,
    Failure,
    Fatal,
    SegmentPlan,
    Step,
    Task,
)
from clesr.tools.archive.settings import WORK, Settings
from clesr.tools.archive.tree import InputFile, UnreadableEntry, is_session, kind, partial_target

log = logging.getLogger(__name__)
ATTEMPTS = 3  # at one step, before a file counts as broken
LONGEST_REASON = 2000  # characters
LISTED = 20  # broken files that are listed by name at the end; the journal has them all


@dataclass
class Report:
    """What a run has come to: files finished now, found finished, and broken (name and reason of the first); frames and
    LR pixels done. ``met`` has bytes and LR pixels of all files begun by suffix, ``passed`` the bytes of those found
    finished: what the time left is reckoned from."""

    done: int = 0
    skipped: int = 0
    broken: int = 0
    listed: list[tuple[str, str]] = field(default_factory=list)
    frames: int = 0
    pixels: int = 0
    latest: str = ""
    met: dict[str, tuple[int, int]] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)

    def list_broken(self, name: str, reason: str) -> None:
        self.broken += 1
        if len(self.listed) < LISTED:
            self.listed.append((name, reason))

    def as_json(self) -> dict[str, Any]:
        shown = ("done", "skipped", "broken", "listed", "frames", "pixels")
        return {name: getattr(self, name) for name in shown}


@dataclass
class _Open:
    """A file that is being done: its plan and how many segments are still to come."""

    plan: SegmentPlan
    left: int


class Runner:
    """Gives the steps of ``entries`` to ``executor`` and records finished files in ``journal``.

    Files are begun only when no step of a begun one waits: so what is in memory and on the way is bounded by the
    executor and by the segments of its files, however many entries there are. ``deep`` reads every finished input again
    instead of trusting its size and time of change.
    """

    def __init__(
        self,
        executor: Executor,
        entries: Iterable[InputFile | UnreadableEntry],
        journal: Journal,
        settings: Settings,
        out: Path,
        *,
        deep: bool = False,
    ) -> None:
        self.executor, self.journal, self.out = executor, journal, out
        self.report = Report()
        self._settings, self._identity, self._deep = settings, settings.identity, deep
        self._entries: Iterator[InputFile | UnreadableEntry] = iter(entries)
        self._ready: deque[Task] = deque()
        self._open: dict[str, _Open] = {}
        self._given = 0
        self._stop = threading.Event()

    def run(self) -> Report:
        """To the end, or until ``stop``. Raises ClesrError where nothing can go on; what is finished is kept."""
        more = True
        while not self._stop.is_set() and (more or self._given or self._ready):
            while self.executor.free() and more and not self._stop.is_set():
                task = self._next()
                if task is None:
                    more = False
                    break
                self._given += 1
                self.executor.submit(task)
            for task, answer in self.executor.wait():
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
        self.executor.stop()

    def _next(self) -> Task | None:
        while self._ready:
            task = self._ready.popleft()
            if task.plan is None or self._current(task):
                return task
        for entry in self._entries:
            if self._stop.is_set():
                return None
            if isinstance(entry, UnreadableEntry):
                self._break(entry.name, entry.reason)
            elif (file := self._to_do(entry)) is not None:
                return Task(file)
        return None

    def _to_do(self, file: InputFile) -> InputFile | None:
        """``file`` with what earlier runs made of it; None where it was done with these settings and is unchanged."""
        file, entry = with_stated(file), self.journal.find(file.name)
        if entry is None:
            return file
        if entry.output in (spelled(file.target), spelled(partial_target(file.target))):
            file = replace(file, earlier=entry.output_sha256)
        if (
            entry.status is FileStatus.FAILED
            or (entry.settings, entry.stated) != (self._identity, self._settings.stated(file))
            or not self._has_result(entry, file)
        ):
            return file
        if self._deep or (entry.size, entry.mtime_ns) != (file.size, file.mtime_ns):
            return replace(file, known=entry.input_sha256)
        self._skip(entry)
        return None

    def _has_result(self, entry: JournalEntry, file: InputFile) -> bool:
        wanted = file.target if entry.status is FileStatus.DONE else partial_target(file.target)
        if entry.output != spelled(wanted):
            return False
        try:
            state = (self.out / wanted).lstat()
        except OSError:
            return False
        return stat.S_ISREG(state.st_mode) and state.st_size == entry.output_size

    def _skip(self, entry: JournalEntry) -> None:
        self.report.skipped += 1
        self.report.passed[kind(entry.input)] += entry.size
        if entry.status is FileStatus.PARTIAL:
            self.report.list_broken(entry.input, entry.reason)

    def _take(self, task: Task, answer: Answer) -> None:
        if task.plan is not None and not self._current(task):
            return  # a segment of a file that was given up meanwhile
        match answer:
            case SegmentPlan():
                self._split(answer)
            case Event.SEGMENT_DONE:
                self._segment_done(task)
            case Done():
                self._done(task.file, answer)
            case Event.INSEPARABLE:
                assert task.plan is not None
                self._split(task.plan.whole())
            case Failure(again=True):
                self._again(task, answer.reason)
            case Failure():
                self._break(task.file.name, answer.reason, task.file)
            case Fatal():
                raise ClesrError(answer.reason)
            case Event.HALTED:
                self._stop.set()

    def _split(self, plan: SegmentPlan, lost: int = 0) -> None:
        if plan.file.name not in self._open:
            self._count(plan.file, sum(map(plan.pixels, range(plan.segments))))
        self._open[plan.file.name] = _Open(plan, plan.segments)
        self._ready.extend(Task(plan.file, Step.SEGMENT, plan, i, lost) for i in range(plan.segments))

    def _segment_done(self, task: Task) -> None:
        assert task.plan is not None
        state = self._open[task.file.name]
        state.left -= 1
        self.report.pixels += task.plan.pixels(task.index)
        if not state.left:
            self._ready.appendleft(Task(task.file, Step.FINISH, task.plan, lost=task.lost))

    def _done(self, file: InputFile, answer: Done) -> None:
        entry, earlier = answer.entry, self.journal.find(file.name)
        self.report.latest = file.name
        if answer.unchanged:
            assert earlier is not None
            entry = replace(earlier, size=file.size, mtime_ns=file.mtime_ns)
            self.journal.add(entry)
            self._skip(entry)
            return
        self.journal.add(entry)
        if earlier is not None and earlier.status is FileStatus.PARTIAL and entry.status is FileStatus.DONE:
            self._remove_partial(file, earlier)
        if self._open.pop(file.name, None) is None:
            self._count(file, entry.pixels)
            self.report.pixels += entry.pixels
        self.report.frames += entry.frames
        self._clear(file, entry)
        if entry.status is FileStatus.PARTIAL:
            self.report.list_broken(file.name, entry.reason)
        else:
            self.report.done += 1

    def _again(self, task: Task, reason: str) -> None:
        lost = task.lost + 1
        if lost >= ATTEMPTS:
            self._break(task.file.name, f"{reason} ({ATTEMPTS} attempts)", task.file)
        elif task.step is Step.FINISH and task.plan is not None:
            self._split(task.plan, lost)
        else:
            self._ready.appendleft(replace(task, lost=lost))

    def _break(self, name: str, reason: str, file: InputFile | None = None) -> None:
        reason = " ".join(reason.split()).removeprefix(f"{file.path if file else name}: ")[:LONGEST_REASON]
        self._open.pop(name, None)
        entry = JournalEntry(input=name, status=FileStatus.FAILED, reason=reason, settings=self._identity)
        if file is not None:
            entry = replace(entry, size=file.size, mtime_ns=file.mtime_ns)
        self.journal.add(entry)
        self.report.list_broken(name, reason)

    def _current(self, task: Task) -> bool:
        state = self._open.get(task.file.name)
        return state is not None and state.plan is task.plan

    def _count(self, file: InputFile, pixels: int) -> None:
        suffix = kind(file.path.name)
        size, known = self.report.met.get(suffix, (0, 0))
        self.report.met[suffix] = size + file.size, known + pixels

    def _clear(self, file: InputFile, entry: JournalEntry) -> None:
        """Delete what was half-made of the file."""
        with contextlib.suppress(OSError), Folder(self.out) as out, out.folder(*WORK) as work:
            work.remove_tree(self._settings.of(file).key(entry.input_sha256, entry.input))

    def _remove_partial(self, file: InputFile, earlier: JournalEntry) -> None:
        """Delete the result of an earlier run that the whole one replaces, if it is still what that run made."""
        name = partial_target(file.target)
        if earlier.output != spelled(name):
            return
        *folders, file_name = relative_parts(name)
        with contextlib.suppress(OSError), Folder(self.out) as out, out.folder(*folders) as folder:
            if folder.sha256(file_name) == earlier.output_sha256:
                folder.remove(file_name)


def with_stated(file: InputFile) -> InputFile:
    """``file`` with what its session states, where it is the raw video of one."""
    folder = file.path.parent
    if file.path.name != RAW or not is_session(folder):
        return file
    try:
        session = read_session(folder)
        cores = session.first_calibration()
    except SessionError as error:
        log.warning(f"{file.name}: only the raw video of this session is used: {error}")
        return file
    own = None if cores is None else (session.calibration(cores), cores)
    return replace(file, window=recorded_window(session.info), cores=own)
