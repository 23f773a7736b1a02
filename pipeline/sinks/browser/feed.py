"""The newest picture of a stream, encoded as those who look at it wish, once for all with the same wish."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2

from clesr.engines.common.errors import SinkError
from clesr.engines.common.png import png_bytes
from clesr.engines.common.processor import schedule
from clesr.pipeline.display.pace import DrawingPace
from clesr.pipeline.frame import Image
from clesr.pipeline.messages import stream_thread

QUALITIES = (0, 50, 75, 90, 97)  # of JPEG; 0 is lossless PNG
USUAL = 90
# Of all settings of PNG the fastest: 15 ms for 1024x1024 on one core, half of what libpng takes by itself; lossless
# WebP takes 100 to 800 ms.
PNG = [
    cv2.IMWRITE_PNG_COMPRESSION, 1,
    cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_AVG,
]  # fmt: skip


def encode(image: Image, quality: int) -> bytes:
    """``image``, (H, W) or (H, W, 3) uint8, as PNG for a ``quality`` of 0, else as JPEG of that quality."""
    if not quality:
        return png_bytes(image, PNG)
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling])
    if not done:
        raise SinkError(f"a picture of {image.shape} cannot be encoded as JPEG")
    return data.tobytes()


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """What is to be shown: ``draw`` gives its pixels, (H, W) or (H, W, 3) uint8; ``facts`` is what is said of it, as
    JSON; ``time_ns`` when it was captured, None where that tells nothing."""

    draw: Callable[[], Image]
    facts: Mapping[str, Any]
    time_ns: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A drawing encoded by a ``quality``; ``version`` counts the drawings of its feed."""

    version: int
    drawing: Drawing
    shape: tuple[int, int]
    quality: int
    data: bytes


class Feed:
    """Draws and encodes the newest drawing on a thread of its own, while somebody waits for it; else it costs nothing.

    ``ready`` is called on that thread when there is a new picture. Pictures of each quality rest by themselves, as
    ``pace`` says: those that take long hold up no page that wishes others. What drawing or encoding raises is kept as
    ``error``, and nothing more is drawn.
    """

    def __init__(self, ready: Callable[[], None], pace: DrawingPace | None = None) -> None:
        self.error: Exception | None = None
        self._ready, self._pace = ready, pace or DrawingPace()
        self._changed = threading.Condition()
        self._drawing: Drawing | None = None
        self._version = 0
        self._wanted: set[int] = set()
        self._made: dict[int, Picture] = {}
        self._closed = False
        self._thread = stream_thread("clesr browser pictures", self._work)
        self._thread.start()

    @property
    def version(self) -> int:
        return self._version

    def show(self, drawing: Drawing) -> None:
        """``drawing`` takes the place of the one before. Any thread; never waits for a picture."""
        with self._changed:
            self._drawing, self._version = drawing, self._version + 1
            if self._due():
                self._changed.notify()

    def picture(self, quality: int, at_least: int) -> Picture | None:
        """The picture of that quality whose version is ``at_least`` this; None where it is not there: then it is made
        as soon as can be."""
        with self._changed:
            made = self._made.get(quality)
            if made is not None and made.version >= at_least:
                return made
            self._wanted.add(quality)
            self._changed.notify()
            return None

    def close(self) -> None:
        """Make no more. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        schedule("SCHED_BATCH")
        while True:
            with self._changed:
                while not (self._closed or self._due()):
                    rests = [rest_s for quality in self._wanted if (rest_s := self._pace.rest_s(quality))]
                    self._changed.wait(min(rests, default=None))
                if self._closed:
                    return
                drawing, version, due = self._drawing, self._version, self._due()
                self._wanted -= due
            assert drawing is not None
            try:
                self._make(drawing, version, due)
            except Exception as error:  # noqa: BLE001 - the sink raises it
                self.error = error
                return

    def _due(self) -> set[int]:
        """The wished qualities that do not rest, and of which the newest drawing has no picture yet."""
        made = self._made
        return {
            quality
            for quality in self._wanted
            if self._drawing is not None
            and (quality not in made or made[quality].version < self._version)
            and not self._pace.rest_s(quality)
        }

    def _make(self, drawing: Drawing, version: int, qualities: set[int]) -> None:
        begun_s = time.thread_time()
        image = drawing.draw()
        drawn_s = time.thread_time() - begun_s
        for quality in sorted(qualities, reverse=True):
            begun_s = time.thread_time()
            data = encode(image, quality)
            picture = Picture(version, drawing, (image.shape[0], image.shape[1]), quality, data)
            with self._changed:
                self._made[quality] = picture
                self._pace.drew(drawn_s + time.thread_time() - begun_s, quality)
            self._ready()
