"""Commits: what waits for the disk in the recorder thread's place, so that a session is safely there again and again.

The promise is that a killed process or a power cut costs at most the last second. What the system has been given
survives the process, so the recorder thread must never wait here; what the disk has taken survives a power cut. A disk
that takes nothing any more is given up, so that what waits for it stays bounded. Where a disk is nearly full, up-scaled
images make room for raw ones.
"""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clesr.engines.common.clock import Clock
from clesr.pipeline.alarms import Alarms
from clesr.pipeline.messages import SafeLogger, stream_name
from clesr.pipeline.session.format import DamagedError, MovedError, SessionError, cause
from clesr.pipeline.session.video import CLUSTER_MS
from clesr.pipeline.session.writer import Commit, SessionWriter

log = SafeLogger(logging.getLogger(__name__))
SYNC_NS = 400_000_000  # between the beginnings of two commits
LOSS_NS = 1_000_000_000  # what a power cut may cost
DEAD_NS = 30_000_000_000  # without any progress after which a disk is given up
LOOK_NS = 5_000_000_000  # that one look counts at most
DEAD = f"the disk took nothing for {DEAD_NS / 1e9:.0f} s"
STOPPED = "stopped"  # how a session ends that was closed as it should be
MOVED = "stopped: the folder was moved while it was recorded"
MARKS = 25  # commits, over whose time the rate is measured at which a session grows
LEAST_NS = 1_000_000_000  # of recording, before anything is said of that
STEADY_NS = 3_000_000_000  # before images are left out: the first seconds may hold what was kept
TOLD_MIN = (10.0, 2.0)  # minutes that are left when it is told
OTHERS_MARKS = 150  # commits, over whose time it is measured what others write on the disk
OTHERS_NS = 30_000_000_000  # of recording, before anything is said of that
LOW_MIN, ROOM_MIN = 2.0, 4.0  # up-scaled images: left out below the first, back above the second


class Wait:
    """How long something has been waited for, by those who look again and again. A look long after the one before
    counts little: this process was stopped (Ctrl-Z, a paused machine), and the other side had no time either."""

    def __init__(self, now_ns: int) -> None:
        self._looked_ns, self._waited_ns = now_ns, 0

    def is_too_long(self, now_ns: int) -> bool:
        self._waited_ns += min(now_ns - self._looked_ns, LOOK_NS)
        self._looked_ns = now_ns
        return self._waited_ns > DEAD_NS


class DiskWatchdog:
    """Whether the recorder thread came on while there has been no room for frames. It counts its ``steps``; the source
    thread sets ``wait`` to None when a frame found room."""

    def __init__(self, clock: Clock) -> None:
        self.dead = False
        self.steps = self._seen = 0
        self.wait: Wait | None = None
        self._clock = clock

    def forget(self) -> None:
        """A recording is ordered anew."""
        self.dead, self.wait = False, None

    def full(self) -> bool:
        """Source thread: a frame found no room; whether the disk is given up now."""
        now, steps = self._clock.now_ns(), self.steps
        if self.wait is None or steps != self._seen:
            self.wait, self._seen = Wait(now), steps
        if self.dead or not self.wait.is_too_long(now):
            return False
        self.dead = True
        return True


