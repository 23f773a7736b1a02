"""Recorded sessions in programs of one's own: their frames as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clesr.pipeline.frame import Image, Outcome
from clesr.pipeline.session.format import Record, SessionError, SessionInfo
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.verify import Certificate, verify


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
    count: int = 1
    damaged: bool = False
    gap: tuple[float, float] | None = None


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
