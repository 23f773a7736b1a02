"""Does a session hold what was captured? Every hash, the ledger, the order of time, and every gap."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from clesr.engines.common.errors import WHY, told_as
from clesr.engines.common.folders import Folder, check_part, read_part
from clesr.pipeline.frame import Outcome
from clesr.pipeline.session.format import (
    CALIBRATION,
    FRAMES,
    MANIFEST,
    MANIFEST_BYTES,
    NOTES,
    RAW,
    SR,
    FileFacts,
    Record,
    SessionError,
    SessionInfo,
    SessionNote,
    calibration_name,
    count_left_out,
    count_records,
    digest_file,
    hash_bytes,
    manifest_hash,
    positions,
)
from clesr.pipeline.session.reader import Packet, chained_lines, demux, read_session
from clesr.pipeline.session.video import hash_pixels
from clesr.pipeline.video.decode import Damage

SHOWN = 20  # problems of one kind that are named one by one
PIXELLESS = (Outcome.LOST, Outcome.CORRUPT)
# In a certificate as the session has it.
STATED = ("closed", "ended", "started", "source", "model", "model_hash")


@dataclass(frozen=True, slots=True)
class Missing:
    """Numbers ``first`` to ``last`` of which the session has no pixels (``what``: raw or sr), and why. ``last`` is the
    number before ``first`` where an unknown number of frames is missing there."""

    what: str
    first: int
    last: int
    reason: str

    def __str__(self) -> str:
        numbers = f"frame {self.first}" if self.first == self.last else f"frames {self.first} to {self.last}"
        if self.last < self.first:
            numbers = f"before frame {self.first}"
        return f"{numbers}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What ``verify`` found. It holds where ``problems`` is empty. ``digest`` identifies the session: the hash in its
    ``session.json``, which covers all else; kept in another place it proves that nothing was changed since.
    ``sr_left_out`` counts frames without their SR image because the disk was nearly full."""

    folder: str
    info: SessionInfo
    digest: str
    totals: dict[str, int]
    missing: tuple[Missing, ...]
    problems: tuple[str, ...]
    notes: tuple[SessionNote, ...] = ()
    sr_left_out: int = 0

    @property
    def holds(self) -> bool:
        return not self.problems

    @property
    def complete(self) -> bool:
        """Whether it holds, and every frame is recorded and has its outcome, without an outage."""
        lacking = ("unrecorded", "unfinished", "outages")
        return self.holds and not any(self.totals.get(name) for name in lacking)

    def as_json(self) -> dict[str, Any]:
        begin_ns = self.info.started_ns
        return {
            "session": self.folder,
            "id": self.info.id,
            "holds": self.holds,
            "complete": self.complete,
            **{name: getattr(self.info, name) for name in STATED},
            "totals": self.totals,
            "sr_left_out": self.sr_left_out,
            "notes": [{"seconds": (n.time_ns - begin_ns) / 1e9, "text": n.text} for n in self.notes],
            "missing": [asdict(missing) for missing in self.missing],
            "problems": list(self.problems),
            "digest": self.digest,
        }


def verify(folder: Path, advance: Callable[[int], None] = lambda _images: None) -> Certificate:
    """Check everything in ``folder``; ``advance`` is told how many images were looked at.

    Raises SessionError where there is no session of a known format, or where its files cannot be read.
    """
    session = read_session(folder)
    with told_as(SessionError, f"{folder} cannot be checked ({WHY}); check the disk and the rights"):
        return _Check(session.folder, session.info, advance).run()


