"""What the user must not overlook: what went wrong with recording or outputs, until it is acknowledged."""

from __future__ import annotations

import logging
import threading
from collections import deque
from pathlib import Path
from typing import Any

from clesr.engines.common.clock import Clock
from clesr.pipeline.messages import SafeLogger

log = SafeLogger(logging.getLogger(__name__))
ALARMS = 20  # that wait to be acknowledged by their words, and that are remembered when they were
LONGEST = 1000  # characters of one
EARLIER = 1000  # that are counted
HANDED = 3  # that another stream takes over by their words: its own are to stay in sight
AGAIN_NS = 5_000_000_000  # after which it is told again that frames are missing


class Alarms:
    """Alarms that stay until somebody has seen them, one by one: the newest is shown. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open: dict[_Alarm, None] = {}  # the newest last
        self._earlier: set[_Alarm] = set()  # that were too many to be shown
        self._acknowledged: deque[str] = deque(maxlen=ALARMS)
        self._heir: Alarms | None = None
        self._name = ""  # of the stream, once they were handed over

    def add(self, text: str) -> None:
        """It becomes the newest; the same text stands there once. Where there are too many, the oldest are but counted,
        in an alarm of their own."""
        self._take((self, text[:LONGEST]))

    def _take(self, alarm: _Alarm) -> None:
        with self._lock:
            if self._heir is None:
                self._open.pop(alarm, None)
                self._earlier.discard(alarm)
                self._open[alarm] = None
                if len(self._open) > ALARMS:
                    others = [each for each in self._open if each[0] is not self]
                    oldest = others[0] if len(others) > HANDED else next(iter(self._open))
                    del self._open[oldest]
                    self._count(oldest)
                return
            heir = self._heir
        heir._take(alarm)

    def _count(self, *alarms: _Alarm) -> None:
        with self._lock:
            self._earlier.update(alarms[: EARLIER - len(self._earlier)])

    def hand_over(self, heir: Alarms, name: str) -> None:
        """Nobody looks at this stream any more: what waits, and what comes, waits in ``heir``, or where those of
        ``heir`` wait, and no longer here, with the ``name`` of this stream before it. Of many the newest; the others
        are counted there."""
        place = heir._place
        if place is self:  # it takes its own back
            place = heir
            with heir._lock:
                heir._heir = None
        with self._lock:  # what comes meanwhile waits, so that it is the newest
            self._name = name
            waiting = list(self._open)
            place._count(*self._earlier, *waiting[:-HANDED])
            for alarm in waiting[-HANDED:]:
                place._take(alarm)
            self._open, self._earlier, self._heir = {}, set(), place

    @property
    def _place(self) -> Alarms:
        """Where those of this stream wait."""
        place = self
        while place._heir is not None:
            place = place._heir
        return place

    def acknowledge(self, text: str = "") -> str:
        """The alarm ``text`` was seen, "" for the one that is shown; which it was, "" where it does not wait."""
        with self._lock:
            waiting = self.waiting
            seen = text or next(iter(waiting), "")
            if seen not in waiting:
                return ""
            named = [alarm for alarm in self._open if self._words(alarm) == seen]
            for alarm in named:
                del self._open[alarm]
            if not named:
                self._earlier.clear()
            self._acknowledged.append(seen)
        return seen

    def status(self) -> dict[str, Any]:
        """What a Status says of alarms."""
        waiting = self.waiting
        return {"alarm": next(iter(waiting), ""), "alarms": waiting, "acknowledged": self.acknowledged}

    @property
    def waiting(self) -> tuple[str, ...]:
        """Those that were not acknowledged, the one that is shown first."""
        with self._lock:
            words = dict.fromkeys(map(self._words, reversed(self._open)))
            return (*words, *([_counted(len(self._earlier))] if self._earlier else []))

    def _words(self, alarm: _Alarm) -> str:
        owner, text = alarm
        return text if owner is self else f"{owner._name}: {text}"[:LONGEST]

    @property
    def handed_over(self) -> bool:
        """Whether they wait with another stream."""
        with self._lock:
            return self._heir is not None

    def waits(self, text: str) -> bool:
        """Whether the alarm ``text`` of this stream waits, here or where it was handed over."""
        place, alarm = self._place, (self, text[:LONGEST])
        with place._lock:
            return alarm in place._open or alarm in place._earlier

    @property
    def acknowledged(self) -> tuple[str, ...]:
        """Those that were, the last one last."""
        with self._lock:
            return tuple(self._acknowledged)


_Alarm = tuple[Alarms, str]
"""One of the stream whose Alarms these are, in words."""


def _counted(earlier: int) -> str:
    least = "at least " if earlier >= EARLIER else ""
    return f"EARLIER ALARMS: {least}{earlier} more, which stand among the messages"


class RecordingAlarms(Alarms):
    """Those of a recorder, which go to the log as well; the methods here are for its thread.

    ``nothing_recorded`` has why recordings could not begin or broke outside a session.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.nothing_recorded: list[str] = []
        self._clock = clock
        self._missing: dict[str, int] = {}  # why frames of this session have no pixels, told last when

    def nothing(self, message: str) -> None:
        """A recording could not begin, or something broke: ``message`` says it in one line."""
        self.add(f"NOTHING IS RECORDED: {message}")
        if message not in self.nothing_recorded and len(self.nothing_recorded) < ALARMS:
            self.nothing_recorded.append(message)
            log.error(message)

    def silent(self, seconds: float) -> None:
        """No image has come for ``seconds``."""
        words = f"NOTHING IS RECORDED: no image has come for more than {seconds:.0f} s"
        if not self.waits(words):
            log.error(words)
        self.add(words)

    def missing(self, folder: Path, reason: str) -> None:
        """Frames of the recording in ``folder`` are without pixels, for a ``reason`` whose kind is told once. The alarm
        comes again where it was acknowledged and frames go on to be missing."""
        kind, now_ns = reason.partition(":")[0], self._clock.now_ns()
        if kind not in self._missing:
            log.warning(f"frames are missing from the recording {folder} ({reason}); their numbers are in it")
        elif now_ns - self._missing[kind] < AGAIN_NS:
            return
        self._missing[kind] = now_ns
        self.add(f"FRAMES ARE MISSING FROM THE RECORDING: {reason}")

    def forget_missing(self) -> None:
        """Another recording begins."""
        self._missing.clear()
