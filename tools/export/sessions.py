"""Clips from a session folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

from clesr.engines.common.errors import ClesrError, printable
from clesr.pipeline.frame import Image, Outcome
from clesr.pipeline.session.format import TICK, Record, SessionError
from clesr.pipeline.session.manifest import recorded_window
from clesr.pipeline.session.reader import SessionReader
from clesr.pipeline.session.video import hash_pixels
from clesr.tools.export.clip import Clip, Derivation, Kind, Still
from clesr.tools.export.selection import Selection, absent_error, thin

log = logging.getLogger(__name__)
LOSSLESS = "ffv1"


def session_clip(
    session: SessionReader,
    kind: Kind,
    selection: Selection,
    *,
    pixel_um: float | None,
    dated: bool = False,
    named: bool = False,
) -> Clip:
    """The ``raw`` or ``sr`` images of ``session``.

    ``pixel_um`` of the captured image goes before the session's own. ``dated`` copies the date, ``named`` the source.

    Raises SessionError where the session cannot be read, ClesrError where it has none of the selected images.
    """
    info = session.info
    records = list(session.records())
    within = [record for record in records if record.number in selection]
    wanted = [
        record for record in within if (record.raw_index if kind == "raw" else record.sr_index) is not None
    ]
    absent = set(selection.only) - {record.number for record in wanted}
    if absent:
        why = {record.number: record.reason or str(record.outcome or "unfinished") for record in within}
        frames = (f"{number} ({why.get(number, 'not captured')})" for number in sorted(absent))
        raise absent_error(str(session.folder), kind, frames)
    if not wanted:
        raise ClesrError(
            f"{session.folder} has no {kind} image in {selection}; `clesr info` shows what it has"
        )
    if damaged := sum(record.damaged for record in wanted):
        log.warning(
            f"{damaged} of the exported frames build on a damaged picture: parts of them may be wrong"
        )
    side = pixel_um or info.pixel_um
    engines = dict.fromkeys(str(entry["engine"]) for entry in info.engines if entry.get("engine"))
    words = (info.model, info.model_hash, ", ".join(engines) or info.engine)
    model = Derivation(info.scale, *map(printable, words))
    sr, time_ns = kind == "sr", _clock(records, info.started_ns)
    return Clip(
        kind=kind,
        stills=thin(_stills(session, kind, selection, len(wanted), time_ns), selection.seconds),
        total=len(wanted),
        fps=info.fps,
        pixel_aspect=Fraction(*info.pixel_aspect),
        pixel_um=side / info.scale if side and sr else side,
        window=None if sr else recorded_window(info),
        derivation=model if sr else None,
        synthetic=info.source.startswith("demo:"),
        lossy=True if sr and info.sr_codec != LOSSLESS else None,
        origin_ns=min(time_ns(within[0]), time_ns(wanted[0])),
        started=info.started if dated else None,
        notes=printable(f"source {info.source}") if named else "",
    )


def _clock(records: Sequence[Record], started_ns: int) -> Callable[[Record], int]:
    """What gives the time of a record in nanoseconds since the first frame: that of its capture; where several images
    share one, as those of a network stream do, that of its presentation, which rises."""
    shown = [record for record in records if record.ticks is not None]
    if all(a.captured_ns < b.captured_ns for a, b in pairwise(shown)):
        return lambda record: record.captured_ns - started_ns

    def presented(record: Record) -> int:
        return record.captured_ns - started_ns if record.ticks is None else int(record.ticks * TICK * 10**9)

    return presented


def _stills(
    session: SessionReader, kind: Kind, selection: Selection, expected: int, time_ns: Callable[[Record], int]
) -> Iterator[Still]:
    found = 0
    for record, image in session.images(kind):
        if record.number in selection:
            found += 1
            _check(session, kind, record, image)
            failed = kind == "sr" and record.outcome is Outcome.FAILED
            yield Still(record.number, time_ns(record), image, bicubic=failed)
        if selection.end is not None and record.number >= selection.end:
            break
    if found < expected:
        words = f"{session.folder}: {expected - found} of {expected} {kind} images are missing from the video file"
        if session.info.closed:
            raise SessionError(f"{words}; `clesr verify` tells more")
        log.warning(f"{words}, as the recording was cut off")


def _check(session: SessionReader, kind: Kind, record: Record, image: Image) -> None:
    """Raises SessionError where the pixels are not those that were recorded; a lossy codec cannot be asked."""
    if kind == "sr" and session.info.sr_codec != LOSSLESS:
        return
    if hash_pixels(image) != (record.raw_hash if kind == "raw" else record.sr_hash):
        raise SessionError(
            f"{session.folder}: the {kind} image of frame {record.number} is not the one that was recorded; "
            "`clesr verify` tells more"
        )
