"""What waits for the disk in the recorder thread's place: a session is brought to it again and again, and closed.

The promise is that a killed process or a power cut costs at most the last second. What the system has been given
survives the process, so the recorder thread must never wait here; what the disk has taken survives a power cut.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from clesr.pipeline.clock import Clock
from clesr.pipeline.session.format import SessionError
from clesr.pipeline.session.matroska import CLUSTER_MS
from clesr.pipeline.session.watchdog import DEAD, DEAD_NS
from clesr.pipeline.session.writer import WRITING_ERRORS, Checkpoint, SessionWriter

SYNC_NS = 400_000_000  # between the beginnings of two checkpoints
LOSS_NS = 1_000_000_000  # what a power cut may cost
STOPPED = "stopped"  # how a session ends that was closed as it should be


@dataclass(slots=True)
class _Progress:
    """What came until ``safe_ns`` is on the disk, what came until ``reached_ns`` is in the checkpoint being saved."""

    safe_ns: int
    reached_ns: int
    begun_ns: int
    checkpoint: Checkpoint | None = None
    saving: Future[None] | None = None
    said: bool = False

    def settle(self, writer: SessionWriter) -> None:
        """Wait for the checkpoint being saved. Raises OSError where that failed."""
        if self.saving is not None and self.checkpoint is not None:
            self.saving.result()
            writer.passed(self.checkpoint)
            self.safe_ns, self.saving = self.reached_ns, None


class Checkpointer:
    """One thread for all sessions of a recorder, whose thread calls the methods; they return at once, but ``close``.

    Once that has returned, ``reports`` has a line for each closed session and ``error`` what ended one early.
    """

    def __init__(self, clock: Clock, tell: Callable[[str], None]) -> None:
        self.clock, self.tell = clock, tell
        self.reports: list[str] = []
        self.error: SessionError | None = None
        self._pool = ThreadPoolExecutor(1, "clesr checkpointer")
        self._sessions: dict[SessionWriter, _Progress] = {}
        self._endings: list[Future[None]] = []

    def tend(self, writer: SessionWriter, reached_ns: int) -> None:
        """Begin the next checkpoint where it is due; what was recorded until ``reached_ns`` is with the system.

        Raises OSError where the last one failed, SessionError where it does not end.
        """
        now = self.clock.now_ns()
        session = self._sessions.setdefault(writer, _Progress(now, now, now - SYNC_NS))
        if session.saving is not None:
            if session.saving.done():
                session.settle(writer)
            elif now - session.begun_ns > DEAD_NS:
                raise SessionError(DEAD)
        if session.saving is None and now - session.begun_ns >= SYNC_NS:
            session.begun_ns, session.reached_ns = now, reached_ns
            session.checkpoint = writer.checkpoint()
            session.saving = self._pool.submit(session.checkpoint.save)
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
                writer.close(STOPPED)
        except WRITING_ERRORS as error:
            if failure is None:
                self._say_end(writer, error)
                failure = error
        if failure is not None:
            self._fail(writer, failure)
            return
        self.reports.append(report(writer))
        if announce:
            self.tell(f"recorded {self.reports[-1]}")

    def _say_end(self, writer: SessionWriter, failure: Exception) -> None:
        self.tell(f"the recording {writer.folder} ends: {cause(failure)}; the live view goes on")

    def _fail(self, writer: SessionWriter, failure: Exception) -> None:
        try:
            writer.fail(f"writing failed: {cause(failure)}")
        except WRITING_ERRORS:
            end = "it could not be closed: run `clesr repair` on it where there is space"
        else:
            end = f"what is on the disk is closed and valid: {report(writer)}"
        self.error = SessionError(f"the recording {writer.folder} ended early: {cause(failure)}; {end}")


def cause(error: Exception) -> str:
    """Why writing failed, without file names."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def report(writer: SessionWriter) -> str:
    """What a closed session holds, in a few words."""
    totals = writer.totals
    size = sum(path.stat().st_size for path in writer.folder.iterdir()) / 1e6
    missing = f", {totals['unrecorded']} captured without pixels" if totals["unrecorded"] else ""
    return f"{writer.folder}: {totals['raw']} frames, {totals['sr']} up-scaled{missing}, {size:.1f} MB"
