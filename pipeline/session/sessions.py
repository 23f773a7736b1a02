"""Recorded sessions, for programs: one with its frames as arrays, and those in a folder by name.

A name is looked up among those that are there, and never made part of a path before; links are no sessions.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from io import BufferedReader
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from clesr.engines.common.errors import WHY, told_as
from clesr.engines.common.folders import Folder
from clesr.engines.common.numbers import shortened
from clesr.engines.common.parent import start_child
from clesr.engines.common.processor import seconds_used
from clesr.pipeline.frame import Image, Outcome
from clesr.pipeline.session.format import MANIFEST, Record, SessionError, SessionInfo
from clesr.pipeline.session.reader import SessionReader, Which, read_session
from clesr.pipeline.session.verify import Certificate, verify

PROGRAM = "clesr.pipeline.session.reading"  # what decodes
LOOK_S, IDLE = (
    1.0,
    60,
)  # between two looks at what hangs, and how many of them find it idle before it is given up
END_S = 5.0  # in which what was killed ends, but for a disk that does not answer
MOST = 1000  # sessions that are listed, the latest
TOLD = ("closed", "ended", "started", "source", "model", "scale", "fps", "raw_shape", "sr_shape", "totals")


@dataclass(frozen=True, slots=True, eq=False)
class SessionFrame:
    """A captured frame of a session, or ``count`` numbers in a row that the source lost, 0 where the source was away
    before ``number`` and nobody knows how many are missing.

    ``number`` is the source's, ``time`` that of its capture in seconds since the session's first frame. ``outcome`` is
    None where the recording ended before it was known. ``raw`` (H, W) and ``sr`` (scale * H, scale * W) are uint8 or
    uint16, None where the session has no such image. ``fidelity`` is how well ``sr`` agrees with ``raw``, in dB.
    ``damaged``: it builds on a picture that was damaged, so that parts of it may be wrong. ``gap`` is the begin and end
    of an outage of the source, as ``time``, None for all else.
    """

    number: int
    time: float
    outcome: Outcome | None
    raw: Image | None
    sr: Image | None
    fidelity: float | None
    count: int
    damaged: bool
    gap: tuple[float, float] | None


class Session:
    """The recorded session in ``folder``; iterating gives each captured frame in order as a ``SessionFrame``.

    ``info`` says what made it: source, scale, model, engine, settings, totals. ::

        for frame in clesr.Session("session"):
            print(frame.number, frame.time, frame.outcome)

    Raises SessionError where there is no session, one of an unknown version, or, on iterating, a damaged one.
    """

    def __init__(self, folder: str | Path) -> None:
        self._session = read_session(Path(folder))
        self.folder = self._session.folder

    @property
    def info(self) -> SessionInfo:
        """What ``session.json`` says."""
        return self._session.info

    def __iter__(self) -> Iterator[SessionFrame]:
        raw, sr = self._session.images("raw"), self._session.images("sr")
        for record in self._session.records():
            gap = record.gap_ns
            yield SessionFrame(
                number=record.number,
                time=self._seconds(record.captured_ns),
                outcome=record.outcome,
                raw=None if record.raw_index is None else self._image(raw, record),
                sr=None if record.sr_index is None else self._image(sr, record),
                fidelity=record.fidelity,
                count=record.count,
                damaged=record.damaged,
                gap=None if gap is None else (self._seconds(gap[0]), self._seconds(gap[1])),
            )

    def _seconds(self, time_ns: int) -> float:
        return (time_ns - self.info.started_ns) / 1e9

    def _image(self, images: Iterator[tuple[Record, Image]], record: Record) -> Image:
        found = next(images, None)
        if found is None:
            raise SessionError(
                f"{self.folder}: the image of frame {record.number} is missing; `clesr verify` tells more"
            )
        return found[1]

    def verify(self) -> Certificate:
        """Check every hash, line and image; the certificate ``holds`` where nothing was lost or changed since."""
        return verify(self.folder)


class SessionListing:
    """The sessions that lie in ``folder``. Methods that take a ``name`` raise SessionError where none has it, or where
    it cannot be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """The names of the sessions, the latest first. Raises SessionError."""
        with self._folder() as folder:
            found = [name for name in folder.names() if _is_session(folder, name)]
            found.sort(key=lambda name: os.lstat(name, dir_fd=folder.descriptor).st_mtime_ns, reverse=True)
        return found[:MOST]

    def describe(self) -> list[dict[str, Any]]:
        """What each session says of itself, as JSON; ``error`` where one cannot be read."""
        return [self._describe(name) for name in self.names()]

    def files(self, name: str) -> dict[str, int]:
        """The files of a session with their bytes."""
        with self._session(name) as folder:
            states = {file: folder.state(file) for file in folder.names() if not file.startswith(".")}
        return {f: s.st_size for f, s in states.items() if s is not None and stat.S_ISREG(s.st_mode)}

    def open(self, name: str, file: str) -> BufferedReader:
        """The ``file`` of a session, for reading."""
        if file not in self.files(name):
            raise SessionError(f"{name} has no file {shortened(file)}")
        with (
            self._session(name) as folder,
            told_as(SessionError, f"{file} of {name} cannot be read ({WHY})"),
        ):
            return folder.open(file)

    def certificate(self, name: str, advance: Callable[[int], None]) -> dict[str, Any]:
        """What ``clesr verify`` finds, as JSON; it takes as long as decoding every frame. ``advance`` is told how many
        images were looked at, each second at least; what it raises ends the work."""
        looked = 0
        with closing(_read_apart(self._read(name).folder, "certificate", lambda: advance(looked))) as told:
            for found in told:
                if isinstance(found, dict):
                    return found | {"session": name}
                advance(looked := found)
        raise AssertionError

    def images(
        self, name: str, which: Which, go_on: Callable[[], None] = lambda: None
    ) -> Generator[tuple[float, Image, dict[str, Any]], None, None]:
        """Each image of a session: seconds since the first, (H, W) uint8, and what is known of it, as JSON. ``go_on``
        is called each second while none comes; what it raises ends the wait."""
        yield from _read_apart(self._read(name).folder, which, go_on)

    def _describe(self, name: str) -> dict[str, Any]:
        try:
            info, files = asdict(self._read(name).info), self.files(name)
        except SessionError as error:
            return {"name": name, "error": str(error)}
        return {
            "name": name,
            **{key: info[key] for key in TOLD},
            "files": files,
            "bytes": sum(files.values()),
        }

    def _read(self, name: str) -> SessionReader:
        self._session(name).close()  # it is there
        return read_session(self.folder / name)

    def _folder(self) -> Folder:
        with told_as(SessionError, f"{self.folder} cannot be read ({WHY}); give --sessions another folder"):
            return Folder(self.folder)

    def _session(self, name: str) -> Folder:
        """The folder of a session, held open."""
        if name not in self.names():
            raise SessionError(f"there is no session {shortened(name)}")
        with self._folder() as folder, told_as(SessionError, f"{name} cannot be read ({WHY})"):
            return folder.folder(name)


