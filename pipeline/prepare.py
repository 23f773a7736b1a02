"""From a captured frame to the LR image that the engine reads: fibre cores, region of interest, intensity window."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.errors import UsageError, told_as
from clesr.engines.common.numbers import decimal_number, shortened, whole_number
from clesr.pipeline.cores.calibration import CoreCalibration
from clesr.pipeline.cores.flat_field import FRAMES, CalibrationTaker
from clesr.pipeline.cores.removal import CoreRemoval
from clesr.pipeline.frame import Frame, Image, Temporal
from clesr.pipeline.guide import Guide

PERCENTILES = (0.5, 99.8)  # of the pixels in the centre, mapped to black and white
SMOOTHING_S = 1.0  # time constant with which a percentile window follows the image
CENTRE = 0.95  # of the inscribed ellipse that is measured
STRIDE = 2  # rows and columns that are measured


@dataclass(frozen=True, slots=True)
class Roi:
    """A rectangle of the frame in pixels: ``x``, ``y`` of its upper left corner, width and height."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str, option: str = "--roi") -> Roi:
        """``X,Y,WIDTH,HEIGHT``; raises UsageError, which names ``option``, for anything else."""
        words = f"{option} {shortened(text)} is not X,Y,WIDTH,HEIGHT in pixels, such as 0,0,256,256"
        with told_as(UsageError, words, ValueError):
            x, y, width, height = (whole_number(part.strip()) for part in text.split(","))
        if x < 0 or y < 0 or width < 1 or height < 1:
            raise UsageError(
                f"{option} {shortened(text)} has a negative corner or an empty size; give X,Y >= 0 and sizes >= 1"
            )
        return cls(x, y, width, height)

    def check(self, shape: tuple[int, int], option: str = "--roi") -> None:
        """Raises UsageError, which names ``option``, where the rectangle leaves a frame of ``shape`` (H, W)."""
        height, width = shape
        if self.x + self.width > width or self.y + self.height > height:
            raise UsageError(
                f"{option} {self} leaves the {width}x{height} frame; "
                f"X + WIDTH must be at most {width} and Y + HEIGHT at most {height}"
            )

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.width},{self.height}"

    def cut(self, image: Image) -> Image:
        """The rectangle out of ``image`` as a view."""
        return image[self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True, slots=True)
class IntensityWindow:
    """How grey levels are stretched before the engine. ``mode``: ``full`` leaves them, ``fixed`` maps
    ``low``..``high`` (levels of the source) to black..white, ``percentile`` follows the image smoothly,
    ``auto`` is ``full`` for 8-bit and ``percentile`` for 16-bit frames."""

    mode: str = "auto"
    low: float = 0.0
    high: float = 0.0

    def __str__(self) -> str:
        return f"{_number(self.low)},{_number(self.high)}" if self.mode == "fixed" else self.mode

    @classmethod
    def parse(cls, text: str) -> IntensityWindow:
        """``auto``, ``full``, ``percentile`` or ``LOW,HIGH``; raises UsageError for anything else."""
        if text in ("auto", "full", "percentile"):
            return cls(text)
        words = f"--window {shortened(text)} is not auto, full, percentile, or LOW,HIGH such as 200,5000"
        with told_as(UsageError, words, ValueError):
            low, high = (decimal_number(part.strip()) for part in text.split(","))
        if not low < high:
            raise UsageError(f"--window {shortened(text)}: LOW must be below HIGH")
        return cls("fixed", low, high)

    def or_stated(self, levels: tuple[float, float] | None) -> IntensityWindow:
        """The window of the ``levels`` of a source (``SourceInfo.window``), where it has some and this one is ``auto``
        or what they were made from; else this one."""
        if levels is None or self.mode not in ("auto", "fixed"):
            return self
        return IntensityWindow("fixed", *levels)


