"""Which fault happens when: as it was ordered, or by chance from a seed."""

from __future__ import annotations

import logging
import random
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import UsageError, told_as
from clesr.engines.common.numbers import decimal_number, shortened, whole_number
from clesr.pipeline.messages import SafeLogger

log = SafeLogger(logging.getLogger(__name__))
FAULTS: Mapping[str, Mapping[str, str]] = {
    "source": {
        "stall": "gives no frame for a while; those of the time come late",
        "slow": "takes 0.1 s for each frame",
        "corrupt": "gives frames that cannot be decoded",
        "away": "is unplugged and comes back",
        "size": "gives a frame of another size",
        "time-back": "stamps a frame ten seconds early",
        "duplicate": "gives a frame twice",
        "exception": "raises an error of its own",
        "memory": "has no memory for a frame",
    },
    "engine": {
        "stall": "does not answer for a while",
        "slow": "takes 0.1 s more for each frame",
        "corrupt": "gives noise in place of images",
        "away": "fails, and cannot be opened for a while",
        "size": "gives an image of another size",
        "exception": "raises on a frame",
        "memory": "has no memory for a frame",
    },
    "sink": {
        "stall": "does not answer for a while",
        "slow": "takes 0.1 s more for each image",
        "exception": "raises an error of its own",
        "memory": "has no memory for an image",
        "full": "has no space left",
    },
    "disk": {
        "stall": "takes nothing for a while",
        "slow": "takes 50 ms more for each write",
        "exception": "breaks",
        "full": "has no space left",
        "folder": "loses the folder of the recording",
    },
}
"""The faults by the place where they happen."""
ONCE = ("size", "time-back", "duplicate", "exception", "memory", "folder")
"""They happen to one frame, image or write; the others last."""
FOR_GOOD = "full"
ENDING = (
    *(("sink", kind) for kind in ("exception", "memory", "full")),
    *(("disk", kind) for kind in ("exception", "full", "folder")),
)
"""They end what they happen to, a sink or a recording, so none of them comes by chance."""
SLOW_S, SLOW_DISK_S = 0.1, 0.05
LENGTH_S = 2.0  # of a fault that lasts, where it is not said
LONGEST_S = 5.0  # of one by chance
EXAMPLE = "such as engine-stall@10+3,disk-full@60, or every=60,seed=1"
_FAULT = re.compile(r"([a-z]+)-([a-z-]+)@([0-9.]+)(?:\+([0-9.]+))?")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of ``kind`` at ``place``, ``at_s`` seconds after the begin of the run, for ``length_s`` seconds."""

    place: str
    kind: str
    at_s: float
    length_s: float = LENGTH_S

    def __str__(self) -> str:
        lasting = self.kind not in ONCE and self.kind != FOR_GOOD
        return f"{self.place}-{self.kind}" + (f" for {self.length_s:g} s" if lasting else "")


class FaultPlan:
    """The faults of a run in the order of their times, which begin when the first of them is looked for. A plan by
    chance has no end."""

    def __init__(self, faults: Iterator[Fault], text: str, clock: Clock = SYSTEM) -> None:
        self._faults, self._text, self.clock = faults, text, clock
        self._begin_ns: int | None = None
        self._waiting: dict[str, list[Fault]] = {place: [] for place in FAULTS}
        self._next = next(faults, None)
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return self._text

    def present(self, place: str) -> tuple[str, float]:
        """The kind of fault that happens at ``place`` now and the seconds that it still lasts; empty where none does.
        What happens once is given once. Any thread."""
        with self._lock:
            now = self.clock.now_ns()
            if self._begin_ns is None:
                self._begin_ns = now
            seconds = (now - self._begin_ns) / 1e9
            while self._next is not None and self._next.at_s <= seconds:
                self._waiting[self._next.place].append(self._next)
                log.warning(f"chaos: {self._next}")
                self._next = next(self._faults, None)
            waiting = self._waiting[place]
            while waiting:
                fault = waiting[0]
                if fault.kind in ONCE:
                    waiting.pop(0)
                    return fault.kind, 0.0
                left = fault.at_s + fault.length_s - seconds
                if left > 0 or fault.kind == FOR_GOOD:
                    return fault.kind, left
                waiting.pop(0)
            return "", 0.0

    def wait(self, seconds: float) -> None:
        self.clock.sleep_until(self.clock.now_ns() + int(seconds * 1e9))


def parse_plan(text: str, clock: Clock = SYSTEM) -> FaultPlan:
    """``PLACE-FAULT@SECOND[+LENGTH]``, several with commas between them; or ``every=SECONDS`` with ``seed=NUMBER``:
    one fault after the other by chance. Raises UsageError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if any("=" in part for part in parts):
        return FaultPlan(_by_chance(parts, text), text, clock)
    return FaultPlan(
        iter(sorted((_fault(part) for part in parts), key=lambda fault: fault.at_s)), text, clock
    )


def _fault(text: str) -> Fault:
    found = _FAULT.fullmatch(text)
    if found is None:
        raise UsageError(f"--chaos {shortened(text)} is not PLACE-FAULT@SECOND[+LENGTH]; {EXAMPLE}")
    place, kind, at, length = found.groups()
    if place not in FAULTS:
        raise UsageError(f"--chaos {shortened(text)}: the place is one of {', '.join(FAULTS)}")
    if kind not in FAULTS[place]:
        raise UsageError(
            f"--chaos {shortened(text)}: what happens to a {place} is one of {', '.join(FAULTS[place])}"
        )
    words = f"--chaos {shortened(text)}: a time is a number of seconds; {EXAMPLE}"
    with told_as(UsageError, words, ValueError):
        return Fault(place, kind, decimal_number(at), decimal_number(length) if length else LENGTH_S)


def _by_chance(parts: list[str], text: str) -> Iterator[Fault]:
    given = dict(part.partition("=")[::2] for part in parts)
    try:
        every, seed = decimal_number(given.pop("every", "60")), whole_number(given.pop("seed", "0"))
    except ValueError:
        every, seed = 0.0, 0
    if given or not every > 0:
        raise UsageError(f"--chaos {shortened(text)} is not every=SECONDS,seed=NUMBER; {EXAMPLE}")
    return _endless(random.Random(seed), every)


def _endless(chance: random.Random, every: float) -> Iterator[Fault]:
    """One fault in each ``every`` seconds, each kind as often as another, but for ENDING."""
    kinds = [(place, kind) for place in FAULTS for kind in FAULTS[place] if (place, kind) not in ENDING]
    begin = 0.0
    while True:
        place, kind = chance.choice(kinds)
        length = min(LONGEST_S, every / 2) * chance.uniform(0.2, 1)
        yield Fault(place, kind, begin + chance.uniform(0, every / 2), length)
        begin += every
