"""What every source promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from clesr.engines.common.text import shown
from clesr.pipeline.frame import Corrupt, Frame

Pace = str | float
"""Of recorded input: ``original``, ``max``, or frames a second."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source is. ``live`` sources go on without us: a slow reader loses frames; recorded ones wait.

    ``fps`` and ``frames`` (their number) are None where the source cannot tell; ``shape`` is (H, W) of the
    next frame, or None before the first where it is not known. ``address`` is kept as it may be shown: without the
    secrets of a network address.
    """

    address: str
    live: bool
    fps: float | None = None
    shape: tuple[int, int] | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", shown(self.address))


class Source(Protocol):
    """Frames, one after the other. One thread reads; ``close`` may come from another."""

    info: SourceInfo

    def read(self, timeout: float) -> Frame | Corrupt | None:
        """The next frame; a Corrupt one where it could not be decoded; None after ``timeout`` seconds without.

        Numbers rise; a gap means frames lost at the source. Raises EndOfSource after the last frame of
        recorded input, SourceError where the source is broken for good. A source that can come back (an
        unplugged camera) returns None meanwhile and reopens by itself.
        """

    def close(self) -> None:
        """Give the device or file back. May be called twice; a waiting ``read`` returns soon."""
