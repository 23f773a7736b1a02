"""Which frames of a recording are exported."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from clesr.engines.common.errors import ClesrError, UsageError
from clesr.engines.common.numbers import shortened
from clesr.tools.export.clip import Still


@dataclass(frozen=True, slots=True)
class Selection:
    """Frames by their number: from ``first`` to ``last`` (None: to the end), of these only ``only`` where it is
    given, and of these one in every ``seconds``."""

    first: int = 0
    last: int | None = None
    only: Collection[int] = ()
    seconds: float | None = None

    def __contains__(self, number: int) -> bool:
        within = self.first <= number and (self.last is None or number <= self.last)
        return within and (not self.only or number in self.only)

    @property
    def end(self) -> int | None:
        """The last number that can be wanted, None where there is none."""
        ends = [end for end in (self.last, max(self.only, default=None)) if end is not None]
        return min(ends, default=None)

    def __str__(self) -> str:
        return f"--frames {self.first}-{'' if self.last is None else self.last}"


def parse_frames(text: str) -> tuple[int, int | None]:
    """``A-B``, ``A-`` or ``-B``, both ends included; raises UsageError for anything else."""
    match = re.fullmatch(r"([0-9]{0,18})-([0-9]{0,18})", text)
    if match is None or text == "-":
        raise UsageError(
            f"--frames {shortened(text)} is not A-B, A- or -B, by the numbers of the frames, such as 0-249"
        )
    first, last = int(match[1] or 0), int(match[2]) if match[2] else None
    if last is not None and last < first:
        raise UsageError(f"--frames {text}: the end is before the beginning")
    return first, last


def absent_error(address: str, kind: str, frames: Iterable[str]) -> ClesrError:
    """What is raised where frames were asked for by number and are not there."""
    return ClesrError(f"{address} has no {kind} image of frame {', '.join(frames)}; nothing was written")


def thin(stills: Iterable[Still], seconds: float | None) -> Iterator[Still]:
    """The first of ``stills``, then of each following ``seconds`` the first; all of them for None."""
    if seconds is None:
        yield from stills
        return
    period, due = max(1, round(seconds * 1e9)), None
    for still in stills:
        due = still.time_ns if due is None else due
        if still.time_ns >= due:
            due += period * (1 + (still.time_ns - due) // period)
            yield still
