"""Frames already captured help the present one: what they showed of the same tissue is kept at SR resolution, carried
along with the tissue, and corrected by each new frame.

The kept image, warped to the present, is a prediction. Degraded, it must agree with the LR image: where it does not
within the noise, the present frame stands alone. Else the prediction is corrected by the difference, the more the less
noise there is, and averaged with the network's image of the present frame, which counts as one among those before.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.image import Floats, Image
from clesr.engines.degrade import Corrector, Degrader
from clesr.engines.temporal.agreement import judged
from clesr.engines.temporal.registration import CELL, LEAST, Positions, Registration, remapped

MOST_FRAMES = 12.0  # that an image counts as
GAP = 8  # frames; after a longer gap nothing is carried along
PEAK = 6.0  # standard deviations of the correlation; a lower peak is another scene
RIM = 2  # LR pixels along the edge of the view that are not carried along
BLACK = 4.0  # grey levels: around a field of view; burnt-in text there does not count
BRIGHTER = 2.0  # times, between two frames of one scene
TRUST = 2.2  # grey levels: about what a prediction that agrees is wrong by


class TemporalFusion:
    """For one stream of images of one ``shape`` (H, W) at LR, and one ``scale``. For one thread. ``noise`` is the
    deviation, in 8-bit grey levels, by which the last frame differed from what was known of it where both agree.

    Results do not depend on the number of threads.
    """

    def __init__(self, shape: tuple[int, int], scale: int) -> None:
        self.shape, self.scale = shape, scale
        self._usable = min(shape) >= LEAST
        self.noise = 0.0
        self._kept: Floats | None = None
        if self._usable:
            large = shape[0] * scale, shape[1] * scale
            cells = -(-shape[0] // CELL), -(-shape[1] // CELL)
            self._register = Registration(shape)
            self._here, self._at = Positions(cells, shape), Positions(cells, large)
            self._degrade, self._correct = Degrader(shape, scale), Corrector(shape, scale)
            self._spare, self._share = np.empty(large, np.float32), np.empty(large, np.float32)

    def reset(self) -> None:
        """Forget every frame."""
        self._kept = None

    def __call__(self, lr: Image, sr: Image, number: int, view: NDArray[np.bool_]) -> tuple[Image, float]:
        """The image of this frame and how many frames it rests on, as a mean over the field of view.

        ``lr`` (H, W) and ``sr`` (scale * H, scale * W), both uint8 or uint16, are frame ``number`` and what the engine
        made of it; ``view`` (H, W) is true in the field of view. The image has the dtype of ``sr``, and is ``sr``
        itself where no earlier frame helps. Raises ValueError for another shape of ``lr``.
        """
        if lr.shape != self.shape:
            raise ValueError(f"this fusion was made for {self.shape}, not {lr.shape}")
        if not self._usable:
            return sr, 1.0
        level = np.float32(np.iinfo(sr.dtype).max / 255)
        present = np.asarray(lr / level, np.float32)
        seen = (view & (cv2.blur(present, (5, 5)) > BLACK)).astype(np.float32)
        carried = self._carry(present, seen, number, level)
        self._number, self._seen = number, seen
        self.noise = 0.0
        if carried is None:
            self._kept = sr.astype(np.float32, order="C")
            self._reference, self._count = present, np.ones(self.shape, np.float32)
            return sr, 1.0
        kept, prediction, difference, before = carried
        noise, excess, before = judged(present, seen, difference, before)
        self.noise = noise if before.any() else 0.0
        gain = (TRUST**2 + excess) / (TRUST**2 + excess + np.float32(noise**2))
        share = before / (before + 1)
        cv2.add(prediction, self._correct.change(difference * gain * level), dst=prediction)
        cv2.subtract(prediction, sr, dst=prediction, dtype=cv2.CV_32F)
        cv2.resize(share, prediction.shape[::-1], dst=self._share, interpolation=cv2.INTER_LINEAR)
        cv2.multiply(prediction, self._share, dst=prediction)
        depth = cv2.CV_8U if sr.dtype == np.uint8 else cv2.CV_16U
        fused: Image = cv2.add(prediction, sr, dtype=depth)  # type: ignore[assignment]
        cv2.add(prediction, sr, dst=prediction, dtype=cv2.CV_32F)
        self._spare, self._kept = kept, prediction
        self._reference = present - share * (1 - gain) * difference
        self._count = before + 1
        return fused, float(self._count[view].mean()) if view.any() else 1.0

    def _carry(
        self, present: Floats, seen: Floats, number: int, level: np.float32
    ) -> tuple[Floats, Floats, Floats, Floats] | None:
        """The kept image; the same as it would lie in the present frame; by how much the present frame (H, W), in
        8-bit grey levels, exceeds it; and how many frames it rests on (H, W), 0 where it knows nothing. None where it
        is of another scene."""
        kept = self._kept
        if kept is None or not 0 < number - self._number <= GAP:
            return None
        field, peak = self._register(present, self._reference, seen, self._seen)
        if peak < PEAK:
            return None
        prediction = remapped(kept, self._at(field), out=self._spare)
        known = cv2.erode(self._seen, np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8), borderValue=0)
        before = remapped(self._count * known, self._here(field), outside=0) * seen
        before *= before >= 1
        np.minimum(before, np.float32(MOST_FRAMES - 1), out=before)
        degraded = self._degrade.reduce(prediction)
        degraded /= level
        inside = before > 0
        brighter = float(present[inside].sum()) / max(float(degraded[inside].sum()), 1.0)
        if not 1 / BRIGHTER < brighter < BRIGHTER:
            return None
        if abs(brighter - 1) > 0.005:
            prediction *= np.float32(brighter)
            degraded *= np.float32(brighter)
        return kept, prediction, (present - degraded) * inside, before
