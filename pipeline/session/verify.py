"""Does a session hold what was captured? Every hash, the ledger, the order of time, and every gap."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clesr.engines.common.folders import check_part, read_part
from clesr.pipeline.frame import Image, Outcome
from clesr.pipeline.session.agreement import disagreements, uncovered
from clesr.pipeline.session.format import (
    FRAMES,
    MANIFEST,
    MANIFEST_BYTES,
    RAW,
    SR,
    Record,
    SessionError,
    SessionInfo,
    by_position,
    count_records,
    digest_file,
    hash_bytes,
    hash_pixels,
    manifest_hash,
)
from clesr.pipeline.session.reader import chained_lines, demux, read_session
from clesr.pipeline.video.decode import Damage

SHOWN = 20  # problems of one kind that are named one by one


@dataclass(frozen=True, slots=True)
class Missing:
    """Numbers ``first`` to ``last`` of which the session has no pixels (``what``: raw or sr), and why."""

    what: str
    first: int
    last: int
    reason: str

    def __str__(self) -> str:
        numbers = f"frame {self.first}" if self.first == self.last else f"frames {self.first} to {self.last}"
        return f"{numbers}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What ``verify`` found. It holds where ``problems`` is empty. ``digest`` identifies the session: the hash in its
    ``session.json``, which covers all else; kept in another place it proves that nothing was changed since."""

    folder: str
    info: SessionInfo
    digest: str
    totals: dict[str, int]
    missing: tuple[Missing, ...]
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        return {
            "session": self.folder,
            "id": self.info.id,
            "holds": self.holds,
            "complete": self.holds
            and not self.totals.get("unrecorded")
            and not self.totals.get("unfinished"),
            "closed": self.info.closed,
            "ended": self.info.ended,
            "started": self.info.started,
            "source": self.info.source,
            "model": self.info.model,
            "model_hash": self.info.model_hash,
            "totals": self.totals,
            "missing": [
                {"what": m.what, "first": m.first, "last": m.last, "reason": m.reason} for m in self.missing
            ],
            "problems": list(self.problems),
            "digest": self.digest,
        }


