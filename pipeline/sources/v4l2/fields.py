"""Interlaced cameras: whole images of the fields that they send, by V4L2's names for their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import av
import numpy as np
from linuxpy.video import device as v4l2  # type: ignore[import-untyped]

from clesr.pipeline.frame import Frame, Image
from clesr.pipeline.video.deinterlace import Deinterlacer
from clesr.pipeline.video.luma import luma

_FIELD = v4l2.Field
_ONE = (_FIELD.TOP, _FIELD.BOTTOM)
_APART = (_FIELD.SEQ_TB, _FIELD.SEQ_BT)
_LINES_60_HZ = 480  # active lines of standards with 60 fields a second, whose lower field comes first


@dataclass(frozen=True, slots=True, eq=False)
class Captured:
    """What a buffer held. ``sequence`` counts modulo 2**32; ``stamp_ns`` is the driver's monotonic time, or
    None where it gives none; ``reason`` says why there is no image."""

    sequence: int
    stamp_ns: int | None
    image: Image | None
    reason: str = ""


class Fields:
    """Makes images of buffers of a device that states the field order ``field``, of ``height`` lines a buffer."""

    def __init__(self, field: int, height: int) -> None:
        self.field = field
        self.alternate = field == _FIELD.ALTERNATE
        self.single = field in _ONE  # every image has the lines of one field alone
        self.lines = 2 * height if self.alternate else height
        self.first = _first_field(field, self.lines)
        self._waiting: tuple[Captured, int] | None = None

    def put(self, captured: Captured, field: int) -> Captured | None:
        """The image that ``captured`` completes, whose buffer says that it is of ``field``; None where its other half
        is still to come."""
        if self.field in _APART and captured.image is not None:
            return replace(captured, image=_woven(captured.image, top_first=self.field == _FIELD.SEQ_TB))
        if not self.alternate:
            return captured
        before, self._waiting = self._waiting, (captured, field)
        if before is None:
            return None
        other, its_field = before
        if other.sequence != captured.sequence or its_field == field:
            return replace(other, image=None, reason=other.reason or "one of its two fields is missing")
        self._waiting = None
        if other.image is None or captured.image is None:
            return replace(other, image=None, reason=other.reason or captured.reason)
        both = np.concatenate([other.image, captured.image])
        return replace(other, image=_woven(both, top_first=its_field == _FIELD.TOP))


class WholeFrames:
    """Deinterlaces frames: one for each, when the one after it has come."""

    def __init__(self, first: str) -> None:
        self._deinterlacer = Deinterlacer(first)
        self._held: deque[Frame] = deque()
        self._count = 0

    def push(self, frame: Frame) -> Iterator[Frame]:
        if frame.image.dtype == np.uint8:
            picture = av.VideoFrame.from_ndarray(frame.image.astype(np.uint8), "gray")
        else:
            picture = av.VideoFrame.from_ndarray(frame.image.astype(np.uint16), "gray16le")
        picture.pts, self._count = self._count, self._count + 1
        made = self._deinterlacer.push(picture)
        self._held.append(frame)
        yield from self._given(made)

    def flush(self) -> Iterator[Frame]:
        """What is held: what comes next does not follow on it."""
        yield from self._given(self._deinterlacer.flush())

    def _given(self, pictures: Iterator[av.VideoFrame]) -> Iterator[Frame]:
        for picture in pictures:
            yield replace(self._held.popleft(), image=luma(picture))


def _woven(fields: Image, *, top_first: bool) -> Image:
    """One image of two fields that lie one behind the other."""
    half = fields.shape[0] // 2
    image = np.empty_like(fields)
    image[0 if top_first else 1 :: 2] = fields[:half]
    image[1 if top_first else 0 :: 2] = fields[half:]
    return image


def _first_field(field: int, lines: int) -> str | None:
    """Which of the two fields of an image of so many ``lines`` was taken first; None where it has not two."""
    if field in (_FIELD.INTERLACED_TB, _FIELD.SEQ_TB):
        return "top"
    if field in (_FIELD.INTERLACED_BT, _FIELD.SEQ_BT):
        return "bottom"
    if field in (_FIELD.INTERLACED, _FIELD.ALTERNATE):
        return "bottom" if lines <= _LINES_60_HZ else "top"
    return None
