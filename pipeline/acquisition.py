"""What the source thread does: read, count what came and what did not, prepare, hand over to the engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from clesr.pipeline.clock import Clock
from clesr.pipeline.errors import EndOfSource
from clesr.pipeline.frame import Corrupt, Frame, Outcome
from clesr.pipeline.mailbox import Closed, Mailbox
from clesr.pipeline.pace import Pace
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.sources.base import Source
from clesr.pipeline.stats import Ledger
from clesr.pipeline.upscaler import Job
from clesr.pipeline.watch import Watch

READ_S = 0.1  # longest wait for a frame before the source thread looks whether to stop


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop by itself: after so many captured frames, or seconds since the start. None: never."""

    frames: int | None = None
    seconds: float | None = None


@dataclass(slots=True)
class Acquisition:
    """Frames of ``source`` into ``jobs``, until its end (``ended``), a limit or ``stop``. ``note`` gets messages."""

    source: Source
    prepare: Prepare
    jobs: Mailbox[Job]
    ledger: Ledger
    watch: Watch
    pace: Pace
    limits: Limits
    clock: Clock
    stop: threading.Event
    note: Callable[[str], None]
    ended: bool = False

    def run(self, start_ns: int) -> None:
        """Of a live source take what is captured from ``start_ns`` on. Raises what the source raises."""
        expected: int | None = None
        try:
            while not self.stop.is_set() and not self._limit_reached(start_ns):
                self.pace.waits()
                item = self.source.read(READ_S)
                if item is None:
                    continue
                self.pace.wakes()
                if self.source.info.live and item.time_ns < start_ns:
                    continue  # it waited in the driver while the engine was opened
                if expected is not None and item.number > expected:
                    self._lose(expected, item.number - expected, item.time_ns)
                expected = item.number + 1
                self.ledger.capture()
                self._arrive(item)
        except EndOfSource:
            self.ended = True
        except Closed:
            pass  # aborted, or the engine thread broke and has said why
        finally:
            self.jobs.close()

    def stale(self, frame: Frame) -> None:
        """Any thread: ``frame`` was captured, and will not be up-scaled."""
        self.ledger.record(Outcome.STALE)
        self.watch.settle(frame.number, Outcome.STALE)

    def _lose(self, number: int, count: int, time_ns: int) -> None:
        self.ledger.capture(count)
        self.ledger.record(Outcome.LOST, count)
        self.watch.lose(number, count, time_ns)

    def _arrive(self, item: Frame | Corrupt) -> None:
        self.pace.arrives()
        if isinstance(item, Corrupt):
            self.ledger.record(Outcome.CORRUPT)
            self.watch.spoil(item)
            self.note(f"frame {item.number} of {self.source.info.address} is corrupt: {item.reason}")
            return
        self.watch.capture(item)
        try:
            job = Job(item, self.prepare(item), self.clock.now_ns())
            self.watch.prepared(item.number, job.prepared_ns, self.prepare.levels)
            replaced = self.jobs.put(job)
        except BaseException:
            self.stale(item)  # captured, but nothing can take it any more
            raise
        if replaced is not None:
            self.stale(replaced.frame)

    def _limit_reached(self, start_ns: int) -> bool:
        frames, seconds = self.limits.frames, self.limits.seconds
        if frames is not None and self.ledger.captured >= frames:
            return True
        return seconds is not None and self.clock.now_ns() - start_ns >= seconds * 1e9