@dataclass(slots=True)
class _Check:
    folder: Path
    info: SessionInfo
    advance: Callable[[int], None]
    problems: list[str] = field(default_factory=list)
    images: int = 0

    def run(self) -> Certificate:
        digest = self._manifest()
        records = self._lines()
        totals = count_records(records)
        self._ledger(totals, left_out := count_left_out(records))
        in_order = sorted(records, key=lambda record: (record.number, record.count > 0))
        self._say(_numbers(in_order, self.info.first, self._cut_off))
        self._say(_disagreements(in_order))
        self._say(_times(in_order))
        self._say(self._calibrations(in_order))
        self._files()
        notes = self._notes()
        self._pixels(RAW, dict(positions(in_order, RAW)), totals["raw"])
        self._pixels(SR, dict(positions(in_order, SR)), totals["sr"])
        return Certificate(
            str(self.folder),
            self.info,
            digest,
            dict(totals),
            tuple(_missing(in_order)),
            tuple(self.problems),
            tuple(notes),
            left_out,
        )

    @property
    def _cut_off(self) -> str:
        return "" if self.info.closed else ": the recording was cut off before that was written"

    def _say(self, problems: Iterator[str]) -> None:
        """Keep ``problems``; many of a kind are counted."""
        self.problems += itertools.islice(problems, SHOWN)
        more = sum(1 for _ in problems)
        if more:
            self.problems.append(f"{more} more of the last kind")

    def _manifest(self) -> str:
        stated, holds = manifest_hash(read_part(self.folder / MANIFEST, MANIFEST_BYTES))
        if not holds:
            self.problems.append(f"{MANIFEST} was changed: its hash does not match it")
        if not self.info.closed:
            self.problems.append(
                "the session was not closed (it is still being recorded, or was cut off); `clesr repair` closes it"
            )
        return stated

    def _lines(self) -> list[Record]:
        """The records up to the first line that does not hold."""
        records: list[Record] = []
        previous = self.info.id
        try:
            for _, record, previous in chained_lines(self.folder / FRAMES, self.info.id, Record):  # noqa: B007
                records.append(record)
        except FileNotFoundError:
            self.problems.append(f"{FRAMES} is missing{self._cut_off}")
        except OSError as error:
            self.problems.append(f"{FRAMES} cannot be read: {error.strerror}")
        except ValueError as error:
            self.problems.append(f"{FRAMES}: {error}; what follows is not vouched for")
        else:
            if self.info.closed and (self.info.lines, self.info.chain) != (len(records), previous):
                self.problems.append(
                    f"{FRAMES} has {len(records)} lines and not the {self.info.lines} that {MANIFEST} states, "
                    "or they are others"
                )
        return records

    def _ledger(self, totals: Counter[str], left_out: int) -> None:
        stated = self.info.totals
        if stated is not None and dict(stated) != dict(totals):
            self.problems.append(
                f"the totals are {_words(totals)}; {MANIFEST} states {_words(Counter(stated))}"
            )
        if self.info.closed and self.info.sr_left_out != left_out:
            self.problems.append(
                f"{left_out} up-scaled images were left out; {MANIFEST} states {self.info.sr_left_out}"
            )
        ended = sum(totals[str(outcome)] for outcome in Outcome) + totals["unfinished"]
        if ended != totals["captured"]:
            self.problems.append(f"{totals['captured']} frames were captured, {ended} have an outcome")

    def _calibrations(self, records: list[Record]) -> Iterator[str]:
        """What is wrong with those by which fibre cores were removed."""
        for sha256 in sorted({record.cores for record in records if record.cores is not None}):
            name = calibration_name(sha256)
            try:
                with Folder(self.folder) as opened:
                    found = opened.sha256(name)
            except OSError as error:
                yield f"the calibration {name} cannot be read: {error.strerror}"
                continue
            if found != sha256:
                yield f"{name} is not the calibration by which cores were removed"

    def _files(self) -> None:
        """What a closed session should state, and the digests of its files."""
        files = self.info.files
        if self.info.closed:
            fields = ("totals", "lines", "chain", "files")
            if absent := [name for name in fields if getattr(self.info, name) is None]:
                self.problems.append(
                    f"{MANIFEST} states no {', '.join(absent)}, though the session is closed"
                )
            unstated = [name for name in (RAW, SR, FRAMES) if files is not None and name not in files]
            found = (name for name in unstated if (self.folder / name).exists())
            self.problems += [f"{MANIFEST} states no digest of {name}" for name in found]
        for name, stated in (files or {}).items():
            if problem := self._wrong_file(name, stated):
                self.problems.append(problem)

    def _notes(self) -> list[SessionNote]:
        """The notes up to the first that does not hold."""
        stated, notes = self.info.notes, []
        if stated is None and not os.path.lexists(self.folder / NOTES):
            return []
        if stated is not None and (problem := self._wrong_file(NOTES, stated, (NOTES,))):
            self.problems.append(problem)
        elif stated is None and self.info.closed:
            self.problems.append(f"{MANIFEST} states no digest of {NOTES}")
        try:
            for _, note, _ in chained_lines(self.folder / NOTES, self.info.id, SessionNote):
                notes.append(note)
        except FileNotFoundError:
            pass  # said
        except (OSError, ValueError) as error:
            self.problems.append(f"{NOTES}: {getattr(error, 'strerror', None) or error}")
        return notes

    def _wrong_file(
        self, name: str, stated: FileFacts, known: tuple[str, ...] = (FRAMES, RAW, SR)
    ) -> str | None:
        path = self.folder / name
        if name not in known and not (NOTES not in known and CALIBRATION.fullmatch(name)):
            return f"{MANIFEST} names a file {name!r}, which no session has"
        if not os.path.lexists(path):
            return f"{name} is missing"
        try:
            check_part(path)
            found = digest_file(path)
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
        if found["bytes"] != stated["bytes"]:
            return f"{name} has {found['bytes']} bytes, {MANIFEST} states {stated['bytes']}"
        return None if found == stated else f"{name} was changed: its digest does not match it"

    def _pixels(self, name: str, records: dict[int, Record], expected: int) -> None:
        if os.path.lexists(self.folder / name):
            self._say(self._wrong_pixels(name, records))
        elif expected and name not in (self.info.files or {}):
            self.problems.append(f"{name} is missing")

    def _wrong_pixels(self, name: str, records: dict[int, Record]) -> Iterator[str]:
        seen = 0
        try:
            with closing(demux(self.folder / name)) as coded:
                for found in coded:
                    seen += 1
                    self.images += 1
                    self.advance(self.images)
                    record = records.get(found.position)
                    if record is not None:
                        yield from self._wrong(name, record, found)
        except SessionError as error:
            yield f"{name}: {error}{'' if records else self._cut_off}"
        positions = [position for position in records if position >= seen]
        if positions:
            numbers = sorted(records[position].number for position in positions)
            yield f"{name} ends early: {len(numbers)} images from frame {numbers[0]} on are not in it"
        if seen > len(records):
            yield f"{name} has {seen - len(records)} images more than {FRAMES} has lines for{self._cut_off}"

    def _wrong(self, name: str, record: Record, found: Packet) -> Iterator[str]:
        where, image = f"{name}: frame {record.number}", found.image
        if isinstance(image, Damage):
            yield f"{where}: {image.reason}"
            return
        shape = self.info.raw_shape if name == RAW else self.info.sr_shape
        if image.shape != shape or image.dtype.name != self.info.dtype:
            yield f"{where} is {image.dtype} of {image.shape}, {MANIFEST} states other images"
        if found.ticks != record.ticks:
            yield f"{where} is shown at {found.ticks} ms, its line says {record.ticks}"
        if name == SR and record.sr_coded is not None:
            if hash_bytes(found.data) != record.sr_coded:
                yield f"{where} is not the coded picture of its line"
        elif hash_pixels(image) != (record.raw_hash if name == RAW else record.sr_hash):
            yield f"{where} has other pixels than its line says"


