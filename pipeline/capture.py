"""What the source thread does: read, put numbers and times right, count what came and what did not, prepare, hand over
to the engine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from clesr.engines.common.clock import Clock
from clesr.engines.common.errors import EndOfSource, UsageError
from clesr.engines.results import check_size
from clesr.pipeline.frame import Corrupt, Frame, Image, InvalidFrame, Outcome, PreparedFrame
from clesr.pipeline.frame_queue import Closed, FrameQueue
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.observer import FrameObserver
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.rate_limiter import RateLimiter
from clesr.pipeline.source import Source, SourceInfo
from clesr.pipeline.watchdog import CallTimer

log = SafeLogger(logging.getLogger(__name__))
KEPT = 20  # notes
READ_S = 0.1  # longest wait for a frame before the source thread looks whether to stop
BUFFERED_NS = 1_000_000_000  # after which no frame comes any more that has waited in a driver since the start
SLACK = 1000  # numbers that may be missing whatever the time: drivers count fields, and clocks have steps
FASTEST = 10_000.0  # frames/s of a source that does not say, and the most that is believed of one that does
DAY_S = 24 * 3600.0  # longest gap in presentation times
LAST_NUMBER = 1 << 53  # beyond it, numbers are not exact in every program that reads JSON


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
    each in turn; ``idle`` is the wait for a frame. ``alone``, set by any thread, has the next frame stand alone."""

    source: Source
    prepare: Prepare
    scale: int
    queue: FrameQueue[PreparedFrame]
    observers: Sequence[FrameObserver]
    idle: CallTimer
    limits: Limits
    clock: Clock
    stop: threading.Event
    alone: bool = False
    ended: bool = False
    captured: int = 0
    notes: Notes = field(default_factory=Notes)
    _size: tuple[int, ...] | None = None  # of an LR image that can be up-scaled
    _continuity: Continuity = field(init=False)
    _corrupt: RateLimiter = field(init=False)
    _unprepared: RateLimiter = field(init=False)
    _placed: RateLimiter = field(init=False)

    def __post_init__(self) -> None:
        self._continuity = Continuity(self.source.info)
        limiters = (RateLimiter(self.notes.add, self.clock) for _ in range(3))
        self._corrupt, self._unprepared, self._placed = limiters

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
        prepared: PreparedFrame | None = None
        try:
            for observer in self.observers:
                observer.capture(frame, remark)
            lr = self._prepare(frame)
            if lr is None:
                return
            now_ns, prepare = self.clock.now_ns(), self.prepare
            alone, self.alone = self.alone, False
            moving = (
                self.source.info.live or self.source.info.fps is not None
            )  # and no stack or folder of images
            prepared = PreparedFrame(
                frame,
                lr,
                now_ns,
                levels=prepare.levels,
                guide=prepare.guide,
                temporal=prepare.temporal if moving else None,
                alone=alone,
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


class Placed(NamedTuple):
    """A frame as it is taken: with the number and time that it gets, ``lost`` frames before it, and ``remark``: what
    the source said instead, or empty."""

    item: Frame | Corrupt
    lost: int
    remark: str


class Continuity:
    """Places each frame of one source behind the one before it. Numbers rise, and times never fall nor lie ahead.

    A source's number stands where it follows the last, with a gap at most of what the time that passed allows (at twice
    the source's rate, and ``SLACK``). Otherwise the frame gets the number after the last, and the source's numbers
    count from there; a source that comes back to its old numbers is followed. Its times are treated alike: one before
    the last or after ``now_ns`` is replaced by the present less the usual delay, and those that follow are shifted as
    much as it, until the source's own are possible again. So a counter or clock that was set, once or for good, costs
    no frame.
    """

    def __init__(self, info: SourceInfo) -> None:
        self._rate = 2 * min(info.fps or FASTEST, FASTEST)
        self._next: int | None = None
        self._number_shift = self._time_shift = 0
        self._time_ns = self._arrived_ns = self._delay_ns = 0
        self._presented: float | None = None

    @property
    def begun(self) -> bool:
        """Whether a frame was placed."""
        return self._next is not None

    @property
    def expected(self) -> int:
        """The number that comes next, as the source would say it."""
        return max(0, (self._next or 0) - self._number_shift)

    def place(self, item: Frame | Corrupt, now_ns: int, since_ns: int) -> Placed:
        """``item`` came at ``now_ns``; a first one was captured at ``since_ns`` or later."""
        remarks = []
        time_ns = self._time(item.time_ns, now_ns, since_ns)
        if time_ns != item.time_ns:
            remarks.append(f"the source's time for it was off by {_seconds(item.time_ns - time_ns)}")
        elapsed = max(now_ns - self._arrived_ns, time_ns - self._time_ns) / 1e9
        presented, remark = self._presentation(item)
        if remark:
            remarks.append(remark)
        if presented is not None and self._presented is not None:
            elapsed = max(elapsed, presented - self._presented)
        number, lost = self._number(item.number, elapsed)
        if number != item.number:
            remarks.append(f"the source called it frame {_whole(item.number)}")
        self._next, self._presented = number + 1, presented
        self._time_ns, self._arrived_ns = time_ns, now_ns
        if remarks:
            changes = {"number": number, "time_ns": time_ns}
            item = replace(item, **(changes | ({"pts": None, "time_base": None} if remark else {})))  # type: ignore[arg-type]
        return Placed(item, lost, "; ".join(remarks))

    def _number(self, number: int, elapsed_s: float) -> tuple[int, int]:
        """The number that a frame gets, and how many are missing before it."""
        if self._next is None:
            self._next = number if 0 <= number < LAST_NUMBER else 0
        allowed = SLACK + int(self._rate * elapsed_s)
        shifts = (self._number_shift, 0)
        for most in (0, allowed):
            for shift in shifts:
                if 0 <= number + shift - self._next <= most and number + shift < LAST_NUMBER:
                    self._number_shift = shift
                    return number + shift, number + shift - self._next
        self._number_shift = self._next - number
        return self._next, 0

    def _time(self, time_ns: int, now_ns: int, since_ns: int) -> int:
        earliest = since_ns if self._next is None else self._time_ns
        for shift in (self._time_shift, 0):
            if earliest <= time_ns + shift <= now_ns:
                self._time_shift = shift
                if not shift:
                    self._delay_ns = now_ns - time_ns
                return time_ns + shift
        placed = max(min(earliest, now_ns), now_ns - self._delay_ns)
        self._time_shift = placed - time_ns
        return placed

    def _presentation(self, item: Frame | Corrupt) -> tuple[float | None, str]:
        """Seconds on the recording's own clock, None without one; what is said where that cannot be."""
        if isinstance(item, Corrupt) or item.pts is None or item.time_base is None:
            return self._presented, ""
        try:
            presented = float(item.pts * item.time_base)
        except OverflowError:
            return None, "its presentation time is beyond all bounds"
        if self._presented is not None and presented - self._presented > DAY_S:
            return presented, "its presentation time jumped by more than a day"
        return presented, ""


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:+.3f} s" if abs(nanoseconds) < 1 << 63 else "more than a century"


def _whole(number: int) -> str:
    return str(number) if abs(number) < 1 << 64 else f"beyond {'-' * (number < 0)}2^64"