def verify(folder: Path, advance: Callable[[int], None] = lambda _images: None) -> Certificate:
    """Check everything in ``folder``; ``advance`` is told how many images were looked at.

    Raises SessionError where there is no session of a known format, or where its files cannot be read.
    """
    session = read_session(folder)
    try:
        return _Check(session.folder, session.info, advance).run()
    except OSError as error:
        raise SessionError(
            f"{folder} cannot be checked ({error.strerror}); check the disk and the rights"
        ) from error


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
        self._ledger(totals)
        in_order = sorted(records, key=lambda record: record.number)
        self._numbers(in_order)
        self._say(disagreements(in_order))
        self._times(in_order)
        self._files()
        self._pixels(RAW, by_position(in_order, RAW), totals["raw"])
        self._pixels(SR, by_position(in_order, SR), totals["sr"])
        return Certificate(
            str(self.folder), self.info, digest, dict(totals), tuple(_missing(in_order)), tuple(self.problems)
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
            for _, record, previous in chained_lines(self.folder / FRAMES, self.info.id):  # noqa: B007
                records.append(record)
        except FileNotFoundError:
            self.problems.append(f"{FRAMES} is missing{self._cut_off}")
            return records
        except OSError as error:
            self.problems.append(f"{FRAMES} cannot be read: {error.strerror}")
            return records
        except ValueError as error:
            self.problems.append(f"{FRAMES}: {error}; what follows is not vouched for")
            return records
        if self.info.closed and (self.info.lines, self.info.chain) != (len(records), previous):
            self.problems.append(
                f"{FRAMES} has {len(records)} lines and not the {self.info.lines} that {MANIFEST} states, "
                "or they are others"
            )
        return records

    def _ledger(self, totals: Counter[str]) -> None:
        stated = self.info.totals
        if stated is not None and dict(stated) != dict(totals):
            self.problems.append(
                f"the totals are {_words(totals)}; {MANIFEST} states {_words(Counter(stated))}"
            )
        ended = sum(totals[str(outcome)] for outcome in Outcome) + totals["unfinished"]
        if ended != totals["captured"]:
            self.problems.append(f"{totals['captured']} frames were captured, {ended} have an outcome")

    def _numbers(self, records: list[Record]) -> None:
        """Every number from the first to the last has one line."""

        def broken() -> Iterator[str]:
            expected = self.info.first
            for record in records:
                if record.number > expected:
                    yield f"{_range(expected, record.number - 1)} no line in {FRAMES}, and nothing explains that"
                elif record.number < expected:
                    yield f"frame {record.number} has two lines in {FRAMES}"
                expected = max(expected, record.number + record.count)

        self._say(broken())

    def _times(self, records: list[Record]) -> None:
        def broken() -> Iterator[str]:
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

        self._say(broken())

    def _files(self) -> None:
        """The digests of a closed session's files."""
        self.problems += uncovered(self.folder, self.info)
        for name, stated in (self.info.files or {}).items():
            path = self.folder / name
            if name not in (FRAMES, RAW, SR):
                self.problems.append(f"{MANIFEST} names a file {name!r}, which no session has")
                continue
            if not os.path.lexists(path):
                self.problems.append(f"{name} is missing")
                continue
            try:
                check_part(path)
                found = digest_file(path)
            except OSError as error:
                self.problems.append(f"{name} cannot be read: {error.strerror}")
                continue
            if found["bytes"] != stated["bytes"]:
                self.problems.append(
                    f"{name} has {found['bytes']} bytes, {MANIFEST} states {stated['bytes']}"
                )
            elif found != stated:
                self.problems.append(f"{name} was changed: its digest does not match it")

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
                        yield from self._wrong(name, record, found.ticks, found.data, found.picture)
        except SessionError as error:
            yield f"{name}: {error}{'' if records else self._cut_off}"
        positions = [position for position in records if position >= seen]
        if positions:
            numbers = sorted(records[position].number for position in positions)
            yield f"{name} ends early: {len(numbers)} images from frame {numbers[0]} on are not in it"
        if seen > len(records):
            yield f"{name} has {seen - len(records)} images more than {FRAMES} has lines for{self._cut_off}"

    def _fits(self, name: str, picture: Image) -> bool:
        shape = self.info.raw_shape if name == RAW else self.info.sr_shape
        return picture.shape == shape and picture.dtype.name == self.info.dtype

    def _wrong(self, name: str, record: Record, ticks: int, data: bytes, picture: object) -> Iterator[str]:
        where = f"{name}: frame {record.number}"
        if isinstance(picture, Damage):
            yield f"{where}: {picture.reason}"
            return
        if isinstance(picture, np.ndarray) and not self._fits(name, picture):
            yield f"{where} is {picture.dtype} of {picture.shape}, {MANIFEST} states other images"
        if ticks != record.ticks:
            yield f"{where} is shown at {ticks} ms, its line says {record.ticks}"
        if name == SR and record.sr_coded is not None:
            if hash_bytes(data) != record.sr_coded:
                yield f"{where} is not the coded picture of its line"
        elif hash_pixels(picture) != (record.raw_hash if name == RAW else record.sr_hash):  # type: ignore[arg-type]
            yield f"{where} has other pixels than its line says"


def _missing(records: list[Record]) -> Iterator[Missing]:
    """Runs of frames without pixels, with the reason, raw first."""
    for what in ("raw", "sr"):
        run: Missing | None = None
        for record in records:
            reason = _why(record, what)
            last = record.number + record.count - 1
            if run is not None and reason == run.reason and record.number == run.last + 1:
                run = Missing(what, run.first, last, reason)
                continue
            if run is not None:
                yield run
            run = Missing(what, record.number, last, reason) if reason is not None else None
        if run is not None:
            yield run


def _why(record: Record, what: str) -> str | None:
    """Why ``record`` has no image of this kind; None where it has one."""
    if what == "raw":
        if record.raw_index is not None:
            return None
        return (
            str(record.outcome) if record.outcome is Outcome.LOST else record.reason or "no reason is given"
        )
    if record.sr_index is not None or record.outcome in (Outcome.LOST, Outcome.CORRUPT):
        return None  # said under raw
    if record.outcome is Outcome.STALE:
        return str(record.outcome)
    return record.reason or "no reason is given"


def _range(first: int, last: int) -> str:
    return f"frame {first} has" if first == last else f"frames {first} to {last} have"


def _words(totals: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in totals.items())