def _numbers(records: list[Record], expected: int, cut_off: str) -> Iterator[str]:
    """Every number from the first, which is ``expected``, to the last has one line. Only that the recording was
    ``cut_off`` explains a missing one: frames whose images are not yet encoded get theirs after others."""
    for record in records:
        if record.number > expected:
            last = record.number - 1
            missing = f"frame {last} has" if last == expected else f"frames {expected} to {last} have"
            yield f"{missing} no line in {FRAMES}{cut_off or ', and nothing explains that'}"
        elif record.number < expected:
            yield f"frame {record.number} has two lines in {FRAMES}"
        expected = max(expected, record.number + record.count)


def _disagreements(records: list[Record]) -> Iterator[str]:
    """What is at odds within ``records``, in order of number, and between them."""
    last = {RAW: -1, SR: -1}
    for record in records:
        where = f"frame {record.number}"
        for words in _within(record):
            yield f"{where} {words}"
        for name, index in ((RAW, record.raw_index), (SR, record.sr_index)):
            if index is not None and index <= last[name]:
                yield f"{where} is image {index} of {name}, a frame before it is image {last[name]}"
            last[name] = last[name] if index is None else max(index, last[name])


def _within(record: Record) -> Iterator[str]:
    if record.count > 1 and record.outcome is not Outcome.LOST:
        yield f"stands for {record.count} numbers, but was not lost at the source"
    if record.count == 0 and record.gap_ns is None:
        yield "stands for no frame and for no outage"
    if record.gap_ns is not None and (
        record.outcome is not Outcome.LOST or record.gap_ns[0] > record.gap_ns[1]
    ):
        yield "has an outage that cannot be"
    if record.damaged and record.outcome is Outcome.LOST:
        yield "is damaged, but was lost at the source"
    if record.outcome in PIXELLESS and not (record.raw_index is None and record.sr_index is None):
        yield f"is {record.outcome}, but has an image"
    if (record.raw_index is None) != (record.raw_hash is None):
        yield f"has an image in {RAW} without its hash, or a hash without an image"
    hashed = record.sr_hash is not None or record.sr_coded is not None
    if (record.sr_index is not None) != hashed:
        yield f"has an image in {SR} without its hash, or a hash without an image"
    if record.levels is not None and not record.levels[0] < record.levels[1]:
        yield f"has black at level {record.levels[0]:g} and white at {record.levels[1]:g}"


