"""What a run tells of each captured frame."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from clesr.pipeline.alarms import Alarms
from clesr.pipeline.frame import Corrupt, Frame, Gap, Outcome, PreparedFrame, Result
from clesr.pipeline.sink import Sink


class FrameObserver(Protocol):
    """Told of every captured frame, on the thread where it happens; does nothing."""

    def begin(self) -> None:
        """The source is read from now on. Main thread."""
        return None

    def capture(self, frame: Frame, remark: str = "") -> None:
        """``frame`` came from the source; ``remark`` where its number or time was put right. Source thread, before
        anything else is done with it."""

    def switch(self, scale: int, name: str, settings: Mapping[str, Any]) -> None:
        """From the next captured frame on images are of another engine, in words ``name``, for ``scale``; ``settings``
        are those of the run that have changed with it, against those with which it began. Source thread."""
        return None

    def lose(self, number: int, count: int, time_ns: int) -> None:
        """``count`` frames from ``number`` on were lost at the source, noticed at ``time_ns``. Source thread."""

    def miss(self, gap: Gap) -> None:
        """The source was away; ``gap`` says what that cost. In place of ``lose`` where the count is known. Source
        thread."""

    def spoil(self, item: Corrupt) -> None:
        """A frame came that could not be decoded. Source thread."""

    def settle(
        self, number: int, outcome: Outcome, reason: str = "", prepared: PreparedFrame | None = None
    ) -> None:
        """Frame ``number`` ended without a result, where it is known for a ``reason``; ``prepared`` is what waited for
        the engine, None where it did not come so far. Source or engine thread."""

    def settle_result(self, result: Result) -> None:
        """``result`` was made, and goes to the sinks next. Engine thread."""


class FrameRecorder(FrameObserver, Sink, Protocol):
    """An observer that records what it is told, and takes the results as a sink."""

    @property
    def recording(self) -> bool:
        """Whether captured frames are being recorded now."""

    @property
    def armed(self) -> bool:
        """Whether frames are recorded, or kept for a recording that may begin."""

    @property
    def alarm(self) -> str | None:
        """Why a recording that was asked for ended early, or could not begin; else None."""

    @property
    def trouble(self) -> str:
        """Why nothing is recorded now although that is wanted; else empty. Any thread."""

    @property
    def alarms(self) -> Alarms:
        """The alarms of the run, to which the recorder adds its own."""

    def status(self) -> Mapping[str, Any]:
        """What a Status says of recording. Any thread."""

    def start(self, folder: Path, *, or_next: bool = False) -> Future[Path]:
        """Record into the new ``folder`` from the next frame on. ``or_next``: where something is in it, into ``NAME-2``
        and so on. Which folder it is, a SessionError where none can be made. Any thread."""

    def stop(self) -> None:
        """End the recording; the run goes on. Any thread."""

    def state(self, settings: Mapping[str, Any]) -> None:
        """Recordings that begin from now on say ``settings`` of the run, in place of those that they said of the same
        names. Any thread."""
