"""What the source thread does: read, count what came and what did not, prepare, hand over to the engine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from clesr.engines.common.clock import Clock
from clesr.engines.common.errors import EndOfSource, UsageError
from clesr.engines.results import check_size
from clesr.pipeline.continuity import Continuity
from clesr.pipeline.frame import Corrupt, Frame, Image, InvalidFrame, Outcome, PreparedFrame
from clesr.pipeline.frame_queue import Closed, FrameQueue
from clesr.pipeline.observer import FrameObserver
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.seldom import Seldom
from clesr.pipeline.source import Source
from clesr.pipeline.watchdog import Pulse

log = logging.getLogger(__name__)
KEPT = 20  # notes
READ_S = 0.1  # longest wait for a frame before the source thread looks whether to stop
BUFFERED_NS = (
    1_000_000_000  # after which no frame comes any more that waited in a driver since before the start
)


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop by itself: after so many captured frames, or seconds since the start. None: never."""

    frames: int | None = None
    seconds: float | None = None


@dataclass(slots=True)
class CaptureStage:
    """Frames of ``source`` into ``queue``, until its end (``ended``), a limit or ``stop``. ``observers`` are told of
    each in turn; ``idle`` is the wait for a frame. ``notes`` has the first messages, for the summary."""

    source: Source
    prepare: Prepare
    scale: int
    queue: FrameQueue[PreparedFrame]
    observers: Sequence[FrameObserver]
    idle: Pulse
    limits: Limits
    clock: Clock
    stop: threading.Event
    ended: bool = False
    captured: int = 0
    notes: list[str] = field(default_factory=list)
    _size: tuple[int, ...] | None = None  # of an LR image that can be up-scaled
    _continuity: Continuity = field(init=False)
    _corrupt: Seldom = field(init=False)
    _unprepared: Seldom = field(init=False)
    _placed: Seldom = field(init=False)

    def __post_init__(self) -> None:
        self._continuity = Continuity(self.source.info)
        self._corrupt, self._unprepared, self._placed = (Seldom(self.note, self.clock) for _ in range(3))

    def note(self, message: str) -> None:
        """Any thread: say ``message`` now and, where it is one of the first, in the summary."""
        log.warning(message)
        if len(self.notes) < KEPT:
            self.notes.append(message)

    def run(self, start_ns: int) -> None:
        """Of a live source take what is captured from ``start_ns`` on. Raises what the source raises."""
        try:
            while not self.stop.is_set() and not self._limit_reached(start_ns):
                if self.idle.since_ns is None:
                    self.idle.since_ns = self.clock.now_ns()
                item = self._read()
                if item is None:
                    continue
                self.idle.since_ns = None
                if not self._waited_in_driver(item, start_ns):
                    self._capture(item, start_ns)
        except EndOfSource:
            self.ended = True
        except Closed:
            pass  # aborted, or the engine thread broke and has said why
        finally:
            self.queue.close()
            for kind in (self._corrupt, self._unprepared, self._placed):
                kind.rest()

    def _read(self) -> Frame | Corrupt | None:
        try:
            item: object = self.source.read(READ_S)
        except InvalidFrame as error:
            return Corrupt(self._continuity.expected, self.clock.now_ns(), str(error))
        if item is None or isinstance(item, Frame | Corrupt):
            return item
        said = f"the source gave a {type(item).__name__}, which is no frame"
        return Corrupt(self._continuity.expected, self.clock.now_ns(), said)

    def _waited_in_driver(self, item: Frame | Corrupt, start_ns: int) -> bool:
        """Whether ``item`` is from before the start, while the engine was opened. Only the first ones can be: a later
        one that says so has a wrong clock."""
        return (
            self.source.info.live
            and not self._continuity.begun
            and item.time_ns < start_ns
            and self.clock.now_ns() - start_ns < BUFFERED_NS
        )

    def _capture(self, item: Frame | Corrupt, start_ns: int) -> None:
        """Count ``item`` and those that are missing before it, and send it on its way."""
        since_ns = start_ns if self.source.info.live else 0
        item, lost, remark = self._continuity.place(item, self.clock.now_ns(), since_ns)
        if lost:
            for observer in self.observers:
                observer.lose(item.number - lost, lost, item.time_ns)
        self.captured += lost + 1
        if isinstance(item, Corrupt):
            self._spoil(item, remark)
        else:
            self._hand_over(item, remark)
        if remark:
            self._placed(f"frame {item.number} of {self.source.info.address}: {remark}; it was put right")

    def _spoil(self, item: Corrupt, remark: str) -> None:
        told = replace(item, reason=f"{item.reason}; {remark}") if remark else item
        for observer in self.observers:
            observer.spoil(told)
        self._corrupt(f"frame {item.number} of {self.source.info.address} is corrupt: {item.reason}")

    def _hand_over(self, frame: Frame, remark: str) -> None:
        try:
            for observer in self.observers:
                observer.capture(frame, remark)
            lr = self._prepare(frame)
            if lr is None:
                return
            prepared = PreparedFrame(frame, lr, self.clock.now_ns())
            for observer in self.observers:
                observer.prepared(frame.number, prepared.prepared_ns, self.prepare.levels)
            replaced = self.queue.put(prepared)
        except BaseException:
            self.settle(frame, Outcome.STALE)  # captured, but nothing can take it any more
            raise
        if replaced is not None:
            self.settle(replaced.frame, Outcome.STALE)

    def _prepare(self, frame: Frame) -> Image | None:
        """The LR image of ``frame``; None where there is none, because the region of interest leaves it or it would
        become too large. Raises UsageError where that is so from the first frame on: the user may mend it."""
        try:
            image = self.prepare(frame)
            if image.shape != self._size:
                check_size((image.shape[0], image.shape[1]), self.scale)
                self._size = image.shape
        except UsageError as error:
            if self._size is None:
                raise
            self.settle(frame, Outcome.FAILED, str(error))
            self._unprepared(f"frame {frame.number} cannot be up-scaled: {error}")
            return None
        image.flags.writeable = False  # the frame's own already is
        return image

    def settle(self, frame: Frame, outcome: Outcome, reason: str = "") -> None:
        """Any thread: ``frame`` was captured, and ends without a result."""
        for observer in self.observers:
            observer.settle(frame.number, outcome, reason)

    def _limit_reached(self, start_ns: int) -> bool:
        frames, seconds = self.limits.frames, self.limits.seconds
        if frames is not None and self.captured >= frames:
            return True
        return seconds is not None and self.clock.now_ns() - start_ns >= seconds * 1e9
