"""What the source thread does: read, put numbers and times right, count what came and what did not, prepare, hand over
to the engine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from clesr.engines.common.clock import Clock
from clesr.engines.common.errors import EndOfSource, UsageError
from clesr.engines.results import check_size
from clesr.pipeline.continuity import Continuity
from clesr.pipeline.cores.calibration import CoreCalibration
from clesr.pipeline.engine_switch import EngineChoice, EngineSwitch
from clesr.pipeline.frame import (
    Corrupt,
    Frame,
    Gap,
    Image,
    InvalidFrame,
    Outage,
    Outcome,
    PreparedFrame,
    Temporal,
)
from clesr.pipeline.frame_queue import Closed, FrameQueue
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.observer import FrameObserver
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.rate_limiter import RateLimiter
from clesr.pipeline.source import Source
from clesr.pipeline.watchdog import CallTimer, Part, calls_of

log = SafeLogger(logging.getLogger(__name__))
KEPT = 20  # notes
READ_S = 0.1  # longest wait for a frame before the source thread looks whether to stop
HANGS_S = 1.0  # in a call of a source, which is to return within READ_S
BUFFERED_NS = 1_000_000_000  # after which no frame comes any more that has waited in a driver since the start


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop by itself: after so many captured frames, or seconds since the start. None: never."""

    frames: int | None = None
    seconds: float | None = None


class Notes:
    """Messages that are said, the ``first`` of them also in the summary."""

    def __init__(self) -> None:
        self.first: list[str] = []

    def add(self, message: str) -> None:
        """Any thread."""
        log.warning(message)
        if len(self.first) < KEPT:
            self.first.append(message)


