"""How many frames a video has, and for how long it plays."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av

from clesr.engines.common.numbers import rational_number


@dataclass(frozen=True, slots=True)
class Length:
    """``frames`` that are shown, and ``seconds`` from the first to the end of the last, None without times."""

    frames: int
    seconds: float | None


def stated_frames(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """What the container says without being read, 0 where it does not; those outside of its edit list do not count."""
    outside = 0
    if container.format.name.startswith("mov"):
        outside = sum(entry.is_discard for entry in stream.index_entries)
    return max(0, stream.frames - outside)


def matroska_length(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction | None:
    """Seconds that a Matroska file states, of ``stream`` or of the whole; None where it does not."""
    stated = stream.metadata.get("DURATION", "").split(":")
    if len(stated) == 3:
        try:
            hours, minutes, seconds = (rational_number(part.strip()) for part in stated)
        except ValueError:
            return None
        return 3600 * hours + 60 * minutes + seconds
    only = len(container.streams) == 1 and container.duration is not None
    return Fraction(container.duration or 0, av.time_base) if only else None
