"""Recorded images that can be had by index: what Cellvizio files, TIFF stacks, DICOM and folders share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from clesr.engines.common.clock import ASSUMED_FPS, SYSTEM, Clock
from clesr.engines.common.errors import EndOfSource, UsageError
from clesr.engines.common.parsing import one_line
from clesr.pipeline.frame import Corrupt, Frame, Image
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.images.times import FrameTimes as FrameTimes  # for readers
from clesr.pipeline.sources.images.unreadable import UnreadableImage as UnreadableImage  # for readers
from clesr.pipeline.sources.registry import SourceOptions

log = logging.getLogger(__name__)
ValueRange = tuple[float, float]


class Note(NamedTuple):
    """What is to be told of a file, behind its name: at ``level`` of logging."""

    level: int
    text: str


def tell(name: str, notes: Iterable[Note], options: SourceOptions) -> None:
    """Log ``notes`` of the file ``name``, unless nothing is to be told."""
    if options.tell:
        for note in notes:
            log.log(note.level, f"{name} {note.text}")


def first_stated(
    windows: Sequence[ValueRange | None], *, what: str, one_unit: bool
) -> tuple[ValueRange | None, list[Note]]:
    """The first of the ``windows`` that each of ``what`` (files, frames) states in its own unit, which all of them are
    to have, and what is to be told of it. None where none states one, or where they have not ``one_unit``: the same
    grey levels would be other values in each. One for all: brightness stays the same."""
    stated = next((window for window in windows if window is not None), None)
    if stated is None:
        return None, []
    text = f"states a window of {stated[0]:g} to {stated[1]:g}, which "
    if not one_unit:
        text += (
            f"is not taken: the {what} have different units or depths (--window LOW,HIGH is in those of each)"
        )
        return None, [Note(logging.WARNING, text)]
    text += "--window auto takes (--window full: not)"
    if others := sum(window != stated for window in windows):
        text += f" for all {len(windows)} {what}; {others} of them state another or none"
    return stated, [Note(logging.INFO, text)]


def timed(own: FrameTimes | None, count: int, name: str, options: SourceOptions) -> FrameTimes | None:
    """The times of ``count`` images: those that the user says, else the file's ``own``, else a constant rate, which is
    told. None for one image without times."""
    if options.fps is not None:
        return FrameTimes.constant(options.fps, count)
    if own is not None or count < 2:
        return own
    tell(
        name,
        [Note(logging.INFO, f"states no times that rise: taken as {ASSUMED_FPS:g} frames/s (--fps)")],
        options,
    )
    return FrameTimes.constant(ASSUMED_FPS, count)


def chosen(option: str, what: str, given: int | None, count: int, name: str) -> int:
    """``given``, or 0, as the index of one of ``count``. Raises UsageError where there are fewer."""
    if given is None:
        return 0
    if given >= count:
        allowed = f"0 to {count - 1}" if count > 1 else "0"
        raise UsageError(
            f"{option} {given}: {name} has {count} {what}{'s' * (count != 1)}; allowed is {allowed}"
        )
    return given


class IndexedSource:
    """One frame an image, numbered by index, as fast as it is read. ``times`` gives ``pts``, where known.

    ``image`` gives the image of an index, (H, W) uint8 or uint16, C-contiguous, and raises UnreadableImage; ``count``
    says how many there are, those that cannot be read among them. ``window`` and ``pixel_aspect`` are those of
    ``SourceInfo``. ``release`` gives files back.
    """

    def __init__(
        self,
        image: Callable[[int], Image],
        count: int,
        address: str,
        *,
        release: Callable[[], None] = lambda: None,
        clock: Clock = SYSTEM,
        times: FrameTimes | None = None,
        shape: tuple[int, int] | None = None,
        window: tuple[float, float] | None = None,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        fps = times.fps if times is not None else None
        self.info = SourceInfo(
            address,
            live=False,
            fps=fps,
            shape=shape,
            frames=count,
            window=window,
            seconds=times.seconds if times is not None else None,
            pixel_aspect=pixel_aspect,
        )
        self._image, self._release, self._clock, self._times = image, release, clock, times
        self._next, self._stop = 0, count
        self._lock = threading.Lock()

    def read(self, timeout: float) -> Frame | Corrupt | None:
        """The next image; ``timeout`` does not matter, a file never waits. Raises EndOfSource."""
        with self._lock:
            number = self._next
            if number >= self._stop:
                raise EndOfSource
            self._next += 1
            try:
                image = self._image(number)
                pts, base = (
                    (None, None) if self._times is None else (self._times.pts[number], self._times.base)
                )
                return Frame(image, number, self._clock.now_ns(), pts, base)
            except UnreadableImage as error:
                return Corrupt(number, self._clock.now_ns(), str(error))
            except Exception as error:  # noqa: BLE001 - whatever a library meets in a damaged image
                return Corrupt(number, self._clock.now_ns(), f"cannot be read ({one_line(error)})")

    def restrict(self, start: int, stop: int) -> None:
        """Give images ``start`` to ``stop`` (exclusive) alone."""
        self._next, self._stop = start, min(stop, self._stop)
        self.info = replace(self.info, frames=stop - start, seconds=None)

    def close(self) -> None:
        with self._lock:
            self._next = self._stop
            self._release()
