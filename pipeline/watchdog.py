"""Engines, sources and sinks may never return: how long one is in a call, when that is said, when it is given up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType

from clesr.engines.common.clock import Clock

SLOWER = 3.0  # times the longest call so far: what is slow by nature is not taken for hung

left_behind: list[threading.Thread] = []  # threads that were given up: the interpreter must not wait for them


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that other parts get. ``told``: in one call, before it is said; ``full``: that a sink without room may
    hold up a live run; ``close``: in one call at the end of a run, ``recorder`` where it is the recorder's; ``abort``
    and ``abort_recorder``: the same after an abort."""

    told: float = 3.0
    full: float = 0.5
    close: float = 30.0
    recorder: float = 120.0
    abort: float = 2.0
    abort_recorder: float = 6.0


class Pulse:
    """Since when a part is in a call (a context manager around each), and how long the longest took that came back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.since_ns: int | None = None
        self.longest_s = 0.0

    def __enter__(self) -> None:
        self.since_ns = self._clock.now_ns()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.longest_s = max(self.longest_s, self.busy_s)
        self.since_ns = None

    @property
    def busy_s(self) -> float:
        """Seconds in the present call, 0 outside one."""
        since = self.since_ns
        return 0.0 if since is None else (self._clock.now_ns() - since) / 1e9


@dataclass(frozen=True, slots=True)
class Part:
    """A part that is watched, and the words for its silence: ``silent`` before "for N s", and ``back``."""

    pulse: Pulse
    silent: str
    back: str


class Watchdog:
    """Says once when a part does not come back from a call, and once when it has. One thread looks."""

    def __init__(self, patience: Patience, tell: Callable[[str], None]) -> None:
        self._patience, self.tell = patience, tell
        self._silent: dict[
            str, tuple[int, float]
        ] = {}  # by the words: the call's begin, and its seconds so far

    def look(self, parts: Iterable[Part]) -> None:
        for part in parts:
            since, busy = part.pulse.since_ns, part.pulse.busy_s
            said = self._silent.get(part.silent)
            if said is not None and said[0] != since:
                del self._silent[part.silent]
                self.tell(f"{part.back}, after {said[1]:.0f} s")
            elif since is not None and busy > max(self._patience.told, SLOWER * part.pulse.longest_s):
                if said is None:
                    self.tell(f"{part.silent} for {busy:.0f} s")
                self._silent[part.silent] = since, busy

    def message(self, part: Part) -> str:
        """What is to be said of ``part`` now; empty where it answers."""
        return f"{part.silent} for {part.pulse.busy_s:.0f} s" if part.silent in self._silent else ""
