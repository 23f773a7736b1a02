"""What waits for the disk in the recorder thread's place: a session is brought to it again and again, and closed.

The promise is that a killed process or a power cut costs at most the last second. What the system has been given
survives the process, so the recorder thread must never wait here; what the disk has taken survives a power cut.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from clesr.engines.common.clock import Clock
from clesr.engines.common.errors import first_line
from clesr.pipeline.session.format import SessionError
from clesr.pipeline.session.matroska import CLUSTER_MS
from clesr.pipeline.session.place import DamagedError, MovedError
from clesr.pipeline.session.watchdog import DEAD, Wait
from clesr.pipeline.session.writer import Checkpoint, SessionWriter

SYNC_NS = 400_000_000  # between the beginnings of two checkpoints
LOSS_NS = 1_000_000_000  # what a power cut may cost
STOPPED = "stopped"  # how a session ends that was closed as it should be
MOVED = "stopped: the folder was moved while it was recorded"


@dataclass(slots=True)
class _Progress:
    """What came until ``safe_ns`` is on the disk, what came until ``reached_ns`` is in the checkpoint being saved."""

    safe_ns: int
    reached_ns: int
    begun_ns: int
    checkpoint: Checkpoint | None = None
    saving: Future[None] | None = None
    wait: Wait | None = None  # for what is being saved
    said: bool = False

    def settle(self, writer: SessionWriter) -> None:
        """Wait for the checkpoint being saved. Raises what that raised."""
        saving, self.saving = self.saving, None
        if saving is not None and self.checkpoint is not None:
            saving.result()
            writer.passed(self.checkpoint)
            self.safe_ns = self.reached_ns


class Checkpointer:
    """One thread for all sessions of a recorder, whose thread calls the methods; they return at once, but ``close``.

    Once that has returned, ``reports`` has a line for each closed session and ``errors`` what ended one early.
    """

    def __init__(self, clock: Clock, tell: Callable[[str], None]) -> None:
        self.clock, self.tell = clock, tell
        self.reports: list[str] = []
        self.errors: list[str] = []
        self._pool = ThreadPoolExecutor(1, "clesr checkpointer")
        self._pool.submit(int)  # starts the thread while there is memory for it
        self._sessions: dict[SessionWriter, _Progress] = {}
        self._endings: list[Future[None]] = []

    def tend(self, writer: SessionWriter, reached_ns: int) -> None:
        """Begin the next checkpoint where it is due; what was recorded until ``reached_ns`` is with the system.

        Raises what the last one raised, SessionError where it does not end.
        """
        now = self.clock.now_ns()
        session = self._sessions.setdefault(writer, _Progress(now, now, now - SYNC_NS))
        if session.saving is not None:
            if session.saving.done():
                session.settle(writer)
            elif session.wait is not None and session.wait.is_too_long(now):
                raise SessionError(DEAD)
        if session.saving is None and now - session.begun_ns >= SYNC_NS:
            session.begun_ns, session.reached_ns = now, reached_ns
            session.checkpoint = writer.checkpoint()
            session.saving, session.wait = self._pool.submit(session.checkpoint.save), Wait(now)
        if now - session.safe_ns > LOSS_NS - CLUSTER_MS * 1_000_000 and not session.said:
            session.said = True
            self.tell(
                f"the recording {writer.folder} reaches the disk late: a power cut now would cost more than the "
                "last second; a faster disk helps"
            )

    def end(self, writer: SessionWriter, failure: Exception | None = None, *, announce: bool = False) -> None:
        """Close ``writer``, which takes nothing more; after a ``failure`` with what is on the disk."""
        if failure is not None:
            self._say_end(writer, failure)
            failure.__traceback__ = None  # its frames hold what holds it: a circle that only gc frees
        session = self._sessions.pop(writer, None)
        self._endings.append(self._pool.submit(self._end, writer, session, failure, announce))

    def close(self) -> None:
        """Wait until everything is closed. Raises what nobody expected."""
        self._pool.shutdown()
        for ending in self._endings:
            ending.result()

    def _end(
        self, writer: SessionWriter, session: _Progress | None, failure: Exception | None, announce: bool
    ) -> None:
        try:
            if session is not None:
                session.settle(writer)
            if failure is None:
                writer.check()
                writer.close(STOPPED)
        except Exception as error:  # noqa: BLE001 - whatever breaks, the session is closed as far as it can be
            error.__traceback__ = None
            if failure is None:
                self._say_end(writer, error)
                failure = error
        try:
            if failure is not None:
                self._fail(writer, failure)
                return
            self.reports.append(report(writer))
            if announce:
                self.tell(f"recorded {self.reports[-1]}")
        finally:
            writer.abandon()

    def _say_end(self, writer: SessionWriter, failure: Exception) -> None:
        self.tell(f"the recording {writer.folder} ends: {cause(failure)}; the live view goes on")

    def _fail(self, writer: SessionWriter, failure: Exception) -> None:
        """Save what can be saved, and keep what is to be said at the end."""
        try:
            end = _save(writer, failure)
        except Exception as error:  # noqa: BLE001 - as above
            end = f"it could not be closed ({cause(error)}): run `clesr repair` on it where there is space"
        self.errors.append(f"the recording {writer.folder} ended early: {cause(failure)}; {end}")


def _save(writer: SessionWriter, failure: Exception) -> str:
    """Close the session of ``writer`` after a ``failure`` where that is possible; what became of it. Raises what
    writing raises."""
    if isinstance(failure, MovedError):
        where = writer.where
        writer.close(MOVED)
        return f"it is whole and closed: {report(writer, where)}"
    if not isinstance(failure, DamagedError):
        writer.fail(f"writing failed: {cause(failure)}")
        return f"what is on the disk is closed and valid: {report(writer)}"
    if writer.deleted:
        return "what was in it is lost"
    writer.leave()
    return "it is left unclosed: `clesr repair` closes it with what is left"


def cause(error: Exception) -> str:
    """Why writing failed, without file names."""
    return (error.strerror if isinstance(error, OSError) else None) or first_line(error)


def report(writer: SessionWriter, where: str | None = None) -> str:
    """What a closed session holds, in a few words; ``where`` it is now, if that is not where it was made."""
    totals = writer.totals
    missing = f", {totals['unrecorded']} captured without pixels" if totals["unrecorded"] else ""
    return (
        f"{where or writer.folder}: {totals['raw']} frames, {totals['sr']} up-scaled{missing}, "
        f"{writer.bytes / 1e6:.1f} MB"
    )
