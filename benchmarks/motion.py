"""Hand-held motion over a still, simulated: what a probe would see that slides over this tissue, frame by frame."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.image import Floats, Pixels
from clesr.engines.view import EDGE, field_of_view, find_view
from clesr.tools.data.degradations import Degradation

WAVES = 3  # that deform the tissue, each along its own direction


@dataclass(frozen=True, slots=True)
class ProbeMotion:
    """How a probe moves; lengths are in LR pixels, speeds in these a frame.

    ``most`` is the greatest speed of the translation, whose drift changes slowly, with ``tremor`` on top. ``turn`` is
    the rotation to either side, degrees. ``stretch`` is the amplitude of the deformation, which goes through its
    course in about ``period`` frames.
    """

    most: float = 6.0
    tremor: float = 0.7
    turn: float = 3.0
    stretch: float = 1.5
    period: float = 24.0


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """``truth`` (sH, sW) and ``lr`` (H, W), uint8; ``after_cut`` counts the frames since the last cut, from 0."""

    number: int
    truth: Pixels
    lr: Pixels
    after_cut: int


def move_over(
    still: Pixels,
    scale: int,
    frames: int,
    degradation: Degradation,
    *,
    seed: int = 0,
    cuts: Collection[int] = (),
    motion: ProbeMotion | None = None,
) -> Iterator[SeenFrame]:
    """``frames`` views of ``still`` (uint8), of its size cropped to a multiple of ``scale``.

    The tissue is what lies in the largest square of the still's field of view, mirrored beyond; where the still is
    round, so is every view. At the frame numbers in ``cuts`` the probe jumps to another place and direction. The same
    arguments always give the same frames.
    """
    path = _Path(motion or ProbeMotion(), np.random.default_rng((seed, 11)))
    rng = np.random.default_rng((seed, 12))
    height, width = (length // scale * scale for length in still.shape)
    tissue, outside = _tissue(still), _outside(still)[:height, :width]
    started = 0
    for number in range(frames):
        if number in cuts or number == 0:
            path.jump()
            started = number
        x, y = path.positions(height, width, scale, number)
        x, y = _mirrored(x, tissue.shape[1]), _mirrored(y, tissue.shape[0])
        truth = np.asarray(
            cv2.remap(tissue, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101), np.uint8
        )
        truth[outside] = 0
        yield SeenFrame(number, truth, degradation(truth, scale, rng), number - started)
        path.advance()


class _Path:
    """Where the probe is."""

    def __init__(self, motion: ProbeMotion, rng: np.random.Generator) -> None:
        self._motion, self._rng = motion, rng
        self._place = np.zeros(2)
        self._drift = np.zeros(2)
        self._quarter = 0
        directions = rng.uniform(0, 2 * math.pi, WAVES)
        self._waves = np.stack([np.cos(directions), np.sin(directions)], 1) * rng.uniform(
            0.6, 1.4, (WAVES, 1)
        )
        self._phases = rng.uniform(0, 2 * math.pi, (WAVES, 3))
        self._amplitudes = rng.normal(0, 1, (WAVES, 2)) / math.sqrt(WAVES)

    def jump(self) -> None:
        """To anywhere, in one of four directions, with another drift."""
        self._place = self._rng.uniform(-1000, 1000, 2)
        self._quarter = int(self._rng.integers(4))
        self._drift = self._rng.normal(0, self._motion.most / 3, 2)
        self._phases = self._rng.uniform(0, 2 * math.pi, self._phases.shape)

    def advance(self) -> None:
        """One frame on."""
        self._drift = 0.9 * self._drift + self._rng.normal(0, 0.44 * self._motion.most / 3, 2)
        step = self._drift + self._rng.normal(0, self._motion.tremor, 2)
        self._place += step * min(1.0, self._motion.most / max(float(np.hypot(*step)), 1e-9))

    def positions(self, height: int, width: int, scale: int, number: int) -> tuple[Floats, Floats]:
        """Where in the tissue each pixel (height, width) of the view lies: x and y."""
        y, x = np.mgrid[:height, :width].astype(np.float64)
        x, y = x - (width - 1) / 2, y - (height - 1) / 2
        time = 2 * math.pi * number / self._motion.period
        angle = math.radians(self._motion.turn) * math.sin(0.7 * time) + self._quarter * math.pi / 2
        moved = [math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y]
        for (across, down), phases, amplitudes in zip(
            self._waves, self._phases, self._amplitudes, strict=True
        ):
            wave = np.sin(2 * math.pi * (across * x + down * y) / max(height, width) + phases[2])
            for axis in range(2):
                swing = amplitudes[axis] * math.cos(time + phases[axis])
                moved[axis] += self._motion.stretch * scale * swing * wave
        across, down = (
            np.asarray(m + scale * p, np.float32) for m, p in zip(moved, self._place, strict=True)
        )
        return across, down


def _mirrored(positions: Floats, length: int) -> Floats:
    """``positions`` along a line that is mirrored at its ends, without end, brought to 0 .. length - 1."""
    last = length - 1
    return np.asarray(last - np.abs(np.mod(positions, 2 * last) - last), np.float32)


def _tissue(still: Pixels) -> Pixels:
    """The largest square in a round field of view; the whole still where it has no dark corners."""
    seen = field_of_view(still)
    if seen.all():
        return still
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    half = int(EDGE * (rows[-1] - rows[0] + 1) / math.sqrt(8))
    cy, cx = (rows[0] + rows[-1]) // 2, (columns[0] + columns[-1]) // 2
    return np.ascontiguousarray(still[cy - half : cy + half, cx - half : cx + half])


def _outside(still: Pixels) -> NDArray[np.bool_]:
    """What stays black in every view: the corners of a round field of view, up to its very rim."""
    return ~find_view(still).mask(1.0).astype(np.bool_)
