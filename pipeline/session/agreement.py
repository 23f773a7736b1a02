"""Whether the fields of a session agree with one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from clesr.pipeline.frame import Outcome
from clesr.pipeline.session.format import FRAMES, MANIFEST, RAW, SR, Record, SessionInfo

PIXELLESS = (Outcome.LOST, Outcome.CORRUPT)


def disagreements(records: Iterable[Record]) -> Iterator[str]:
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
    if record.outcome in PIXELLESS and not (record.raw_index is None and record.sr_index is None):
        yield f"is {record.outcome}, but has an image"
    if (record.raw_index is None) != (record.raw_hash is None):
        yield f"has an image in {RAW} without its hash, or a hash without an image"
    hashed = record.sr_hash is not None or record.sr_coded is not None
    if (record.sr_index is not None) != hashed:
        yield f"has an image in {SR} without its hash, or a hash without an image"
    if record.levels is not None and not record.levels[0] < record.levels[1]:
        yield f"has black at level {record.levels[0]:g} and white at {record.levels[1]:g}"


def uncovered(folder: Path, info: SessionInfo) -> Iterator[str]:
    """What a closed session should state and does not."""
    if not info.closed:
        return
    absent = [name for name in ("totals", "lines", "chain", "files") if getattr(info, name) is None]
    if absent:
        yield f"{MANIFEST} states no {', '.join(absent)}, though the session is closed"
    for name in (RAW, SR, FRAMES):
        if info.files is not None and name not in info.files and (folder / name).exists():
            yield f"{MANIFEST} states no digest of {name}"