class DiskRoom:
    """How many ``minutes`` the disk lasts at the rate at which a session grows and others fill it, and whether that is
    so ``low`` that up-scaled images are left out. One thread writes; any may look, and ``forget`` that it was low."""

    def __init__(self) -> None:
        self.minutes: float | None = None
        self.size: int | None = None  # bytes of the session
        self.free: int | None = None  # on its disk
        self.low = False
        self._of: object = None
        self._marks: deque[tuple[int, int]] = deque(maxlen=MARKS)
        self._rooms: deque[tuple[int, int]] = deque(maxlen=OTHERS_MARKS)  # when, and bytes without others
        self._rate = 0.0  # bytes a second with up-scaled images, 0 where that is not known
        self._rate_of_others = 0.0  # at that time: they may leave images out, too
        self._told = math.inf  # of TOLD_MIN

    def forget(self) -> None:
        """A recording is ordered anew, or goes on at another rate: let the disk show how full it is now."""
        self.low, self.minutes, self.size, self.free = False, None, None, None
        self._of, self._rate = None, 0.0

    def note(self, session: object, time_ns: int, size: int, free: int) -> str:
        """At ``time_ns`` the ``session`` had ``size`` bytes, and its disk room for ``free`` more. What is to be told of
        that, mostly nothing."""
        if session is not self._of:
            self._of, self.minutes, self._told = session, None, math.inf
            self._marks.clear()
            self._rooms.clear()
        self.size, self.free = size, free
        self._marks.append((time_ns, size))
        self._rooms.append((time_ns, size + free))
        first_ns, first = self._marks[0]
        grown, passed_ns = size - first, time_ns - first_ns
        if passed_ns >= LEAST_NS and grown > 0:
            rate = grown / (passed_ns / 1e9)
            self.minutes = free / (rate + self._others()) / 60
            if not self.low and passed_ns >= STEADY_NS:
                self._rate, self._rate_of_others = rate, self._others()
        return self._changed(free) or self._fewer()

    def _others(self) -> float:
        """Bytes a second that others write on this disk, such as a second recording. What they write in but one half of
        the time, such as a large file, is no rate."""
        (first_ns, first), (middle_ns, middle), (last_ns, last) = (
            self._rooms[at] for at in (0, len(self._rooms) // 2, -1)
        )
        if last_ns - first_ns < OTHERS_NS or not first_ns < middle_ns < last_ns:
            return 0.0
        halves = (first - middle) / (middle_ns - first_ns), (middle - last) / (last_ns - middle_ns)
        return max(0.0, min(halves)) * 1e9

    def _changed(self, free: int) -> str:
        """What is to be told where ``low`` is another now."""
        rate = self._rate + self._rate_of_others
        whole = free / rate / 60 if self._rate else None  # minutes with up-scaled images
        if whole is None or (whole >= LOW_MIN and not self.low) or (whole <= ROOM_MIN and self.low):
            return ""
        self.low = not self.low
        self._marks.clear()  # the session grows at another rate from here on
        self.minutes, self._told = None, math.inf
        if not self.low:
            return "there is room on the disk again: up-scaled images are recorded from here on"
        return (
            f"the disk is full in {whole:.1f} minutes: up-scaled images are left out from here on, "
            "raw frames are recorded; free some space"
        )

    def _fewer(self) -> str:
        """What is to be told where the minutes that are left have become few."""
        minutes = math.inf if self.minutes is None else self.minutes
        below = min((limit for limit in TOLD_MIN if minutes < limit), default=math.inf)
        if below >= self._told:
            return ""
        self._told = below
        alone = ", that of raw frames alone" if self.low else ""
        return f"the disk is full in {minutes:.1f} minutes at the present rate{alone}; free some space"


@dataclass(slots=True)
class _Progress:
    """What came until ``safe_ns`` is on the disk, what came until ``reached_ns`` is in the commit being saved."""

    safe_ns: int
    reached_ns: int
    begun_ns: int
    wait: Wait  # for what is being saved
    commit: Commit | None = None
    saving: Future[None] | None = None
    said: bool = False

    def settle(self, writer: SessionWriter) -> None:
        """Wait for the commit being saved. Raises what that raised."""
        saving, self.saving = self.saving, None
        if saving is not None and self.commit is not None:
            saving.result()
            writer.committed(self.commit)
            self.safe_ns = self.reached_ns


class Committer:
    """One thread for all sessions of a recorder, whose thread calls the methods; they return at once, but ``close``.

    Before ``due_ns`` there is nothing to do. Once ``close`` has returned, ``reports`` has a line for each closed
    session and ``errors`` what ended one early.
    """

    def __init__(self, alarms: Alarms) -> None:
        self.reports: list[str] = []
        self.errors: list[str] = []
        self.room = DiskRoom()
        self._alarms = alarms
        self.due_ns = 0
        self._pool = ThreadPoolExecutor(1, "clesr committer", stream_name.set, (stream_name.get(),))
        self._pool.submit(int)  # starts the thread while there is memory for it
        self._sessions: dict[SessionWriter, _Progress] = {}
        self._endings: list[Future[None]] = []

    def commit_when_due(self, writer: SessionWriter, reached_ns: int, now_ns: int) -> None:
        """Begin the next commit where it is due; what was recorded until ``reached_ns`` is with the system.

        Raises what the last one raised, SessionError where it does not end.
        """
        session = self._sessions.get(writer)
        if session is None:
            session = _Progress(now_ns, now_ns, now_ns - SYNC_NS, Wait(now_ns))
            self._sessions[writer] = session
        if session.saving is not None:
            if session.saving.done():
                session.settle(writer)
            elif session.wait.is_too_long(now_ns):
                raise SessionError(DEAD)
        if session.saving is None and now_ns - session.begun_ns >= SYNC_NS:
            session.begun_ns, session.reached_ns = now_ns, reached_ns
            session.commit, session.wait = writer.prepare_commit(), Wait(now_ns)
            session.saving = self._pool.submit(self._save, session.commit, now_ns)
        if now_ns - session.safe_ns > LOSS_NS - CLUSTER_MS * 1_000_000 and not session.said:
            session.said = True
            log.warning(
                f"the recording {writer.path} reaches the disk late: a power cut now would cost more than the "
                "last second; a faster disk helps"
            )
        sessions = self._sessions.values()
        self.due_ns = min([0 if each.saving is not None else SYNC_NS + each.begun_ns for each in sessions])

    def end(
        self, writer: SessionWriter, failure: Exception | None = None, *, announce: bool = False
    ) -> Future[None]:
        """Close ``writer``, which takes nothing more; after a ``failure`` with what is on the disk. Done when it is
        closed, as far as it can be."""
        if failure is not None:
            self._tell_end(writer, failure)
        session, self.due_ns = self._sessions.pop(writer, None), 0
        self._endings.append(self._pool.submit(self._end, writer, session, failure, announce))
        return self._endings[-1]

    def close(self) -> None:
        """Wait until everything is closed. Raises what nobody expected."""
        self._pool.shutdown()
        for ending in self._endings:
            ending.result()

    def _save(self, commit: Commit, now_ns: int) -> None:
        commit.save()
        with suppress(OSError):
            disk = os.fstatvfs(commit.folder.descriptor)
            told = self.room.note(commit.folder, now_ns, commit.size, disk.f_bavail * disk.f_frsize)
            if told:
                self._tell_room(commit.folder.path, told)

    def _tell_room(self, folder: Path, words: str) -> None:
        if self.room.low:
            self._alarms.add(f"THE DISK IS NEARLY FULL: {words}")
        log.warning(f"the recording {folder}: {words}")

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
            if failure is None:
                self._tell_end(writer, error)
                failure = error
            error.__traceback__ = None
        try:
            if failure is None:
                self.reports.append(_report(writer))
                if announce:
                    log.info(f"recorded {self.reports[-1]}")
                return
            try:
                end = _save(writer, failure)
            except Exception as error:  # noqa: BLE001 - as above
                end = (
                    f"it could not be closed ({cause(error)}): run `clesr repair` on it where there is space"
                )
            self.errors.append(f"the recording {writer.path} ended early: {cause(failure)}; {end}")
        finally:
            writer.abandon()

    def _tell_end(self, writer: SessionWriter, failure: Exception) -> None:
        failure.__traceback__ = None  # its frames hold what holds it: a circle that only gc frees
        self._alarms.add(f"RECORDING ENDED: {writer.path}: {cause(failure)}")
        log.error(f"the recording {writer.path} ends: {cause(failure)}; the live view goes on")


def _save(writer: SessionWriter, failure: Exception) -> str:
    """Close the session of ``writer`` after a ``failure`` where that is possible; what became of it. Raises what
    writing raises."""
    if isinstance(failure, MovedError):
        where = writer.folder.where()
        writer.close(MOVED)
        return f"it is whole and closed: {_report(writer, where)}"
    if not isinstance(failure, DamagedError):
        writer.fail(f"writing failed: {cause(failure)}")
        return f"what is on the disk is closed and valid: {_report(writer)}"
    if writer.folder.deleted:
        return "what was in it is lost"
    writer.leave()
    return "it is left unclosed: `clesr repair` closes it with what is left"


def _report(writer: SessionWriter, where: str | None = None) -> str:
    """What a closed session holds, in a few words; ``where`` it is now, if that is not where it was made."""
    totals = writer.totals
    missing = f", {totals['unrecorded']} captured without pixels" if totals["unrecorded"] else ""
    if writer.left_out:
        missing += f", {writer.left_out} of them without their up-scaled image, for want of space"
    if outages := totals["outages"]:
        missing += f", {outages} outage{'s' * (outages > 1)} of the source"
    return (
        f"{where or writer.path}: {totals['raw']} frames, {totals['sr']} up-scaled{missing}, "
        f"{writer.bytes / 1e6:.1f} MB"
    )