def _number(value: float) -> str:
    """``value`` in as few digits as mean it exactly: a session is rendered again by them."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


class Prepare:
    """Removes the fibre cores of frames of one source, in order, cuts and stretches them. Called by one thread.
    ``levels`` are those that the last frame's black and white were, None where it was not stretched. ``guide`` and
    ``temporal`` go on with each frame, to the engine's thread: one tells the network of it, the other lets earlier
    frames help it.

    ``cores`` is the calibration of the probe, by which the pattern of its cores is removed while ``remove_cores`` is
    True. Any thread may set both, between two frames, and call ``calibrate``. ``removed`` is the calibration by which
    that was done to the last frame, None where it was not.

    The percentile window is measured in the inscribed ellipse, so that the black corners of a round
    field of view do not count, and follows with a time constant of ``SMOOTHING_S`` seconds of capture
    time, so that brightness does not flicker; it starts anew when the size or depth changes.
    """

    def __init__(
        self,
        *,
        roi: Roi | None = None,
        window: IntensityWindow | None = None,
        guide: Guide | None = None,
        temporal: Temporal | None = None,
        cores: CoreCalibration | None = None,
    ) -> None:
        self.cores, self.remove_cores = cores, True
        self.removed: CoreCalibration | None = None
        self._removal: CoreRemoval | None = None
        self._takers: list[CalibrationTaker] = []
        self._ended = False
        self.roi, self.window = roi, window or IntensityWindow()
        self.guide, self.temporal = guide or Guide(), temporal
        self.levels: tuple[float, float] | None = None
        self._levels: NDArray[np.float64] | None = None
        self._kind: tuple[tuple[int, int], np.dtype[np.generic]] | None = None
        self._time_ns = 0

    def shape(self, captured: tuple[int, int]) -> tuple[int, int]:
        """The LR shape (H, W) of frames of shape ``captured``; raises UsageError for a bad ROI, or
        where the calibration of the cores is for another size."""
        if self.cores is not None:
            self.cores.check(captured)
        if self.roi is None:
            return captured
        self.roi.check(captured)
        return self.roi.height, self.roi.width

    def __call__(self, frame: Frame) -> Image:
        """The LR image of ``frame``: its own array where nothing is to be done, else a new one."""
        for taker in tuple(self._takers):
            if taker.add(frame.image):
                self._takers.remove(taker)
        image = self._without_cores(frame)
        if self.roi is not None:
            self.roi.check((image.shape[0], image.shape[1]))
            image = np.ascontiguousarray(self.roi.cut(image))
        self.levels = self.find_levels(image, frame)
        return image if self.levels is None else stretch(image, *self.levels)

    def find_cores(self, frame: Frame) -> CoreCalibration | None:
        """The calibration by which the cores of ``frame`` are removed; None where they are not."""
        return self.cores if self.remove_cores else None

    def calibrate(
        self, frames: int = FRAMES, *, name: str = "", tell: Callable[[int], None] = lambda _taken: None
    ) -> Future[CoreCalibration]:
        """Any thread: the calibration that the next ``frames`` frames make, which must show a flat field. They are seen
        as they are captured, and go on as ever; ``tell`` is called with how many were taken, on the source thread. What
        is found is not used before it is made ``cores``.

        The future raises what ``FlatField`` and ``find_cores`` raise, and SourceError where the run ends before. ::

            prepare.cores = prepare.calibrate(25).result(timeout=60)
        """
        taker = CalibrationTaker(frames, name, tell)
        self._takers.append(taker)
        if self._ended:
            self.end()
        return taker.future

    def end(self) -> None:
        """No frame comes any more: calibrations that wait for some fail."""
        self._ended = True
        while self._takers:
            self._takers.pop().give_up()

    def _without_cores(self, frame: Frame) -> Image:
        cores = self.find_cores(frame)
        if cores is not self.removed:
            self._levels = None  # brightness is another
        if cores is not None and (self._removal is None or self._removal.calibration is not cores):
            self._removal = CoreRemoval(cores)
        self.removed = cores
        return frame.image if cores is None or self._removal is None else self._removal(frame.image)

    def find_levels(self, image: Image, frame: Frame) -> tuple[float, float] | None:
        """The levels of ``image``, cut from ``frame``, that become black and white; None where it stays as it is."""
        mode = self.window.mode
        if mode == "auto":
            mode = "full" if image.dtype == np.uint8 else "percentile"
        if mode == "full":
            return None
        if mode == "percentile":
            return self._follow(image, _media_ns(frame))
        return self.window.low, self.window.high

    def _follow(self, image: Image, time_ns: int) -> tuple[float, float]:
        kind = ((image.shape[0], image.shape[1]), image.dtype)
        centre = image[::STRIDE, ::STRIDE][_ellipse(*kind[0])]
        levels = np.percentile(centre, PERCENTILES)
        if self._levels is None or kind != self._kind:
            self._levels, self._kind = levels, kind
        else:
            follow = 1 - math.exp(-max(0, time_ns - self._time_ns) / 1e9 / SMOOTHING_S)
            self._levels = self._levels + follow * (levels - self._levels)
        self._time_ns = time_ns
        low, high = (float(level) for level in self._levels)
        return low, max(high, low + 1)


def _media_ns(frame: Frame) -> int:
    """When ``frame`` was taken, on the clock of its recording where it has one: a file that is read as fast as it can
    be gives the same images each time."""
    if frame.pts is None or frame.time_base is None:
        return frame.time_ns
    return round(frame.pts * frame.time_base * 1_000_000_000)


def stretch(image: Image, low: float, high: float) -> Image:
    """``image`` with ``low``..``high`` mapped linearly to the full range of its dtype, the rest clipped."""
    top = int(np.iinfo(image.dtype).max)
    table = np.clip(np.rint((np.arange(top + 1) - low) * (top / (high - low))), 0, top).astype(image.dtype)
    if image.dtype == np.uint8:
        return np.asarray(cv2.LUT(image, table), np.uint8)
    stretched: Image = np.take(table, image)
    return stretched


def steady_window(images: Sequence[Image]) -> IntensityWindow:
    """One percentile window for a whole recording, from some of its ``images``: a fixed one, in which grey levels
    stay comparable, and which does not depend on where the reading began."""
    centres = [image[::STRIDE, ::STRIDE][_ellipse(image.shape[0], image.shape[1])] for image in images]
    low, high = (float(level) for level in np.percentile(np.concatenate(centres), PERCENTILES))
    return IntensityWindow("fixed", low, max(high, low + 1))


@functools.lru_cache(maxsize=8)
def _ellipse(height: int, width: int) -> NDArray[np.bool_]:
    rows, columns = np.arange(0, height, STRIDE), np.arange(0, width, STRIDE)
    y = (rows[:, None] + 0.5) / height * 2 - 1
    x = (columns[None, :] + 0.5) / width * 2 - 1
    return np.asarray(x**2 + y**2 <= CENTRE**2)
