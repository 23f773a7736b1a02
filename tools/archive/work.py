"""The work on one file: looked at, computed in pieces, joined. The same on this machine and on a cluster.

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
from collections.abc import Callable
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
from clesr.tools.archive.compute import Computation, Stopped
from clesr.tools.archive.engines import EngineShelf
from clesr.tools.archive.ledger import LONGEST_LINE, Record, Status, Word, recorded, spelled
from clesr.tools.archive.messages import (
    Answer,
    Done,
    Failure,
    Fatal,
    Halted,
    Hello,
    Inseparable,
    Job,
    Made,
    Plan,
    Step,
    Task,
)
from clesr.tools.archive.pieces import Part, join, seal, sealed
from clesr.tools.archive.recording import look
from clesr.tools.archive.settings import Settings
from clesr.tools.archive.tree import partial_target

FOLDER = ".archive"  # in the output folder: the lock, and what is half-made
WORK = (FOLDER, "work")
FINISHED = "finished.json"
TRIAL = (256, 256)  # LR size at which an engine is tried before the first file


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finished(Record):
    """A record and the name that the result has until it gets its own."""

    file: Word


class Worker:
    """Does the steps of jobs, one at a time, with engines that stay open. ``out`` is the output folder."""

    def __init__(self, settings: Settings, out: Path, tell: Callable[[str], None]) -> None:
        self.settings, self.out = settings, out
        self.engines = EngineShelf(settings, tell)
        self._computation = Computation(settings, self.engines)

    def hello(self, token: str) -> Hello:
        """Open an engine once and look for ``token`` in the output folder. Raises EngineError, WeightsError."""
        engine = self.engines(TRIAL)
        model = self.engines.opener.model
        return Hello(
            socket.gethostname(),
            os.getpid(),
            versions(),
            _sees(self.out, token),
            model.sha256 if isinstance(model, Model) else "",
            str(engine.info),
        )

    def choose(self) -> str:
        """The name of the model that this machine runs well enough where "auto" was asked for."""
        self.engines(TRIAL)
        model = self.engines.opener.model
        return model.name if isinstance(model, Model) else str(model)

    def do(self, task: Task) -> Answer:
        """The step that ``task`` names; raises nothing that one file or disk is to blame for."""
        try:
            return self._step(task)
        except NotApart:
            return Inseparable()
        except Stopped:
            return Halted()
        except (OSError, ClesrError) as error:
            if _spares_no_file(error):
                return Fatal(f"{error}; free some space and run again: what is finished is kept")
            if isinstance(error, FileNotFoundError) and error.filename == task.job.path:
                where = f"{socket.gethostname()} does not see {error.filename}"
                return Failure(f"{where}: it is gone, or not on a shared file system", again=True)
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            return Failure(reason, again=isinstance(error, EngineError))
        except Exception as error:  # noqa: BLE001 - a fault of clesr on one file must not end the others
            return Failure(f"unexpected {type(error).__name__}: {error}")

    def _step(self, task: Task) -> Answer:
        if task.step is Step.BEGIN:
            return self.begin(task.job)
        assert task.plan is not None
        return self.piece(task.plan, task.index) if task.step is Step.PIECE else self.finish(task.plan)

    def begin(self, job: Job) -> Answer:
        """Look at the input: a plan, or the finished file where one piece holds all of it."""
        digest = _sha256(job.path)
        if digest == job.known:
            return Done(Record(input=job.name, status=Status.DONE, input_sha256=digest), unchanged=True)
        key = self.settings.key(digest, job.name)
        left = self._left_by_a_killed_run(job, key)
        if left is not None:
            return Done(left)
        self._check_target(job)
        asked = self.settings
        seen = look(Path(job.path), roi=asked.roi, window=asked.window, piece=asked.piece, limit=asked.frames)
        plan = Plan(job, digest, key, seen)
        if plan.seen.spans:
            return plan
        self.piece(plan, 0)
        return self.finish(plan)

    def piece(self, plan: Plan, index: int) -> Answer:
        """Compute one piece, unless it is there."""
        final = self._piece_path(plan, index)
        if sealed(final) is None:
            with Folder(self.out) as out:
                out.folder(*WORK, plan.key, make=True).close()
            temporary = final.with_name(f".{token()}{final.suffix}")
            try:
                seal(temporary, final, self._computation.run(plan, index, temporary))
            finally:
                temporary.unlink(missing_ok=True)
        return Made()

    def finish(self, plan: Plan) -> Answer:
        """Join the pieces and give the result its name."""
        job, folder = plan.job, self._folder(plan.key)
        paths = [self._piece_path(plan, index) for index in range(plan.pieces)]
        parts = [sealed(path) for path in paths]
        if any(part is None for part in parts):
            return Failure("a finished piece is gone from the output folder", again=True)
        known = [part for part in parts if part is not None]
        if not sum(part.frames for part in known):
            return Failure("no frame came")
        _check_unchanged(job)
        joined = paths[0]
        if joined.suffix == ".mkv":
            joined = folder / f".{token()}.mkv"
            if join(paths, joined) != sum(part.frames for part in known):
                self._remove(plan.key)
                return Failure("a piece on the disk does not hold the frames it should", again=True)
        record = self._record(plan, known, joined)
        put_part(folder / FINISHED, json.dumps(recorded(record) | {"file": joined.name}).encode())
        self._publish(plan.key, joined.name, job, record)
        return Done(record)

    def stop(self) -> None:
        """From any thread: give up what is being computed; ``do`` gives Halted."""
        self._computation.stop()

    def progress(self) -> int:
        """From any thread: LR pixels of the present piece that are done."""
        return self._computation.progress()

    # --- the parts of begin

    def _left_by_a_killed_run(self, job: Job, key: str) -> Record | None:
        """The record of a file that was finished just before its run was killed."""
        try:
            found = parse_json(read_part(self._folder(key) / FINISHED, LONGEST_LINE), _Finished)
            output = job.target if found.status is Status.DONE else partial_target(job.target)
            expected = spelled(job.name), spelled(output), self.settings.identity
            if (found.input, found.output, found.settings) != expected:
                return None
            values = {f.name: getattr(found, f.name) for f in fields(Record)}
            own = {"input": job.name, "output": output, "size": job.size, "mtime_ns": job.mtime_ns}
            record = Record(**(values | own))
            with Folder(self._folder(key)) as work:
                if work.is_file(found.file) and work.sha256(found.file) == record.output_sha256:
                    self._publish(key, found.file, job, record)
            *folders, name = relative_parts(output)
            with Folder(self.out) as out, out.folder(*folders) as there:
                return record if there.sha256(name) == record.output_sha256 else None
        except (OSError, ValueError):
            return None

    # --- the parts of finish

    def _record(self, plan: Plan, parts: list[Part], result: Path) -> Record:
        job, frames = plan.job, sum(part.frames for part in parts)
        missing = sum(part.missing for part in parts)
        notes = [part.note for part in parts if part.note] or ["no reason given"]
        height, width = parts[0].shape
        return Record(
            input=job.name,
            status=Status.PARTIAL if missing else Status.DONE,
            reason=f"{missing} of {frames + missing} frames are corrupt ({notes[0]})" if missing else "",
            size=job.size,
            mtime_ns=job.mtime_ns,
            input_sha256=plan.sha256,
            settings=self.settings.identity,
            model_sha256=self.settings.model_sha256,
            engines=tuple(sorted({part.engine for part in parts})),
            frames=frames,
            missing=missing,
            pixels=frames * height * width,
            output=partial_target(job.target) if missing else job.target,
            output_size=result.stat().st_size,
            output_sha256=_sha256(result),
        )

    def _publish(self, key: str, made: str, job: Job, record: Record) -> None:
        """Give the file ``made`` in the folder of ``key`` its name. Raises ClesrError where that may not be."""
        *folders, name = relative_parts(record.output)
        with (
            Folder(self.out) as out,
            out.folder(*WORK, key) as work,
            out.folder(*folders, make=True) as there,
        ):
            self._check_place(there, name, job, record.output_sha256)
            work.move(made, there, name, replace=there.state(name) is not None)

    def _check_target(self, job: Job) -> None:
        """Raises ClesrError, before anything is computed, where the result may not get its name."""
        *folders, name = relative_parts(job.target)
        with contextlib.suppress(FileNotFoundError), Folder(self.out) as out, out.folder(*folders) as there:
            self._check_place(there, name, job)

    def _check_place(self, there: Folder, name: str, job: Job, made: str = "") -> None:
        """What earlier runs made may be replaced, and what is the same as the new result; else ``WriteRule`` says."""
        ours = there.is_file(name) and there.sha256(name) in {job.earlier, made}
        WriteRule(self.settings.overwrite or ours, (Path(job.path),)).check(there.path / name)

    def _remove(self, key: str) -> None:
        with Folder(self.out) as out, out.folder(*WORK) as work:
            work.remove_tree(key)

    def _folder(self, key: str) -> Path:
        return work_folder(self.out) / key

    def _piece_path(self, plan: Plan, index: int) -> Path:
        name = f"{plan.seen.spans[index].start:010d}" if plan.seen.spans else "whole"
        return self._folder(plan.key) / f"{name}{Path(plan.job.target).suffix}"


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


def _sees(out: Path, expected: str) -> bool:
    try:
        return read_part(token_file(out), len(expected)) == expected.encode()
    except OSError:
        return False


def _sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_unchanged(job: Job) -> None:
    state = Path(job.path).stat()
    if (state.st_size, state.st_mtime_ns) != (job.size, job.mtime_ns):
        raise SourceError("it changed while it was read; run again when it is finished")
