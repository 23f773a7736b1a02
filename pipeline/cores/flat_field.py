"""A flat field: the mean of frames that show a probe before something evenly lit, and the calibration made of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context

import cv2
import numpy as np

from clesr.engines.common.errors import SourceError, UsageError
from clesr.engines.common.image import Floats, Image
from clesr.pipeline.cores.calibration import CoreCalibration
from clesr.pipeline.cores.find import DEAD, WHITE, find_cores

FRAMES = 25  # of which the mean is taken
SATURATED = 0.05  # of the cores, or of the pixels: more say nothing of how bright they are
GRID = 12  # fields a side whose brightness is followed
LIT = 0.3  # of the brightest field: the others lie outside of the bundle
MOVING = 0.03  # by which fields change, as a share of their brightness: tissue that moves


class FlatField:
    """Frames of a flat field, (H, W) uint8 or uint16, one after the other."""

    def __init__(self) -> None:
        self.frames = 0
        self._sum: Floats | None = None
        self._top, self._white = 0.0, 0.0
        self._fields: list[Floats] = []

    def add(self, image: Image) -> None:
        """Raises UsageError where ``image`` is of another size or depth than the one before."""
        top = float(np.iinfo(image.dtype).max)
        if self._sum is None:
            self._sum, self._top = np.zeros(image.shape, np.float32), top
        elif (image.shape, top) != (self._sum.shape, self._top):
            raise UsageError("frames change their size or depth; calibrate with frames of one kind")
        self.frames += 1
        self._white = max(self._white, float((image >= WHITE * top).mean()))
        cv2.accumulate(image, self._sum)
        fields = cv2.resize(image.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA)
        self._fields.append(np.asarray(fields, np.float32))

    def calibration(self, *, dead: float = DEAD, name: str = "") -> CoreCalibration:
        """What the frames show. ``dead`` and errors as those of ``find_cores``; UsageError too where there was no
        frame, what they show moves, or is too bright."""
        if self._sum is None:
            raise UsageError("there are no frames to calibrate with")
        advice = "lower light, gain or exposure, and calibrate again"
        if self._white > SATURATED:
            raise UsageError(f"{100 * self._white:.0f} % of the pixels are white; {advice}")
        change = self._change()
        if change > MOVING:
            raise UsageError(
                f"what is seen changes by {100 * change:.0f} %; hold the probe still before something evenly lit"
            )
        mean = self._sum / np.float32(self.frames)
        found = find_cores(mean, top=self._top, frames=self.frames, dead=dead, name=name)
        count, saturated = len(found.places), found.facts.saturated
        if saturated > SATURATED * count:
            raise UsageError(f"{saturated} of {count} cores are white; {advice}")
        return found

    def _change(self) -> float:
        """How much fields of the bundle change, whatever the light as a whole does."""
        fields = np.stack(self._fields)
        mean = fields.mean(0)
        lit = fields[:, mean > LIT * mean.max()]
        if not lit.size:
            return 0.0
        lit = lit / np.maximum(lit.mean(1, keepdims=True), 1e-6)
        return float((lit.std(0) / np.maximum(lit.mean(0), 1e-6)).mean())


class CalibrationTaker:
    """Takes so many ``frames`` of a running pipeline for a calibration, which ``future`` then has. Cores are found on a
    thread of its own, so that no frame waits; ``tell`` is called with how many frames were taken."""

    def __init__(
        self, frames: int, name: str = "", tell: Callable[[int], None] = lambda _taken: None
    ) -> None:
        if frames < 1:
            raise UsageError(f"{frames} frames make no calibration; give 1 or more")
        self.future: Future[CoreCalibration] = Future()
        self._flat, self._frames, self._name, self._tell = FlatField(), frames, name, tell
        self.future.set_running_or_notify_cancel()

    def add(self, image: Image) -> bool:
        """Take ``image``; whether that is all. Never raises."""
        try:
            self._flat.add(image)
            self._tell(self._flat.frames)
        except Exception as error:  # noqa: BLE001 - whoever asked for the calibration is told
            self.future.set_exception(error)
            return True
        if self._flat.frames < self._frames:
            return False
        threading.Thread(
            target=copy_context().run, args=(self._find,), name="clesr calibration", daemon=True
        ).start()
        return True

    def give_up(self) -> None:
        """No frame comes any more."""
        self.future.set_exception(
            SourceError(
                f"the run ended after {self._flat.frames} of {self._frames} frames of the calibration"
            )
        )

    def _find(self) -> None:
        try:
            self.future.set_result(self._flat.calibration(name=self._name))
        except BaseException as error:  # noqa: BLE001 - whoever asked for the calibration is told
            self.future.set_exception(error)
