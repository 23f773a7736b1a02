"""Where on an image, and how far, a network is to be trusted: elsewhere the image stays bicubic."""

from __future__ import annotations

import cv2
import numpy as np

from clesr.engines.common.image import Image, Pixels
from clesr.engines.levels import Levels
from clesr.engines.view import View, eight_bits, find_view

NOISE_KNOWN, NOISE_LOST = 24.0, 40.0  # grey levels: the network fades from the first to the second
FLAT, SHAPED = 0.05, 0.15  # grey levels of detail: with less there is nothing to restore, none was trained on
WHITE = 240  # grey levels of burnt-in text at least
CONTRAST = 150  # by which it stands out of what is around it
STROKE = np.ones((7, 7), np.uint8)  # wider than its lines
CLOSE, NEAR = np.ones((3, 3), np.uint8), np.ones((5, 5), np.uint8)


def trust_map(lr: Image, view: View | None = None) -> Pixels:
    """(H, W) uint8 for ``lr`` (H, W): 255 on tissue; 0 outside the field of view, at its rim and on burnt-in text.
    ``view`` is the field of view, where it was found already."""
    image = eight_bits(lr)
    view = view or find_view(lr)
    text = (image >= WHITE).astype(np.uint8)
    if text.any():
        text &= (cv2.morphologyEx(image, cv2.MORPH_TOPHAT, STROKE) >= CONTRAST).astype(np.uint8)
    written = bool(text.any())
    if view.outline is None and not written:
        return np.full(image.shape, 255, np.uint8)
    free = view.mask(1.0)
    if written:
        free[cv2.dilate(text, NEAR) > 0] = 0
    return np.asarray(cv2.erode(free, CLOSE, borderValue=1) * 255, np.uint8)


def confidence(levels: Levels) -> float:
    """How far a network is to be trusted on an image of ``levels``, 0 to 1: beyond what networks were trained with it
    fades to 0, and so it does on an image without any structure."""
    known = (NOISE_LOST - levels.noise) / (NOISE_LOST - NOISE_KNOWN)
    shaped = (levels.detail - FLAT) / (SHAPED - FLAT)
    return min(1.0, max(0.0, min(known, shaped)))


def faded(trust: Pixels, levels: Levels) -> Pixels:
    """``trust`` (H, W) as far as the network is trusted on an image of ``levels``."""
    fade = confidence(levels)
    return trust if fade == 1 else np.rint(trust * np.float32(fade)).astype(np.uint8)
