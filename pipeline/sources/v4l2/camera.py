"""A V4L2 camera that may be unplugged and come back."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import WHY, SourceError, UsageError, told_as
from clesr.pipeline.frame import Corrupt, Frame, Outage
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.v4l2.capture import Capture
from clesr.pipeline.sources.v4l2.fields import Captured, WholeFrames
from clesr.pipeline.sources.v4l2.modes import Wanted
from clesr.pipeline.sources.v4l2.pixels import find_format

log = SafeLogger(logging.getLogger(__name__))
PROBE_NS = 250_000_000  # how often an absent camera is looked for
_UNPLUGGED = "it was unplugged"
WRAP = 1 << 32  # the driver's sequence is an unsigned 32-bit number


class CameraSource:
    """Frames of the V4L2 device at path ``device``, live.

    ``size`` is (width, height) in pixels, ``pixel_format`` a name in ``pixels.FORMATS``; what is None is left to the
    camera, but for the format: the most gray levels that give the size and rate. ``controls`` go by name:
    ``exposure`` and ``gain`` in the camera's own units, which switches their automatic off, and any other by
    linuxpy's name (lower case, underscores), menu entries by text or number. ``signal`` has ``input``, ``standard``
    and ``timings`` of a frame grabber (inputs.py); ``levels`` and ``deinterlace`` are those of ``open_source``.

    A frame's number follows the driver's sequence, its time is the driver's. A camera that was unplugged
    is looked for four times a second and opened again as it was; numbers go on from the last one, after an Outage.

    Raises UsageError for what the camera does not offer, SourceError where it is absent, busy, or no camera.
    """

    def __init__(
        self,
        device: str,
        *,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        pixel_format: str | None = None,
        controls: Mapping[str, str] = {},
        clock: Clock = SYSTEM,
        signal: Mapping[str, str] = {},
        levels: str = "auto",
        deinterlace: bool = False,
    ) -> None:
        asked = None if pixel_format is None else find_format(pixel_format)
        wanted = Wanted(size, fps, asked, dict(controls), levels=levels, **signal)
        self._deinterlace = deinterlace
        self._whole: WholeFrames | None = None
        self._ready: deque[Frame | Corrupt] = deque()
        self._device, self._clock = device, clock
        self._capture: Capture | None = Capture(device, wanted)
        self._wanted = replace(wanted, size=self._capture.size, pixel_format=self._capture.pixel_format)
        self._begin(self._capture)
        self.restarts = 0  # how often it was open again
        self._number, self._sequence = -1, -1  # of the last frame; -1 before the first of this opening
        self._gone = False  # unplugged, as the reader is to be told after the frames before
        self._away = False  # unplugged, as the reader was told
        self._held: Frame | Corrupt | None = None  # the first frame after that
        self._next_probe = clock.now_ns()
        self._reading = threading.Lock()
        self._closed = False
        self._wake = os.eventfd(0)
        weakref.finalize(self, os.close, self._wake)

    def read(self, timeout: float) -> Frame | Corrupt | Outage | None:
        """The next frame; None after ``timeout`` seconds without, while unplugged too, and once closed. An Outage when
        it was unplugged, and before the first frame after it."""
        held, self._held = self._held, None
        if held is not None:
            return held
        item = self._next(timeout)
        if isinstance(item, Frame | Corrupt) and self._away:
            self._away, self._held = False, item
            return Outage(_UNPLUGGED)
        return item

    def _next(self, timeout: float) -> Frame | Corrupt | Outage | None:
        deadline = self._clock.now_ns() + int(timeout * 1e9)
        with self._reading:
            while not self._closed:
                if self._ready:
                    return self._ready.popleft()
                if self._gone:
                    self._gone, self._away = False, True
                    return Outage(_UNPLUGGED, over=False)
                try:
                    if self._capture is None:
                        if not self._probe(deadline):
                            return None
                        continue
                    remaining = deadline - self._clock.now_ns()
                    ready = self._capture.wait(remaining / 1e9, self._wake)
                    captured = self._capture.take() if ready else None
                except OSError:
                    self._lose()
                    self._gone = self._number >= 0 and not self._away
                    continue
                if captured is not None:
                    self._take(self._number_and_time(captured))
                elif not ready or remaining <= 0:
                    return None
        return None

    def adjust(self, name: str, value: str) -> None:
        """As a control of the address: also where the camera was unplugged and comes back."""
        capture = self._capture
        if capture is None:
            raise SourceError(f"{self._device} is away; set its {name} when it is back")
        with told_as(SourceError, f"{self._device} does not take {name}={value}: {WHY}"):
            capture.adjust({name: value})
        self._wanted = replace(self._wanted, controls={**self._wanted.controls, name: value})
        log.info(f"{self._device}: {name} is {value} now")

    def lacks(self, name: str) -> str:
        capture = self._capture
        return "" if capture is None else capture.lacks(name)

    def close(self) -> None:
        """Give the device back; a waiting ``read`` in another thread returns None."""
        self._closed = True
        os.eventfd_write(self._wake, 1)
        with self._reading:
            self._lose()

    def _lose(self) -> None:
        if self._capture is not None:
            self._capture.close()
        if self._whole is not None:
            self._ready.extend(self._whole.flush())
        self._capture, self._sequence = None, -1

    def _probe(self, deadline: int) -> bool:
        """Look once, when it is time, whether the camera is back; False at the deadline."""
        self._clock.sleep_until(min(self._next_probe, deadline))
        if self._next_probe > deadline:
            return False
        self._next_probe = self._clock.now_ns() + PROBE_NS
        if os.path.exists(self._device):
            try:
                self._capture = Capture(self._device, self._wanted)
            except UsageError as error:
                raise SourceError(f"another camera came back: {error}") from error
            except SourceError:
                return True  # not ready yet: it may still get its name, its permissions, its settings
            self._begin(self._capture)
            self.restarts += 1
        return True

    def _begin(self, capture: Capture) -> None:
        """What is to be known of a device that has been opened."""
        self.info = _info(capture)
        first = capture.fields.first
        self._whole = WholeFrames(first) if first is not None and self._deinterlace else None
        if first is not None and not self._deinterlace:
            remedy = "what moves has combs, which --deinterlace removes"
            log.warning(f"{capture.address} is interlaced, {first} field first: {remedy}")

    def _take(self, item: Frame | Corrupt) -> None:
        """``item`` next, or what the deinterlacer makes of it and the frame before."""
        if self._whole is None:
            self._ready.append(item)
        elif isinstance(item, Frame):
            self._ready.extend(self._whole.push(item))
        else:
            self._ready.extend((*self._whole.flush(), item))

    def _number_and_time(self, captured: Captured) -> Frame | Corrupt:
        if self._sequence >= 0:
            step = (captured.sequence - self._sequence) % WRAP
            self._number += step if 0 < step < WRAP // 2 else 1  # some drivers do not count
        else:
            self._number = self._number + 1 if self._number >= 0 else captured.sequence
        self._sequence = captured.sequence
        now = self._clock.now_ns()
        time_ns = now if captured.stamp_ns is None else min(captured.stamp_ns, now)
        if captured.image is None:
            return Corrupt(self._number, time_ns, captured.reason)
        return Frame(captured.image, self._number, time_ns)


def _info(capture: Capture) -> SourceInfo:
    width, height = capture.size
    aspect = Fraction(1, 2) if capture.fields.single else Fraction(1)
    return SourceInfo(capture.address, live=True, fps=capture.fps, shape=(height, width), pixel_aspect=aspect)