def _times(records: list[Record]) -> Iterator[str]:
    """Times that fall from one frame to the next, or from one stage to the next."""
    captured, ticks = None, -1
    for record in records:
        if captured is not None and record.captured_ns < captured:
            yield f"frame {record.number} was captured before the frame before it"
        captured = record.captured_ns
        if record.ticks is not None:
            if record.ticks <= ticks:
                yield f"frame {record.number} is shown before the frame before it"
            ticks = record.ticks
        stages = (record.captured_ns, record.prepared_ns, record.submitted_ns, record.collected_ns)
        passed = [stage for stage in stages if stage is not None]
        if passed != sorted(passed):
            yield f"frame {record.number} passed the stages in a wrong order"


def _missing(records: list[Record]) -> Iterator[Missing]:
    """Runs of frames without pixels, with the reason, raw first."""
    for what in ("raw", "sr"):
        run: Missing | None = None
        for record in records:
            reason, last = _why(record, what), record.number + record.count - 1
            if run is not None and (run.reason, run.last + 1) == (reason, record.number) and record.count:
                run = replace(run, last=last)
                continue
            if run is not None:
                yield run
            run = Missing(what, record.number, last, reason) if reason is not None else None
        if run is not None:
            yield run


def _why(record: Record, what: str) -> str | None:
    """Why ``record`` has no image of this kind; None where it has one."""
    raw = what == "raw"
    if (record.raw_index if raw else record.sr_index) is not None:
        return None
    if not raw and record.outcome in PIXELLESS:
        return None  # said under raw
    if record.gap_ns is not None:
        return record.reason or "the source was away"
    if record.outcome is (Outcome.LOST if raw else Outcome.STALE):
        return str(record.outcome)
    return record.reason or "no reason is given"


def _words(totals: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in totals.items())
