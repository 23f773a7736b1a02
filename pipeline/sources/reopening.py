"""A live source that is opened again when it breaks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import EndOfSource, SourceError, UsageError, first_line
from clesr.engines.memory import trim_memory
from clesr.pipeline.frame import Corrupt, Frame, InvalidFrame, Outage
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.source import Source, SourceWrapper, restarts_of

log = SafeLogger(logging.getLogger(__name__))
WAITS_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # before it is opened again, by failures in a row
AT_ONCE = (EndOfSource, InvalidFrame, SourceError, UsageError, MemoryError)
"""What a source raises that it means: its end, a frame that is none, that it is broken for good, too little memory for
a frame. Whatever else it raises is a fault of its own."""


class Reopening(SourceWrapper):
    """``source``, closed and opened again by ``open_again`` when it raises what no source should: a driver or library
    that failed. Meanwhile it is away (`Outage`). Where it cannot be opened, that is tried again after growing waits.
    Numbers go on where they ended. ``restarts`` counts how often it was open again, by itself too.
    """

    def __init__(self, source: Source, open_again: Callable[[], Source], clock: Clock = SYSTEM) -> None:
        self.info = source.info
        self._restarts = 0  # but those by itself of the present source
        self._source = source
        self._open_again, self._clock = open_again, clock
        self._failures, self._due_ns = 0, 0
        self._reason = ""  # why it is away; empty where it is not
        self._next: int | None = None  # number after that of the last frame
        self._shift = 0  # of the numbers, which begin anew when it is opened again
        self._shifted = True  # whether that is known
        self._closed = False

    @property
    def restarts(self) -> int:
        return self._restarts + restarts_of(self._source)

    def read(self, timeout: float) -> Frame | Corrupt | Outage | None:
        if self._source is None:
            return self._again(timeout)
        try:
            item = self._source.read(timeout)
        except AT_ONCE:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, the stream goes on
            return self._failed(error)
        self.info = self._source.info
        if item is None or isinstance(item, Outage):
            return item
        self._failures = 0
        if not self._shifted:
            self._shifted = True
            self._shift = (self._next or item.number) - item.number
        if self._shift:
            item = replace(item, number=item.number + self._shift)
        self._next = item.number + 1
        return item

    def close(self) -> None:
        self._closed = True
        super().close()

    def _failed(self, error: Exception) -> Outage:
        first = not self._reason
        self._reason = first_line(error)
        wait_s = WAITS_S[min(self._failures, len(WAITS_S) - 1)]
        self._failures += 1
        self._due_ns = self._clock.now_ns() + int(wait_s * 1e9)
        if first:
            log.warning(f"{self.info.address} broke ({self._reason}); it is opened again")
        source, self._source = self._source, None
        self._restarts += restarts_of(source)
        if source is not None:
            with suppress(Exception):
                source.close()
        return Outage(self._reason, over=False)

    def _again(self, timeout: float) -> Outage | None:
        now = self._clock.now_ns()
        if self._closed or now < self._due_ns:
            self._clock.sleep_until(min(self._due_ns, now + int(timeout * 1e9)))
            return None
        try:
            source = self._open_again()
        except Exception as error:  # noqa: BLE001 - it cannot be opened yet, whatever the reason
            self._failed(error)
            return None
        self._source, self._shifted = source, False
        self._restarts += 1
        if self._closed:  # meanwhile, by another thread
            source.close()
        reason, self._reason = self._reason, ""
        self.info = source.info
        trim_memory()
        log.warning(f"{self.info.address} is open again")
        return Outage(reason)
