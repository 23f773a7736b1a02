"""A session's raw frames, with the numbers and times that they had."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

from clesr.engines.common.errors import EndOfSource
from clesr.pipeline.frame import Corrupt, Frame, Outage, Outcome
from clesr.pipeline.session.format import RAW, TICK
from clesr.pipeline.session.manifest import recorded_window
from clesr.pipeline.session.reader import demux, read_session
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.registry import DEFAULTS, SourceOptions
from clesr.pipeline.video.decode import Damage


class SessionSource:
    """Every frame that the session in ``folder`` captured, as fast as it is read; ``pts`` is its time in it.

    Frames that were lost at the source are missing from the numbers, as they were; those without pixels are
    Corrupt; an outage is an Outage again. ``info.window`` is that of the recording, where it was fixed, unless the
    user gives another; ``info.cores`` the calibration by which fibre cores were removed. Raises SessionError where
    there is no session, or one that is damaged.
    """

    def __init__(self, folder: str | Path, options: SourceOptions = DEFAULTS) -> None:
        self.session = read_session(Path(folder))
        info = self.session.info
        cores = self.session.first_calibration()
        frames = None if info.totals is None else info.totals.get("captured", 0)
        self.info = SourceInfo(
            str(folder),
            live=False,
            fps=info.fps,
            shape=info.raw_shape,
            frames=frames,
            window=options.window or recorded_window(info),
            pixel_aspect=Fraction(*info.pixel_aspect),
            cores=None if cores is None else self.session.calibration(cores),
        )
        self._clock = options.clock
        self._records = self.session.records()
        self._coded = demux(self.session.folder / RAW)
        self._lock = threading.Lock()

    def read(self, timeout: float) -> Frame | Corrupt | Outage | None:
        """The next frame; ``timeout`` does not matter, a file never waits. Raises EndOfSource."""
        with self._lock:
            for record in self._records:
                if record.gap_ns is not None:
                    return Outage("in the recording", known=record.count > 0)
                if record.outcome is Outcome.LOST:
                    continue
                now = self._clock.now_ns()
                if record.raw_index is None:
                    return Corrupt(record.number, now, record.reason or "its pixels were not recorded")
                coded = next(self._coded, None)
                if coded is None or coded.position != record.raw_index:
                    return Corrupt(record.number, now, f"it is not in {RAW}")
                if isinstance(coded.image, Damage):
                    return Corrupt(record.number, now, coded.image.reason)
                base = None if record.ticks is None else TICK
                return Frame(coded.image, record.number, now, record.ticks, base, record.damaged)
            raise EndOfSource

    def close(self) -> None:
        with self._lock:
            self._records = iter(())
            self._coded.close()
