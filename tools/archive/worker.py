"""The work on one file: looked at, computed in segments, joined. The same on this machine and on a cluster.

Everything half-made lies in a folder of its own under the output folder, named by content, model and settings, so that
a later run finds what an earlier one, or a worker that was lost, had finished.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import socket
from dataclasses import dataclass, fields
from pathlib import Path

import av

from clesr import __version__
from clesr.engines.common.errors import ClesrError, EngineError, SourceError
from clesr.engines.common.files import WriteRule, token
from clesr.engines.common.folders import Folder, put_part, read_part, relative_parts
from clesr.engines.common.parsing import parse_json
from clesr.engines.models.weights import Model
from clesr.pipeline.sources.video.ranges import NotApart
from clesr.tools.archive.compute import Computation, EnginePool, SegmentStopped
from clesr.tools.archive.journal import LONGEST_LINE, FileStatus, JournalEntry, Word, recorded, spelled
from clesr.tools.archive.messages import Answer, Done, Event, Failure, Fatal, Hello, SegmentPlan, Step, Task
from clesr.tools.archive.recording import scan
from clesr.tools.archive.segments import SegmentInfo, join, seal, sealed
from clesr.tools.archive.settings import FOLDER, WORK, Settings
from clesr.tools.archive.tree import InputFile, partial_target

FINISHED = "finished.json"
TRIAL = (256, 256)  # LR size at which an engine is tried before the first file


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finished(JournalEntry):
    """An entry and the name that the result has until it gets its own."""

    file: Word


class Worker:
    """Does the steps of inputs, one at a time, with engines that stay open. ``out`` is the output folder."""

    def __init__(self, settings: Settings, out: Path) -> None:
        self.settings, self.out = settings, out
        self.engines = EnginePool(settings)
        self._computation = Computation(settings, self.engines)

    def hello(self, token: str) -> Hello:
        """Open an engine once and look for ``token`` in the output folder. Raises EngineError, WeightsError."""
        engine = self.engines(TRIAL)
        model = self.engines.opener.model
        sha256 = model.sha256 if isinstance(model, Model) else ""
        try:
            seen = read_part(token_file(self.out), len(token)) == token.encode()
        except OSError:
            seen = False
        return Hello(socket.gethostname(), os.getpid(), versions(), seen, sha256, str(engine.info))

    def choose_model(self) -> str:
        """The name of the model that this machine runs well enough where "auto" was asked for."""
        self.engines(TRIAL)
        model = self.engines.opener.model
        return model.name if isinstance(model, Model) else str(model)

    def configure(self, settings: Settings) -> None:
        """Take ``settings``, which differ in the name of the chosen model alone: its engines stay open."""
        self.settings = self._computation.settings = settings

    def do(self, task: Task) -> Answer:
        """The step that ``task`` names; raises nothing that one file or disk is to blame for."""
        try:
            return self._step(task)
        except NotApart:
            return Event.INSEPARABLE
        except SegmentStopped:
            return Event.HALTED
        except (OSError, ClesrError) as error:
            if _spares_no_file(error):
                return Fatal(f"{error}; free some space and run again: what is finished is kept")
            if isinstance(error, FileNotFoundError) and error.filename == str(task.file.path):
                where = f"{socket.gethostname()} does not see {error.filename}"
                return Failure(f"{where}: it is gone, or not on a shared file system", again=True)
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            return Failure(reason, again=isinstance(error, EngineError))
        except Exception as error:  # noqa: BLE001 - a fault of clesr on one file must not end the others
            return Failure(f"unexpected {type(error).__name__}: {error}")

    def _step(self, task: Task) -> Answer:
        if task.step is Step.BEGIN:
            return self.begin(task.file)
        assert task.plan is not None
        return self.segment(task.plan, task.index) if task.step is Step.SEGMENT else self.finish(task.plan)

    def begin(self, file: InputFile) -> Answer:
        """Look at the input: a plan, or the finished file where one segment holds all of it."""
        digest = _sha256(file.path)
        if digest == file.known:
            entry = JournalEntry(input=file.name, status=FileStatus.DONE, input_sha256=digest)
            return Done(entry, unchanged=True)
        asked = self.settings.of(file)
        key = asked.key(digest, file.name)
        left = self._left_by_a_killed_run(file, key)
        if left is not None:
            return Done(left)
        *folders, name = relative_parts(file.target)  # which may not get its name: then nothing is computed
        with contextlib.suppress(FileNotFoundError), Folder(self.out) as out, out.folder(*folders) as there:
            self._check_place(there, name, file)
        plan = SegmentPlan(file, digest, key, scan(file.path, asked))
        if plan.scan.spans:
            return plan
        self.segment(plan, 0)
        return self.finish(plan)

    def segment(self, plan: SegmentPlan, index: int) -> Answer:
        """Compute one segment, unless it is there."""
        final = self._segment_path(plan, index)
        if sealed(final) is None:
            with Folder(self.out) as out:
                out.folder(*WORK, plan.key, make=True).close()
            temporary = final.with_name(f".{token()}{final.suffix}")
            try:
                seal(temporary, final, self._computation.run(plan, index, temporary))
            finally:
                temporary.unlink(missing_ok=True)
        return Event.SEGMENT_DONE

    def finish(self, plan: SegmentPlan) -> Answer:
        """Join the segments and give the result its name."""
        paths = [self._segment_path(plan, index) for index in range(plan.segments)]
        known = [info for path in paths if (info := sealed(path)) is not None]
        if len(known) < len(paths):
            return Failure("a finished piece is gone from the output folder", again=True)
        frames = sum(info.frames for info in known)
        if not frames:
            return Failure("no frame came")
        state = plan.file.path.stat()
        if (state.st_size, state.st_mtime_ns) != (plan.file.size, plan.file.mtime_ns):
            raise SourceError("it changed while it was read; run again when it is finished")
        joined, folder = paths[0], self._folder(plan.key)
        if joined.suffix == ".mkv":
            joined = folder / f".{token()}.mkv"
            if join(paths, joined) != frames:
                with Folder(self.out) as out, out.folder(*WORK) as work:
                    work.remove_tree(plan.key)
                return Failure("a piece on the disk does not hold the frames it should", again=True)
        entry = self._entry(plan, known, joined)
        put_part(folder / FINISHED, json.dumps(recorded(entry) | {"file": joined.name}).encode())
        self._publish(plan.key, joined.name, plan.file, entry)
        return Done(entry)

    def stop(self) -> None:
        """From any thread: give up what is being computed; ``do`` gives Halted."""
        self._computation.stop()

    def progress(self) -> int:
        """From any thread: LR pixels of the present segment that are done."""
        return self._computation.progress()

    def _left_by_a_killed_run(self, file: InputFile, key: str) -> JournalEntry | None:
        """The entry of a file that was finished just before its run was killed."""
        try:
            found = parse_json(read_part(self._folder(key) / FINISHED, LONGEST_LINE), _Finished)
            output = file.target if found.status is FileStatus.DONE else partial_target(file.target)
            expected = spelled(file.name), spelled(output), self.settings.identity
            if (found.input, found.output, found.settings) != expected:
                return None
            values = {f.name: getattr(found, f.name) for f in fields(JournalEntry)}
            own = {"input": file.name, "output": output, "size": file.size, "mtime_ns": file.mtime_ns}
            entry = JournalEntry(**(values | own))
            with Folder(self._folder(key)) as work:
                if work.is_file(found.file) and work.sha256(found.file) == entry.output_sha256:
                    self._publish(key, found.file, file, entry)
            *folders, name = relative_parts(output)
            with Folder(self.out) as out, out.folder(*folders) as there:
                return entry if there.sha256(name) == entry.output_sha256 else None
        except (OSError, ValueError):
            return None

    def _entry(self, plan: SegmentPlan, segments: list[SegmentInfo], result: Path) -> JournalEntry:
        file, frames = plan.file, sum(info.frames for info in segments)
        missing = sum(info.missing for info in segments)
        note = next((info.note for info in segments if info.note), "no reason given")
        height, width = segments[0].shape
        return JournalEntry(
            input=file.name,
            status=FileStatus.PARTIAL if missing else FileStatus.DONE,
            reason=f"{missing} of {frames + missing} frames are corrupt ({note})" if missing else "",
            size=file.size,
            mtime_ns=file.mtime_ns,
            input_sha256=plan.sha256,
            settings=self.settings.identity,
            stated=self.settings.stated(file),
            model_sha256=self.settings.model_sha256,
            engines=tuple(sorted({info.engine for info in segments})),
            frames=frames,
            missing=missing,
            pixels=frames * height * width,
            output=partial_target(file.target) if missing else file.target,
            output_size=result.stat().st_size,
            output_sha256=_sha256(result),
        )

    def _publish(self, key: str, made: str, file: InputFile, entry: JournalEntry) -> None:
        """Give the file ``made`` in the folder of ``key`` its name. Raises ClesrError where that may not be."""
        *folders, name = relative_parts(entry.output)
        with (
            Folder(self.out) as out,
            out.folder(*WORK, key) as work,
            out.folder(*folders, make=True) as there,
        ):
            self._check_place(there, name, file, entry.output_sha256)
            work.move(made, there, name, replace=there.state(name) is not None)

    def _check_place(self, there: Folder, name: str, file: InputFile, made: str = "") -> None:
        """What earlier runs made may be replaced, and what is the same as the new result; else ``WriteRule`` says."""
        ours = there.is_file(name) and there.sha256(name) in {file.earlier, made}
        WriteRule(self.settings.overwrite or ours, (file.path,)).check(there.path / name)

    def _folder(self, key: str) -> Path:
        return work_folder(self.out) / key

    def _segment_path(self, plan: SegmentPlan, index: int) -> Path:
        spans = plan.scan.spans
        name = f"{spans[index].start:010d}" if spans else "whole"
        return self._folder(plan.key) / f"{name}{Path(plan.file.target).suffix}"


class LocalExecutor(Worker):
    """One worker in this process, as an Executor."""

    _task: Task | None = None

    def free(self) -> int:
        return self._task is None

    def submit(self, task: Task) -> None:
        assert self._task is None
        self._task = task

    def wait(self) -> list[tuple[Task, Answer]]:
        task, self._task = self._task, None
        return [] if task is None else [(task, self.do(task))]

    def close(self) -> None:
        self.engines.close()


def work_folder(out: Path) -> Path:
    """Where half-made files lie."""
    return out.joinpath(*WORK)


def token_file(out: Path) -> Path:
    """What a worker reads to show that it sees the output folder."""
    return out / FOLDER / "token"


def versions() -> tuple[str, ...]:
    """The versions that all workers must share for the same bytes."""
    return f"clesr {__version__}", f"PyAV {av.__version__}"


def _spares_no_file(error: BaseException | None) -> bool:
    """Whether ``error`` is that of a disk that takes nothing more."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return True
        error = error.__cause__
    return False


def _sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
