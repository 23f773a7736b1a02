"""What the network is told of each frame of a stream: its levels, smoothed over time, and where it may be trusted."""

from __future__ import annotations

import math
from dataclasses import astuple

import cv2

from clesr.engines.common.errors import UsageError
from clesr.engines.common.numbers import decimal_number, shortened
from clesr.engines.guidance import Guidance
from clesr.engines.levels import Levels, estimate_levels
from clesr.engines.trust import confidence, faded, trust_map
from clesr.engines.view import View, find_view
from clesr.pipeline.frame import Frame, Image, Told

# Of the way to what a frame shows that the levels go: in half a second at 25 frames/s most of it.
FOLLOW = 0.1
JUMP = 1.5  # times as much noise, or as little, is another image: the levels are its own at once
QUIET = 1.0  # grey levels, added to both before they are compared
DIGITS = 2  # of the levels, as they are used and recorded
HIGHEST_NOISE = 64.0  # grey levels that --denoise takes


def parse_denoise(text: str) -> float | None:
    """``auto`` (None) or grey levels of noise; raises UsageError for anything else."""
    if text == "auto":
        return None
    try:
        noise = decimal_number(text)
    except ValueError:
        noise = -1.0
    if not 0 <= noise <= HIGHEST_NOISE:
        raise UsageError(
            f"--denoise {shortened(text)} is not auto, 0 for a clean image, or grey levels of noise up to "
            f"{HIGHEST_NOISE:g}"
        )
    return noise


def check_denoise(noise: float | None) -> None:
    """Raises UsageError where ``noise`` is neither None nor grey levels that can be assumed."""
    if noise is not None and not 0 <= noise <= HIGHEST_NOISE:
        raise UsageError(f"denoise {noise} is neither None nor 0 to {HIGHEST_NOISE:g} grey levels")


class Guide:
    """Tells the network of the frames of one stream, in their order. Called by one thread.

    ``denoise`` is the noise in grey levels that is assumed of every frame; None: as estimated, frame by frame, smoothed
    over the frames before. It goes by frames and not by time, so that a replay tells the same. Where a frame's noise
    differs by a factor from that of the frames before, the smoothing starts anew.
    """

    def __init__(self, denoise: float | None = None) -> None:
        self.denoise = denoise
        self._levels: Levels | None = None

    def __call__(self, frame: Frame, lr: Image) -> Told:
        """What is told of ``frame``, of which ``lr`` is the prepared image."""
        view = find_view(lr)
        levels = self.find_levels(frame, lr, view)
        trust = faded(trust_map(lr, view), levels)
        share = round(cv2.mean(trust)[0] / 255, 3)
        return Told(Guidance(levels.as_input(), trust), levels, share, confidence(levels))

    def find_levels(self, frame: Frame, lr: Image, view: View) -> Levels:
        """The levels that are told of ``frame``, whose field of view is ``view``."""
        self._levels = self._follow(estimate_levels(lr, view))
        levels = self._levels if self.denoise is None else self._levels.assuming(self.denoise)
        return Levels(*(round(value, DIGITS) for value in astuple(levels)))

    def _follow(self, found: Levels) -> Levels:
        before = self._levels
        if before is None:
            return found
        if abs(math.log((found.noise + QUIET) / (before.noise + QUIET))) > math.log(JUMP):
            return found
        pairs = zip(astuple(before), astuple(found), strict=True)
        return Levels(*(old + FOLLOW * (new - old) for old, new in pairs))
