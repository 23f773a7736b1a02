"""Engines, sources and sinks may never return: how long one is in a call, when that is said, when it is given up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from clesr.engines.common.clock import Clock
from clesr.pipeline.messages import SafeLogger

log = SafeLogger(logging.getLogger(__name__))
SLOWER = 3.0  # times the longest call so far: what is slow by nature is not taken for hung

left_behind: list[threading.Thread] = []  # threads that were given up: the interpreter must not wait for them


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that other parts get. ``told``: in one call, before it is said; ``full``: that a sink without room may
    hold up a live run; ``close``: in one call at the end of a run, of the engine where the source is live;
    ``recorder``: the same where it is the recorder's, which may take longer while it comes on; ``abort`` and
    ``abort_recorder``: the same after an abort."""

    told: float = 3.0
    full: float = 0.5
    close: float = 30.0
    recorder: float = 120.0
    abort: float = 2.0
    abort_recorder: float = 6.0


class CallTimer:
    """Since when a part is in a call: ``since_ns``, which the part sets, None outside one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.since_ns: int | None = None

    @property
    def busy_s(self) -> float:
        """Seconds in the present call, 0 outside one."""
        since = self.since_ns
        return 0.0 if since is None else (self._clock.now_ns() - since) / 1e9


@dataclass(frozen=True, slots=True)
class Part:
    """A part that is watched, by its ``name``; whether it ``must`` answer now; and the words for its silence:
    ``silent`` before "for N s", and ``back``."""

    name: str
    timer: CallTimer
    must: Callable[[], bool]
    silent: str
    back: str


def calls_of(what: str) -> tuple[str, str]:
    """The words for the silence of a part that is called."""
    return f"{what} has not answered", f"{what} answers again"


@dataclass(slots=True)
class _Seen:
    """The call that a part was last seen in: when it began, its seconds so far, whether its silence was told; the
    longest one before it that is usual; and the seconds of the one before it, where that was told."""

    since_ns: int | None = None
    busy_s: float = 0.0
    told: bool = False
    longest_s: float = 0.0
    hung_s: float = 0.0

    def end(self, since_ns: int | None) -> None:
        """That call has ended, the next began at ``since_ns``. One that was told is an outage, which says nothing of
        how long calls take; two in a row are usual."""
        usual_s = min(self.busy_s, self.hung_s) if self.told else self.busy_s
        self.longest_s = max(self.longest_s, usual_s)
        self.hung_s = self.busy_s if self.told else 0.0
        self.since_ns, self.busy_s, self.told = since_ns, 0.0, False


class Watchdog:
    """Says once when one of ``parts`` does not come back from a call, and once when it has. One thread looks.

    ``silent`` has what is to be said now, by the names of those parts.
    """

    def __init__(self, parts: Iterable[Part], timeouts: Timeouts) -> None:
        self._seen = [(part, _Seen()) for part in parts]
        self._timeouts = timeouts
        self.silent: Mapping[str, str] = {}

    def look(self) -> None:
        watched = [(part, seen) for part, seen in self._seen if part.must()]
        for part, seen in watched:
            self._look(part, seen)
        self.silent = {
            part.name: f"{part.silent} for {part.timer.busy_s:.0f} s" for part, seen in watched if seen.told
        }

    def _look(self, part: Part, seen: _Seen) -> None:
        since = part.timer.since_ns
        if seen.since_ns != since:
            if seen.told:
                log.warning(f"{part.back}, after {seen.busy_s:.0f} s")
            seen.end(since)
        if since is None:
            return
        seen.busy_s = part.timer.busy_s
        if not seen.told and seen.busy_s > max(self._timeouts.told, SLOWER * seen.longest_s):
            seen.told = True
            log.warning(f"{part.silent} for {seen.busy_s:.0f} s")
