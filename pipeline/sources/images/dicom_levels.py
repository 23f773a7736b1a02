"""How the numbers of DICOM frames become grey levels, and which values are black and white (PS3.3, C.11)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from clesr.pipeline.frame import Image
from clesr.pipeline.sources.images.gray import TOP, Values, windowed
from clesr.pipeline.sources.images.indexed import Note, ValueRange, first_stated
from clesr.pipeline.sources.images.unreadable import UnreadableImage

_MOST_LEVELS = 1e15  # of a window, and the inverse of the fewest: what is beyond is damage
Rescale = tuple[float, float]  # slope and intercept, from what is stored to the unit


class FrameLevels:
    """Of frames whose unit is that of ``rescales``, one for all or one each. ``values`` says what their stored numbers
    are, but for the direction in which a unit falls; ``asked`` is the user's window in the unit, which ``stated`` ones
    stand for where there is none.

    ``window`` is the grey levels that become black and white in all frames. Where a user's window is other grey levels
    in each frame, the frames are stretched by it here. ``unit`` is the grey levels of the values 0 and 1, None where
    those are not the same in all frames, ``notes`` what is to be told."""

    def __init__(
        self,
        values: Values,
        rescales: Sequence[Rescale],
        asked: ValueRange | None,
        stated: Sequence[ValueRange | None],
    ) -> None:
        self._plain, self._rescales, self._asked = values, rescales, asked
        self._made: dict[Rescale, Values] = {}
        self.notes: list[Note] = []
        one_unit = len(set(rescales)) == 1
        self.unit = (self._levels(0, (0.0, 0.0))[0], self._levels(0, (1.0, 1.0))[0]) if one_unit else None
        self.window: ValueRange | None = None
        self._each = asked is not None and values.ranged and not one_unit
        if self._each:
            self.window = 0.0, float(TOP)
            text = "has frames of different units: --window is in that of each, and stretches them to 16 bit"
            self.notes.append(Note(logging.INFO, text))
        elif asked is not None:
            self.window = self._span(0, asked)
        else:
            self._take_stated(stated, one_unit=one_unit)

    def _take_stated(self, stated: Sequence[ValueRange | None], *, one_unit: bool) -> None:
        taken, self.notes = first_stated(stated, what="frames", one_unit=one_unit)
        if taken is not None:
            try:
                self.window = self._span(0, taken)
            except UnreadableImage as error:
                self.notes = [Note(logging.WARNING, f"states a window that is not taken: {error}")]

    def image(self, numbers: NDArray[Any], index: int) -> Image:
        """(H, W) uint8 or uint16 of what is stored of frame ``index``. Raises UnreadableImage."""
        image = self._values(index).image(numbers)
        if self._each and self._asked is not None:
            return windowed(image, *self._span(index, self._asked))
        return image

    def _span(self, index: int, window: ValueRange) -> ValueRange:
        """The grey levels of ``window`` in frame ``index``. Raises UnreadableImage where they are none."""
        low, high = self._levels(index, window)
        if not max(abs(low), abs(high)) < _MOST_LEVELS or not high - low > 1 / _MOST_LEVELS:
            slope, intercept = self._rescale(index)
            raise UnreadableImage(
                f"slope {slope:g} and intercept {intercept:g} leave no window of grey levels"
            )
        return low, high

    def _levels(self, index: int, window: ValueRange) -> ValueRange:
        return self._values(index).levels(*_stored(window, self._rescale(index)))

    def _rescale(self, index: int) -> Rescale:
        return self._rescales[index if len(self._rescales) > 1 else 0]

    def _values(self, index: int) -> Values:
        rescale = self._rescale(index)
        if rescale not in self._made:
            stored = None if self._asked is None else _stored(self._asked, rescale)
            inverted = self._plain.inverted != (rescale[0] < 0)
            self._made[rescale] = replace(self._plain, inverted=inverted, window=stored)
        return self._made[rescale]


def _stored(window: ValueRange, rescale: Rescale) -> ValueRange:
    """What stands in the file for the values of ``window``, in rising order."""
    slope, intercept = rescale
    low, high = sorted((value - intercept) / slope for value in window)
    return low, high
