"""The frames of a stream before the present one, which help it (engines/temporal)."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.image import Pixels
from clesr.engines.temporal.fusion import TemporalFusion
from clesr.engines.view import field_of_view
from clesr.pipeline.frame import Fused, Image

REFRESH = 16  # frames after which the field of view is looked for again
WATCHED = 50  # images after which it is asked whether they can be afforded
LEFT_OUT = 0.1  # of a stream's frames: more is too many
COST = 0.15  # of the time that earlier frames take: less would not bring many frames back
PAUSE_S = 60.0  # and twice as long each time

log = logging.getLogger(__name__)


class StreamFusion:
    """Fuses the images of one stream, in their order. Called by one thread, that of the engine.

    What is kept is forgotten where frames change size, where a frame finds no help in it, and by ``reset``: an image
    that rests on one frame, and those after it, are as if the stream had begun with it. With ``hurried``, as on a live
    stream, it stops for a while where it takes a good part of the time and frames are left out for want of it.
    """

    def __init__(self, *, hurried: bool = False, clock: Clock = SYSTEM) -> None:
        self.hurried, self.clock = hurried, clock
        self._fusion: TemporalFusion | None = None
        self._uses = 0
        self._pause_s, self._resume_ns = PAUSE_S, 0
        self._watch = _Watch(0, 0)

    def __call__(self, lr: Image, sr: Image, number: int, trust: Pixels | None = None) -> Fused | None:
        """The image of frame ``number``, of which the engine made ``sr`` from ``lr``; None where it is to stand alone
        for want of time. Where ``trust`` (H, W) is 0, as on burnt-in text, which does not move with the tissue, earlier
        frames do not count; they do everywhere where it is 0 everywhere, for too much noise."""
        begun_ns = self.clock.now_ns() if self.hurried else 0
        scale, shape = sr.shape[0] // lr.shape[0], (lr.shape[0], lr.shape[1])
        fusion = self._fusion
        if fusion is None or (fusion.shape, fusion.scale) != (shape, scale):
            fusion = self._fusion = TemporalFusion(shape, scale)
            self._uses, self._pause_s, self._resume_ns = 0, PAUSE_S, 0
            self._watch = _Watch(number, begun_ns)
        if begun_ns < self._resume_ns:
            self._watch = _Watch(number + 1, begun_ns)
            return None
        free = trust > 0 if trust is not None and trust.any() else None
        image, frames = self._fused(fusion, lr, sr, number, free)
        if frames == 1 and self._uses > 1:  # another scene: begun anew, with its own field of view
            self.reset()
            image, frames = self._fused(fusion, lr, sr, number, free)
        if self.hurried:
            self._look(number, begun_ns)
        return Fused(image, frames, fusion.noise)

    def reset(self) -> None:
        """An image of this stream is missing: the next stands alone."""
        if self._fusion is not None:
            self._fusion.reset()
            self._uses = 0

    def _fused(
        self, fusion: TemporalFusion, lr: Image, sr: Image, number: int, free: NDArray[np.bool_] | None
    ) -> tuple[Image, float]:
        if self._uses % REFRESH == 0:
            self._view = field_of_view(lr)
        self._uses += 1
        return fusion(lr, sr, number, self._view if free is None else self._view & free)

    def _look(self, number: int, begun_ns: int) -> None:
        """Pause where frame ``number``, begun at ``begun_ns``, shows that earlier frames cost too much."""
        now_ns, watch = self.clock.now_ns(), self._watch
        watch.images += 1
        watch.spent_ns += now_ns - begun_ns
        if watch.images < WATCHED:
            return
        self._watch = _Watch(number + 1, now_ns)
        left_out = 1 - watch.images / max(watch.images, number + 1 - watch.number)
        if left_out > LEFT_OUT and watch.spent_ns > COST * (now_ns - watch.begun_ns):
            log.warning(
                f"{left_out:.0%} of the frames were left out, because this machine is busy: for "
                f"{self._pause_s:.0f} s images do without earlier frames, which take "
                f"{watch.spent_ns / watch.images / 1e6:.0f} ms an image; --temporal off does so always"
            )
            self.reset()
            self._resume_ns = now_ns + int(self._pause_s * 1e9)
            self._pause_s *= 2


class _Watch:
    """What fusing took since the frame ``number``, at ``begun_ns``."""

    def __init__(self, number: int, begun_ns: int) -> None:
        self.number, self.begun_ns = number, begun_ns
        self.images = self.spent_ns = 0
