"""How far a prediction can be trusted, by its difference to the frame that it predicts.

A difference is noise or a fault: tissue that moved otherwise, or was not there. Noise is everywhere, faults are not, so
that the quietest parts of the difference tell the noise. What a fault costs depends on what it would replace: where
there is fine structure, a frame alone is wrong by more.
"""

from __future__ import annotations

import cv2
import numpy as np

from clesr.engines.common.image import Floats

QUIET = 10  # per cent of the places, the quietest: their difference is noise
QUIET_SHARE = 0.8  # of the variance of the noise that these have, for being the quietest
WIDE, NARROW = 7, 5  # LR pixels a side of the boxes that noise, and faults, are looked for in
BINOMIAL = np.array([0.25, 0.5, 0.25], np.float32)  # faults are wide, so that noise is smoothed away first
PASSED = float(np.square(BINOMIAL).sum()) ** 2  # of white noise's variance both axes let this share through
EXCESS = 2.0  # times the variance that noise explains: what is beyond is a fault
# A frame alone is wrong by this share of the variance of its fine structure, and by so many squared grey levels.
FINE, LEAST = 0.1, 0.3
HIGH = np.array([1, -4, 6, -4, 1], np.float32) / np.float32(np.sqrt(70))  # fourth differences
# Noise is at most so many times what the frame alone seems to have, and so many grey levels more.
ROUGH, SMOOTH = 1.3, 4.0
HALF_NORMAL = 0.6745  # half of the magnitudes of a normal variable of deviation 1 are below
AGREEING = 0.2, 0.45  # of what a prediction could count as: with less it is dropped, with more it counts


def judged(present: Floats, seen: Floats, difference: Floats, before: Floats) -> tuple[float, Floats, Floats]:
    """The deviation of the noise; the squared difference (H, W) that it does not explain, smoothed; and ``before``,
    less where there is such.

    ``difference`` (H, W) is ``present`` less its prediction, in 8-bit grey levels, where ``before``, the number of
    frames that it rests on, is not 0. ``seen`` is 1 in the field of view.
    """
    inside = before > 0
    if not inside.any():
        return 0.0, np.zeros_like(difference), before
    around = _mean(np.square(difference), WIDE) / np.maximum(
        _mean(inside.astype(np.float32), WIDE), np.float32(0.1)
    )
    quiet = float(np.percentile(around[::2, ::2][inside[::2, ::2]], QUIET)) if inside[::2, ::2].any() else 0.0
    noise = min(float(np.sqrt(quiet / QUIET_SHARE)), ROUGH * _roughness(present, seen) + SMOOTH)
    smooth = np.asarray(cv2.sepFilter2D(difference, cv2.CV_32F, BINOMIAL, BINOMIAL), np.float32)
    excess = np.maximum(
        _mean(np.square(smooth), NARROW) - np.float32(EXCESS * PASSED * noise**2), np.float32(0)
    )
    fine = np.square(present - np.asarray(cv2.GaussianBlur(present, (0, 0), 1.0), np.float32))
    alone = np.float32(LEAST) + np.float32(FINE) * _mean(fine, WIDE)
    counted = np.where(inside, 1 / (1 / np.maximum(before, np.float32(1)) + excess / alone), 0).astype(
        np.float32
    )
    agreeing = float(counted.sum()) / float(before.sum())
    counted *= np.float32(np.clip((agreeing - AGREEING[0]) / (AGREEING[1] - AGREEING[0]), 0, 1))
    return noise, excess, counted


def _mean(values: Floats, side: int) -> Floats:
    return np.asarray(cv2.blur(values, (side, side)), np.float32)


def _roughness(image: Floats, seen: Floats) -> float:
    """The deviation of white noise that would leave as much in the highest frequencies of ``image``."""
    rough = np.abs(np.asarray(cv2.sepFilter2D(image, cv2.CV_32F, HIGH, HIGH), np.float32))
    inside = rough[2:-2:2, 2:-2:2][seen[2:-2:2, 2:-2:2] > 0]
    return float(np.median(inside)) / HALF_NORMAL if inside.size else 0.0