def _read_apart(folder: Path, what: str, go_on: Callable[[], None]) -> Generator[Any, None, None]:
    """What the program ``reading`` sends of a session, which ends with the iterator; ``go_on`` as for ``images``."""
    ours, theirs = socket.socketpair()
    with ours, theirs, told_as(SessionError, f"no process can be started that reads {folder} ({WHY})"):
        process = start_child(PROGRAM, theirs.fileno(), folder, what, descriptors=[theirs.fileno()])
        connection: Connection[Any, Any] = Connection(ours.detach())
    try:
        with connection:
            while (told := _next(connection, process.pid, folder, go_on)) is not None:
                yield told
    finally:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # the disk holds it
            process.wait(END_S)
        assert process.stdin is not None
        process.stdin.close()


def _next(connection: Connection[Any, Any], pid: int, folder: Path, go_on: Callable[[], None]) -> Any:
    """What the process sends next. Raises SessionError where that is a fault, or it has died or hangs."""
    idle, used_s = 0, 0.0
    while not connection.poll(LOOK_S):
        go_on()
        idle, before_s, used_s = idle + 1, used_s, seconds_used(pid)
        if used_s > before_s:
            idle = 0  # at work, however slowly
        if idle >= IDLE:
            raise SessionError(
                f"{folder} could not be read for {IDLE * LOOK_S:.0f} s; see to its disk, and try again"
            )
    words = f"the process that reads {folder} has died; try again"
    with told_as(SessionError, words, (EOFError, OSError)):
        told = connection.recv()
    if isinstance(told, str):
        raise SessionError(told)
    return told


def _is_session(folder: Folder, name: str) -> bool:
    if name.startswith(".") or not name.isprintable():  # surrogates do not print
        return False
    try:
        with folder.folder(name) as inner:
            return inner.is_file(MANIFEST)
    except OSError:
        return False
