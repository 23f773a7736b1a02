"""Reading a session: its records in order of number, its images in order of time."""

from __future__ import annotations

import heapq
import itertools
import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import av
import av.error

from clesr.engines.common.errors import WHY, SourceError, told_as
from clesr.engines.common.folders import check_part, open_part, read_part
from clesr.engines.common.parsing import read_lines
from clesr.pipeline.frame import Image
from clesr.pipeline.session.format import (
    CALIBRATION,
    FRAMES,
    LINE_BYTES,
    MANIFEST,
    MANIFEST_BYTES,
    NOTES,
    RAW,
    SR,
    TICK,
    Line,
    Record,
    SessionError,
    SessionInfo,
    SessionNote,
    calibration_name,
    parse_line,
    parse_manifest,
    positions,
)
from clesr.pipeline.video.decode import Damage, DecodedImage, VideoDecoder, open_container

Which = Literal["raw", "sr"]


@dataclass(frozen=True, slots=True)
class SessionReader:
    """An opened session folder."""

    folder: Path
    info: SessionInfo

    def lines(self) -> Iterator[Record]:
        """The records in the order in which they were written: that in which their outcomes were known.

        Raises SessionError at the first line that is damaged; of a session that was not closed, a cut last
        line is passed over.
        """
        return self._said(FRAMES, Record, needed=self.info.closed)  # else killed before it was made

    def notes(self) -> list[SessionNote]:
        """What somebody noted, in the order of time. Raises SessionError as ``lines``."""
        return list(self._said(NOTES, SessionNote, needed=False))

    def _said(self, name: str, kind: type[Line], *, needed: bool) -> Iterator[Line]:
        path = self.folder / name
        if not needed and not os.path.lexists(path):
            return
        with _reading(path):
            for _, said, _ in chained_lines(path, self.info.id, kind, cut=not self.info.closed):
                yield said

    def records(self) -> Iterator[Record]:
        """The records in order of number."""
        waiting: list[tuple[int, int, Record]] = []
        expected = self.info.first
        for index, record in enumerate(self.lines()):
            heapq.heappush(waiting, (record.number, index, record))
            while waiting and waiting[0][0] == expected:
                _, _, record = heapq.heappop(waiting)
                expected = record.number + record.count
                yield record
        while waiting:
            yield heapq.heappop(waiting)[2]

    def first_calibration(self) -> str | None:
        """The hash of that by which fibre cores were removed from a frame first; None where none were. Raises
        SessionError as ``lines``."""
        if not any(CALIBRATION.fullmatch(path.name) for path in self.folder.iterdir()):
            return None
        return next((record.cores for record in self.lines() if record.cores is not None), None)

    def calibration(self, sha256: str) -> Path:
        """The file of the calibration of fibre cores with this hash."""
        return self.folder / calibration_name(sha256)

    def images(self, which: Which) -> Iterator[tuple[Record, Image]]:
        """Each image of ``raw.mkv`` or ``sr.mkv`` with its record, in order.

        Raises SessionError where a file is missing, or an image is damaged or has no record.
        """
        path = self.folder / (RAW if which == "raw" else SR)
        with closing(demux(path)) as coded:
            for (index, record), found in zip(positions(self.records(), path.name), coded, strict=False):
                if index != found.position or isinstance(found.image, Damage):
                    reason = getattr(found.image, "reason", f"it is not at position {index}")
                    raise SessionError(f"{path}: frame {record.number}: {reason}; `clesr verify` tells more")
                yield record, found.image


class DamagedLine(ValueError):
    """Line ``number`` of a file does not hold; ``why`` stands behind its name."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number} {why}")
        self.number, self.why = number, why


def chained_lines(
    path: Path, session: str, kind: type[Line], *, cut: bool = False
) -> Iterator[tuple[bytes, Line, str]]:
    """The lines of the file at ``path``, of the session with this id: each as it stands, what it says, which is of this
    ``kind``, and its chain value. ``cut`` passes over a last line that has no end.

    Raises OSError, and DamagedLine at the first that does not hold.
    """
    chain = session
    with open_part(path) as file:
        lines = read_lines(file, LINE_BYTES)
        for number in itertools.count(1):
            try:
                line = next(lines, b"")
                if not line or (cut and not line.endswith(b"\n")):
                    return
                said, chain = parse_line(line, chain, kind)
            except ValueError as error:
                raise DamagedLine(number, str(error)) from error
            yield line, said, chain


def read_session(folder: Path) -> SessionReader:
    """The session in ``folder``; raises SessionError where there is none, or of a version that is not known."""
    path = Path(folder) / MANIFEST
    if not os.path.lexists(path):
        raise SessionError(f"{folder} is no session: there is no {MANIFEST} in it")
    with _reading(path):
        return SessionReader(Path(folder), parse_manifest(read_part(path, MANIFEST_BYTES), str(path)))


class Packet(NamedTuple):
    """One packet of a video file: its position, its time in milliseconds, whether it needs none before it, its bytes,
    and what is in it."""

    position: int
    ticks: int
    key: bool
    data: bytes
    image: Image | Damage


def demux(path: Path) -> Generator[Packet, None, None]:
    """Every packet of the video file ``path`` in order, to where it was cut; raises SessionError."""
    with _reading(path), told_as(SessionError, WHY, SourceError):
        check_part(path)
        container = open_container(f"file:{path}")
    with container, suppress(av.error.FFmpegError):  # to where the file was cut
        stream = container.streams.video[0]
        decoder, position = VideoDecoder(stream), 0
        for packet in container.demux(stream):
            if not packet.size:
                continue
            pictures = list(decoder.decode(packet)) or [Damage("the decoder gave no image for it")]
            picture = pictures[0].image if isinstance(pictures[0], DecodedImage) else pictures[0]
            ticks = round((packet.pts or 0) * (packet.time_base or TICK) / TICK)
            yield Packet(position, ticks, packet.is_keyframe, bytes(packet), picture)
            position += 1


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What is wrong with ``path`` in the block becomes a SessionError."""
    unreadable = told_as(SessionError, f"{path} cannot be read ({WHY}); check the disk and the rights")
    with unreadable, told_as(SessionError, f"{path}: {WHY}; `clesr verify` tells more", ValueError):
        yield
