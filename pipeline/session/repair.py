"""A session that was cut off becomes a closed one. What was there stays beside it."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import av
from msgspec import structs

from clesr.engines.common.errors import WHY, SourceError, told_as
from clesr.engines.common.files import sync
from clesr.engines.common.folders import Folder, check_part, open_part, read_part
from clesr.pipeline.frame import Outcome
from clesr.pipeline.session.folder import RESERVE
from clesr.pipeline.session.format import (
    CALIBRATION,
    FRAMES,
    MANIFEST,
    NOTES,
    RAW,
    SR,
    FileFacts,
    Line,
    Record,
    SessionError,
    SessionInfo,
    SessionNote,
    count_left_out,
    count_records,
    digest_file,
    format_lines,
    format_manifest,
    hash_bytes,
    parse_line,
    positions,
)
from clesr.pipeline.session.reader import (
    DamagedLine,
    Packet,
    SessionReader,
    chained_lines,
    demux,
    read_session,
)
from clesr.pipeline.session.video import MatroskaFile, hash_pixels
from clesr.pipeline.video.decode import Damage, open_container

KEPT = "before-repair"  # where the files stay as they were
WORK = ".repair"
PARTS = (RAW, SR, FRAMES, NOTES)
_HALF = re.compile(r"\.session\.[0-9a-f]+\.part\.json|session\.json\.part")  # what a cut-off write left
RECOVERED = "found in the video alone: the recording was cut off before its line was written"


def repair(folder: Path) -> list[str]:
    """Close the session in ``folder``; what was done and what is lost, in lines.

    The files as they were stay in ``before-repair``; nothing is replaced before all that replaces it is on the disk.
    Raises SessionError where there is nothing to repair, or where the session is still being recorded, or has links
    in it.
    """
    session = read_session(folder)
    if session.info.closed:
        raise SessionError(f"{folder} is closed: there is nothing to repair; `clesr verify` checks it")
    words = f"{folder} cannot be repaired ({WHY}); it is as it was"
    with told_as(SessionError, words, (OSError, av.FFmpegError, ValueError)):
        for name in PARTS:
            check_part(folder / name)
        with Folder(folder) as opened, _alone(folder):
            _undo_interrupted(opened)
            try:
                return _Repair(session, opened).run()
            finally:
                opened.remove_tree(WORK)


class _Repair:
    def __init__(self, session: SessionReader, opened: Folder) -> None:
        self.opened = opened
        self.folder, self.info = session.folder, session.info
        self.work = session.folder / WORK
        self.said: list[str] = []
        self.files: dict[str, FileFacts] = {}

    def run(self) -> list[str]:
        self._make_room()
        text, records, chain = self._lines(FRAMES, Record)
        raw = self._recover_raw(records)
        self._recover_sr(records, raw)
        totals = count_records([*records, *raw.values()])
        for _, record in sorted(raw.items()):
            before = chain
            line, chain = format_lines([record], before)
            parse_line(line, before, Record)  # a number or time beyond all sense, out of a foreign video
            text += line
        (self.work / FRAMES).write_bytes(text)
        self.files[FRAMES] = digest_file(self.work / FRAMES)
        notes = self._notes()
        info = replace(
            self.info,
            closed=True,
            ended="repaired: the recording was cut off",
            totals=dict(totals),
            sr_left_out=count_left_out(records),
            lines=len(records) + len(raw),
            chain=chain,
            files=self.files | self._calibrations(),
            notes=notes,
        )
        if notes is not None:
            self.files[NOTES] = notes
        self._replace(info)
        if raw:
            self.said.append(
                f"{len(raw)} frames were found in the video alone; what became of them is not known"
            )
        self.said.append(f"closed with {totals['raw']} frames, {totals['sr']} up-scaled")
        self.said.append(f"the files as they were are in {self.folder / KEPT}")
        return self.said

    def _calibrations(self) -> dict[str, FileFacts]:
        """Those in the folder, which stay as they are."""
        names = filter(CALIBRATION.fullmatch, self.opened.names())
        return {name: digest_file(self.folder / name) for name in names if self.opened.is_file(name)}

    def _make_room(self) -> None:
        self.opened.remove_tree(WORK)
        states = (self.opened.state(name) for name in PARTS)
        needed = sum(state.st_size for state in states if state is not None)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise SessionError(
                f"{self.folder} cannot be repaired: that takes {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"
            )
        self.work.mkdir()

    def _lines(self, name: str, kind: type[Line]) -> tuple[bytearray, list[Line], str]:
        """The lines of ``name`` that hold, as they stand; what they say; the chain value of the last."""
        text, found, chain = bytearray(), [], self.info.id
        path = self.folder / name
        try:
            lines = chained_lines(path, self.info.id, kind) if os.path.lexists(path) else ()
            for line, said, chain in lines:  # noqa: B007
                text += line
                found.append(said)
        except DamagedLine as error:
            self.said.append(f"line {error.number} of {name} {error.why}: left out, with all after it")
        return text, found, chain

    def _notes(self) -> FileFacts | None:
        """Write those of ``notes.jsonl`` anew that hold."""
        text, _, _ = self._lines(NOTES, SessionNote)
        if not text:
            return None
        (self.work / NOTES).write_bytes(text)
        return digest_file(self.work / NOTES)

    def _recover_raw(self, records: list[Record]) -> dict[int, Record]:
        """Write ``raw.mkv`` anew; records of the frames in it that have no line, by ticks."""
        known = dict(positions(records, RAW))
        covered = {record.number: record for record in records if record.count}
        found: dict[int, Record] = {}
        before: Record | None = None
        for packet in self._copy(RAW, known):
            if packet.position not in known:
                lost = (line for line in records if line.outcome is Outcome.LOST)
                found[packet.ticks] = record = self._recovered(packet, before, covered, lost)
                covered[record.number] = record
            before = known.get(packet.position) or found[packet.ticks]
        return found

    def _recovered(
        self, packet: Packet, before: Record | None, covered: dict[int, Record], lost: Iterable[Record]
    ) -> Record:
        """A record for a picture without a line, which comes after ``before``: its number is the next free one. Lines
        of ``lost`` frames have, to the nanosecond, the time of the frame after them."""
        number = before.number + 1 if before is not None else self.info.first
        while number in covered:
            number += covered[number].count
        time_ns = before.captured_ns if before is not None else self.info.started_ns
        if self.info.live:
            time_ns += (packet.ticks - ((before.ticks or 0) if before is not None else 0)) * 1_000_000
        time_ns = max(time_ns, *(line.captured_ns for line in lost if line.number <= number), time_ns)
        following = (record.captured_ns for record in covered.values() if record.number > number)
        assert not isinstance(packet.image, Damage)
        return Record(
            number=number,
            captured_ns=min(time_ns, *following, time_ns),
            ticks=packet.ticks,
            raw_index=packet.position,
            raw_hash=hash_pixels(packet.image),
            reason=RECOVERED,
            recovered=True,
        )

    def _recover_sr(self, records: list[Record], raw: dict[int, Record]) -> None:
        """Write ``sr.mkv`` anew, and put those of its images that have no line into the records of ``raw``."""
        known = dict(positions(records, SR))
        for packet in self._copy(SR, known, set(raw)):
            if packet.position in known:
                continue
            lossless = self.info.sr_codec == "ffv1"
            assert not isinstance(packet.image, Damage)
            raw[packet.ticks] = structs.replace(
                raw[packet.ticks],
                sr_index=packet.position,
                sr_hash=hash_pixels(packet.image) if lossless else None,
                sr_coded=None if lossless else hash_bytes(packet.data),
            )

    def _copy(self, name: str, known: dict[int, Record], ticks: set[int] | None = None) -> Iterator[Packet]:
        """Copy the images of ``name`` that have a line, and behind them those that are whole (and at ``ticks``)."""
        path, target = self.folder / name, None
        try:
            source = open_container(f"file:{path}") if path.is_file() else None
        except SourceError:
            source = None  # cut before its first image
        if source is not None:
            with source, closing(demux(path)) as packets:
                for packet in packets:
                    if packet.position not in known and (
                        isinstance(packet.image, Damage) or (ticks is not None and packet.ticks not in ticks)
                    ):
                        break
                    target = target or MatroskaFile(self.work / name, source.streams.video[0])
                    target.mux(packet.data, packet.ticks, key=packet.key)
                    yield packet
        copied = 0
        if target is not None:
            target.close()
            self.files[name], copied = target.facts(), target.count
        if lost := sum(index >= copied for index in known):
            self.said.append(f"{lost} frames have a line, but are not in {name}: they are lost")

    def _replace(self, info: SessionInfo) -> None:
        """Put the new files in the place of the old ones, the manifest last."""
        for name in self.files:
            sync(self.work / name)
        (self.folder / KEPT).mkdir()
        with self.opened.folder(KEPT) as kept, self.opened.folder(WORK) as work:
            kept.put(MANIFEST, read_part(self.folder / MANIFEST))
            for name in PARTS:
                if self.opened.state(name) is not None:
                    self.opened.move(name, kept)
            for name in self.files:
                work.move(name, self.opened)
        self.opened.put(MANIFEST, format_manifest(info))
        for name in self.opened.names():
            if name == RESERVE or _HALF.fullmatch(name):
                self.opened.remove(name)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Raises SessionError while the session is being recorded."""
    path = folder / FRAMES
    with open_part(path) if os.path.lexists(path) else nullcontext() as file:
        words = f"{folder} is still being recorded; stop that first, then nothing is to repair"
        with told_as(SessionError, words, BlockingIOError):
            if file is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _undo_interrupted(folder: Folder) -> None:
    """Put back what a repair that did not come to its end had moved. Raises OSError where that is not what is there."""
    if folder.state(KEPT) is None:
        return
    with folder.folder(KEPT) as kept:
        for name in filter(_HALF.fullmatch, kept.names()):
            kept.remove(name)
        names = kept.names()
        for name in names:
            if name not in (*PARTS, MANIFEST) or not kept.is_file(name):
                raise SessionError(
                    f"{kept.path / name} is nothing that a repair keeps; move it elsewhere first"
                )
        for name in names:
            kept.move(name, folder, replace=True)
    os.rmdir(KEPT, dir_fd=folder.descriptor)
