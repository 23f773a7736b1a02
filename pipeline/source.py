"""What every source promises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, runtime_checkable

from clesr.engines.common.errors import SourceError, UsageError
from clesr.engines.common.numbers import decimal_number, shortened
from clesr.engines.common.text import shown
from clesr.pipeline.frame import Corrupt, Frame, Outage

Pace = str | float
"""Of recorded input: ``original``, ``max``, or frames a second."""
MIN_RATE, MAX_RATE = 0.001, 100_000.0


def parse_pace(pace: Pace) -> Pace:
    """``original``, ``max``, or a rate in frames a second as a float. Raises UsageError."""
    if pace in ("original", "max"):
        return pace
    try:
        rate = decimal_number(pace) if isinstance(pace, str) else float(pace)
    except ValueError:
        rate = math.nan
    if not MIN_RATE <= rate <= MAX_RATE:
        given = shortened(pace) if isinstance(pace, str) else str(pace)
        raise UsageError(
            f"pace is {given}; allowed is original, max, or frames a second from {MIN_RATE:g} to {MAX_RATE:g}"
        )
    return rate


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source is. ``live`` sources go on without us: a slow reader loses frames; recorded ones wait.

    ``fps`` and ``frames`` (their number) are None where the source cannot tell, ``seconds`` (how long it plays) where
    that was not counted; ``shape`` is (H, W) of the next frame, or None before the first where it is not known.
    ``pixel_aspect`` is the width of a pixel over its height. ``address`` is kept as it may be shown: without the
    secrets of a network address. ``window`` are the grey levels of the frames that are black and white, where the file
    states them or the user said so in values of the file. ``cores`` is the file of a calibration by which the
    cores of a fibre bundle are to be removed from the frames, where the source has one.
    """

    address: str
    live: bool
    fps: float | None = None
    shape: tuple[int, int] | None = None
    frames: int | None = None
    window: tuple[float, float] | None = None
    seconds: float | None = None
    pixel_aspect: Fraction = Fraction(1)
    cores: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", shown(self.address))


class Source(Protocol):
    """Frames, one after the other. One thread reads; ``close`` may come from another."""

    info: SourceInfo

    def read(self, timeout: float) -> Frame | Corrupt | Outage | None:
        """The next frame; a Corrupt one where it could not be decoded; None after ``timeout`` seconds without.

        A live source that was away, and whose numbers do not tell how many frames are missing, gives an Outage first.
        Numbers rise; a gap means frames lost at the source. Raises EndOfSource after the last frame of
        recorded input, SourceError where the source is broken for good. A source that can come back (an
        unplugged camera) returns None meanwhile and reopens by itself.
        """

    def close(self) -> None:
        """Give the device or file back. May be called twice; a waiting ``read`` returns soon."""


def restarts_of(source: Source | None) -> int:
    """How often ``source`` was open again after it broke: its ``restarts``, 0 where it has none."""
    restarts: int = getattr(source, "restarts", 0)
    return restarts


@runtime_checkable
class AdjustableSource(Protocol):
    """A source whose camera can be set while it runs."""

    def adjust(self, name: str, value: str) -> None:
        """Set the control ``name``, such as exposure or gain, for the frames that come. Any thread. Raises UsageError
        for what the camera does not have, SourceError where it refuses or is away."""


@runtime_checkable
class LackingSource(Protocol):
    """An `AdjustableSource` that knows what it has no control for."""

    def lacks(self, name: str) -> str:
        """Why the control ``name`` can never be set, in a line; nothing where it can, or is away now. Any thread."""


def adjust(source: Source | None, name: str, value: str) -> None:
    """`AdjustableSource.adjust` of ``source``; raises UsageError where it is no camera that can be set."""
    if source is None:
        raise SourceError(f"{name} cannot be set while the source is away")
    if not isinstance(source, AdjustableSource):
        raise UsageError(lacks(source, name))
    source.adjust(name, value)


def lacks(source: Source | None, name: str) -> str:
    """`LackingSource.lacks` of ``source``, also where it is no camera that can be set."""
    if isinstance(source, LackingSource):
        return source.lacks(name)
    if source is None or isinstance(source, AdjustableSource):
        return ""
    return f"{source.info.address} has no {name} that could be set; cameras of V4L2 have one"


class SourceWrapper:
    """What a source around another passes on to that one, None while it is away."""

    _source: Source | None

    @property
    def restarts(self) -> int:
        return restarts_of(self._source)

    def adjust(self, name: str, value: str) -> None:
        adjust(self._source, name, value)

    def lacks(self, name: str) -> str:
        return lacks(self._source, name)

    def close(self) -> None:
        if (source := self._source) is not None:
            source.close()