@dataclass(slots=True)
class CaptureStage:
    """Frames of ``source`` into ``queue``, until its end (``ended``), a limit or ``stop``. ``observers`` are told of
    each in turn; ``idle`` is the wait for a frame, ``call`` one call of the source. ``alone``, set by any thread, has
    the next frame stand alone. ``drop_damaged`` takes damaged frames for corrupt ones. ``engines`` says for which
    engine frames are."""

    source: Source
    prepare: Prepare
    engines: EngineSwitch
    queue: FrameQueue[PreparedFrame]
    observers: Sequence[FrameObserver]
    idle: CallTimer
    limits: Limits
    clock: Clock
    stop: threading.Event
    alone: bool = False
    drop_damaged: bool = False
    ended: bool = False
    captured: int = 0
    notes: Notes = field(default_factory=Notes)
    _size: tuple[int, ...] | None = None  # of an LR image that can be up-scaled, and by which scale
    _choice: EngineChoice | None = None
    _temporal: Temporal | None = None  # of the frame before
    _cores: CoreCalibration | None = None  # by which those of the last frame were removed
    _outage: Outage | None = None  # before the frame that comes next
    call: CallTimer = field(init=False)
    _continuity: Continuity = field(init=False)
    _missed: RateLimiter = field(init=False)
    _damaged: RateLimiter = field(init=False)
    _corrupt: RateLimiter = field(init=False)
    _unprepared: RateLimiter = field(init=False)
    _placed: RateLimiter = field(init=False)

    def __post_init__(self) -> None:
        self.call = CallTimer(self.clock)
        self._continuity = Continuity(self.source.info)
        limiters = (RateLimiter(self.notes.add, self.clock) for _ in range(5))
        self._corrupt, self._unprepared, self._placed, self._missed, self._damaged = limiters

    def parts(self) -> tuple[Part, Part]:
        """What has to answer while the source is read. One that hangs in a call gives no frame either, which need not
        be said as well."""
        address, stop, call = self.source.info.address, self.stop, self.call
        frames = f"no frame has come from {address}", f"frames come from {address} again"
        return (
            Part("source", call, lambda: not stop.is_set(), *calls_of(address)),
            Part("source", self.idle, lambda: not stop.is_set() and call.busy_s <= HANGS_S, *frames),
        )

    def run(self, start_ns: int) -> None:
        """Of a live source take what is captured from ``start_ns`` on. Raises what the source raises."""
        try:
            while not self.stop.is_set() and not self._limit_reached(start_ns):
                if self.idle.since_ns is None:
                    self.idle.since_ns = self.clock.now_ns()
                item = self._read()
                if isinstance(item, Outage):
                    self._outage = item
                    continue
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
            self._end_away()
            self.prepare.end()
            self.queue.close()
            for kind in (self._corrupt, self._unprepared, self._placed, self._missed, self._damaged):
                kind.rest()

    def _read(self) -> Frame | Corrupt | Outage | None:
        self.call.since_ns = self.clock.now_ns()
        try:
            item: object = self.source.read(READ_S)
        except InvalidFrame as error:
            return Corrupt(self._continuity.expected, self.clock.now_ns(), str(error))
        except MemoryError:
            if not self.source.info.live:  # which may never get past it
                raise
            return Corrupt(self._continuity.expected, self.clock.now_ns(), "there is no memory for it")
        finally:
            self.call.since_ns = None
        if item is None or isinstance(item, Frame | Corrupt | Outage):
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
        begun, before_ns = self._continuity.begun, self._continuity.time_ns
        item, lost, remark = self._continuity.place(item, self.clock.now_ns(), since_ns)
        outage, self._outage = self._outage, None
        if outage is not None and begun and (lost or not outage.known):
            count = lost if outage.known else None
            self._miss(Gap(item.number - lost, count, before_ns, item.time_ns), outage.reason)
        if lost and (outage is None or not outage.known):
            for observer in self.observers:
                observer.lose(item.number - lost, lost, item.time_ns)
        self.captured += lost + 1
        if isinstance(item, Frame) and item.damaged:
            self._damaged(f"frame {item.number} of {self.source.info.address} builds on a damaged picture")
            if self.drop_damaged:
                item = Corrupt(item.number, item.time_ns, "builds on a damaged picture")
        if isinstance(item, Corrupt):
            self._spoil(item, remark)
        else:
            self._hand_over(item, remark)
        if remark:
            self._placed(f"frame {item.number} of {self.source.info.address}: {remark}; it was put right")

    def _miss(self, gap: Gap, reason: str) -> None:
        """An outage has ended, or the run has. The next frame rests on none before it."""
        self.alone = True
        for observer in self.observers:
            observer.miss(gap)
        self._missed(
            f"{self.source.info.address} was away for {gap.seconds:.1f} s ({reason}): {self._cost(gap)}"
        )

    def _cost(self, gap: Gap) -> str:
        if gap.count is not None:
            return f"{gap.count} frames are lost"
        fps = self.source.info.fps
        about = f", about {gap.seconds * fps:.0f} by its rate" if fps else ""
        return f"an unknown number of frames is lost{about}"

    def _end_away(self) -> None:
        """The run ends; where the source is away, nobody knows what was lost until now."""
        if self._outage is not None and self._continuity.begun:
            begin_ns = self._continuity.time_ns
            gap = Gap(self._continuity.next, None, begin_ns, max(begin_ns, self.clock.now_ns()))
            self._miss(gap, self._outage.reason)

    def _spoil(self, item: Corrupt, remark: str) -> None:
        told = replace(item, reason=f"{item.reason}; {remark}") if remark else item
        for observer in self.observers:
            observer.spoil(told)
        self._corrupt(f"frame {item.number} of {self.source.info.address} is corrupt: {item.reason}")

    def _hand_over(self, frame: Frame, remark: str) -> None:
        prepared: PreparedFrame | None = None
        if self.engines.choice is not self._choice:
            self._switch(frame)
        try:
            for observer in self.observers:
                observer.capture(frame, remark)
            lr = self._prepare(frame)
            if lr is None:
                return
            now_ns, prepare = self.clock.now_ns(), self.prepare
            # A stack or folder of images does not move, and nothing rests on a damaged one.
            moving = self.source.info.live or self.source.info.fps is not None
            temporal = prepare.temporal if moving and not frame.damaged else None
            changed = temporal is not self._temporal or prepare.removed is not self._cores
            self._temporal, self._cores = temporal, prepare.removed
            alone, self.alone = self.alone or changed, frame.damaged
            prepared = PreparedFrame(
                frame,
                lr,
                now_ns,
                levels=prepare.levels,
                cores=prepare.removed,
                guide=prepare.guide,
                temporal=temporal,
                alone=alone,
                corner=(prepare.roi.x, prepare.roi.y) if prepare.roi else (0, 0),
                choice=self._choice,
            )
            replaced = self.queue.put(prepared)
        except BaseException:
            self.settle(frame, Outcome.STALE, prepared=prepared)  # captured, but nothing can take it any more
            raise
        if replaced is not None:
            if replaced.alone:
                self.alone = True  # the next one, in its place
            self.settle(replaced.frame, Outcome.STALE, prepared=replaced)

    def _prepare(self, frame: Frame) -> Image | None:
        """The LR image of ``frame``; None where there is none, because the region of interest leaves it or it would
        become too large. Raises UsageError where that is so from the first frame on: the user may mend it."""
        try:
            image = self.prepare(frame)
            size = (*image.shape, self.scale)
            if size != self._size:
                check_size((image.shape[0], image.shape[1]), self.scale)
                self._size = size
        except UsageError as error:
            if self._size is None:
                raise
            self.settle(frame, Outcome.FAILED, str(error))
            self._unprepared(f"frame {frame.number} cannot be up-scaled: {error}")
            return None
        image.flags.writeable = False  # the frame's own already is
        return image

    @property
    def scale(self) -> int:
        """That of the next frame's image."""
        return self.engines.first_scale if self._choice is None else self._choice.aim.scale

    def _switch(self, frame: Frame) -> None:
        """Another engine is ready: it is for ``frame`` and those after it, unless it is too large for that one."""
        try:
            choice = self.engines.take(self.prepare.shape((frame.image.shape[0], frame.image.shape[1])))
        except UsageError:
            return  # the region of interest leaves it
        if choice is not self._choice:
            self._choice, self.alone = choice, True
            for observer in self.observers:
                observer.switch(
                    self.scale, str(choice.aim) if choice else "", choice.live.settings if choice else {}
                )

    def settle(
        self, frame: Frame, outcome: Outcome, reason: str = "", prepared: PreparedFrame | None = None
    ) -> None:
        """Any thread: ``frame`` was captured, perhaps ``prepared``, and ends without a result."""
        for observer in self.observers:
            observer.settle(frame.number, outcome, reason, prepared)

    def _limit_reached(self, start_ns: int) -> bool:
        frames, seconds = self.limits.frames, self.limits.seconds
        enough = frames is not None and self.captured >= frames
        return enough or (seconds is not None and self.clock.now_ns() - start_ns >= seconds * 1e9)
