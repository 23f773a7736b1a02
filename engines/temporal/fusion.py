"""Frames already captured help the present one: what they showed of the same tissue is kept at SR resolution, carried
along with the tissue, and corrected by each new frame.

The kept image, warped to the present, is a prediction. Degraded, it must agree with the LR image: where it does not
within the noise, the present frame stands alone. Else the prediction is corrected by the difference, the more the less
noise there is (as a Kalman filter does), and averaged with the network's image of the present frame, which counts as
one among those before.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.image import Floats, Image
from clesr.engines.degrade import Corrector, Degrader
from clesr.engines.temporal.registration import LEAST, Registration, positions

MOST_FRAMES = 12.0  # that an image counts as
GAP = 8  # frames; after a longer gap nothing is carried along
PEAK = 6.0  # standard deviations of the correlation; a lower peak is another scene
RIM = 2  # LR pixels along the edge of the view that are not carried along
TRUST = 2.5  # grey levels of noise at which half of the difference corrects the prediction
ERROR = 4.0  # grey levels: about what a single frame is wrong by
FLOOR = 1.0  # grey levels of difference that are always put down to noise


class TemporalFusion:
    """For one stream of images of one ``shape`` (H, W) at LR, and one ``scale``. For one thread.

    Results do not depend on the number of threads.
    """

    def __init__(self, shape: tuple[int, int], scale: int) -> None:
        self._shape, self._scale = shape, scale
        self._usable = min(shape) >= LEAST
        self._kept: Floats | None = None
        if self._usable:
            self._register = Registration(shape)
            self._degrade, self._correct = Degrader(shape, scale), Corrector(shape, scale)
            self._grid = positions((shape[0] * scale, shape[1] * scale))

    def reset(self) -> None:
        """Forget every frame."""
        self._kept = None

    def __call__(self, lr: Image, sr: Image, number: int, view: NDArray[np.bool_]) -> tuple[Image, float]:
        """The image of this frame and how many frames it rests on, as a mean over the field of view.

        ``lr`` (H, W) and ``sr`` (scale * H, scale * W), uint8 or uint16, are frame ``number`` and what the engine made
        of it; ``view`` (H, W) is true in the field of view. The image has the dtype of ``sr``, and is ``sr`` itself
        where no earlier frame helps.
        """
        if not self._usable or not view.any():
            self.reset()
            return sr, 1.0
        unit = np.iinfo(sr.dtype).max / 255
        present = np.asarray(lr / np.float32(np.iinfo(lr.dtype).max / 255), np.float32)
        single = np.asarray(sr / np.float32(unit), np.float32)
        seen = view.astype(np.float32)
        carried = self._carry(present, seen, number)
        self._number, self._seen = number, seen
        if carried is None:
            self._kept, self._reference = single, present
            self._count = np.ones(self._shape, np.float32)
            return sr, 1.0
        prediction, degraded, before = carried
        difference = (present - degraded) * (before > 0)
        noise = self._noise(difference, before)
        before = np.minimum(before, self._agreeing(difference, noise))
        gain = TRUST**2 / (TRUST**2 + noise**2)
        share = before / (before + 1)
        prediction += self._correct.change(difference * gain)
        prediction -= single
        prediction *= cv2.resize(share, single.shape[::-1], interpolation=cv2.INTER_LINEAR)
        prediction += single
        self._kept = prediction
        self._reference = present - share * (1 - gain) * difference
        self._count = before + 1
        fused = np.clip(np.rint(prediction * np.float32(unit)), 0, np.iinfo(sr.dtype).max).astype(sr.dtype)
        return fused, float(self._count[view].mean())

    def _carry(self, present: Floats, seen: Floats, number: int) -> tuple[Floats, Floats, Floats] | None:
        """The kept image as it would lie in the present frame, the same degraded, and how many frames it rests on
        (H, W), 0 where it knows nothing; None where it is of another scene."""
        if self._kept is None or not 0 < number - self._number <= GAP:
            return None
        field, peak = self._register(present, self._reference, seen, self._seen)
        if peak < PEAK:
            return None
        self.debug = peak
        size = self._grid.shape[1::-1]
        at = cv2.resize(field, size, interpolation=cv2.INTER_LINEAR)
        at *= self._scale
        at += self._grid
        prediction = np.asarray(
            cv2.remap(self._kept, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32  # type: ignore[call-overload]
        )
        known = cv2.erode(self._seen, np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8), borderValue=0)
        here = positions(self._shape) + field
        valid = np.asarray(cv2.remap(known, here, None, cv2.INTER_LINEAR), np.float32) > 0.999  # type: ignore[call-overload]
        count = np.asarray(cv2.remap(self._count, here, None, cv2.INTER_LINEAR), np.float32)  # type: ignore[call-overload]
        before = np.minimum(count, MOST_FRAMES - 1) * valid * seen
        degraded = self._degrade.reduce(prediction)
        level = float((present * (before > 0)).sum()) / max(float((degraded * (before > 0)).sum()), 1.0)
        if not 0.5 < level < 2:
            return None
        return prediction * np.float32(level), degraded * np.float32(level), before

    def _noise(self, difference: Floats, before: Floats) -> float:
        """The deviation of noise in the present frame, grey levels, from its difference to the prediction."""
        return float(np.median(np.abs(difference[before > 0]))) / 0.6745 if (before > 0).any() else 0.0

    def _agreeing(self, difference: Floats, noise: float) -> Floats:
        """How many frames the prediction may count as at most, for the ``difference`` that it has around each pixel
        beyond what noise explains."""
        line = np.array([0.25, 0.5, 0.25], np.float32)
        smooth = cv2.sepFilter2D(difference, cv2.CV_32F, line, line)
        around = cv2.blur(smooth * smooth, (5, 5))
        excess = np.maximum(around - 1.5 * 0.14 * max(noise, FLOOR) ** 2, 1e-3)
        return np.asarray(ERROR**2 / excess, np.float32)
