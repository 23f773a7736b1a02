"""The frames of a stream before the present one, which help it (engines/temporal)."""

from __future__ import annotations

from clesr.engines.temporal.fusion import TemporalFusion
from clesr.engines.view import field_of_view
from clesr.pipeline.frame import Fused, Image

REFRESH = 16  # frames after which the field of view is looked for again


class StreamFusion:
    """Fuses the images of one stream, in their order. Called by one thread, that of the engine.

    What is kept is forgotten where frames change size, and by ``reset``.
    """

    def __init__(self) -> None:
        self._fusion: TemporalFusion | None = None
        self._uses = 0

    def __call__(self, lr: Image, sr: Image, number: int) -> Fused:
        """The image of frame ``number``, of which the engine made ``sr`` from ``lr``."""
        scale, shape = sr.shape[0] // lr.shape[0], (lr.shape[0], lr.shape[1])
        fusion = self._fusion
        if fusion is None or (fusion.shape, fusion.scale) != (shape, scale):
            fusion = self._fusion = TemporalFusion(shape, scale)
            self._uses = 0
        if self._uses % REFRESH == 0:
            self._view = field_of_view(lr)
        self._uses += 1
        image, frames = fusion(lr, sr, number, self._view)
        return Fused(image, frames, fusion.noise)

    def reset(self) -> None:
        """An image of this stream is missing: the next stands alone."""
        if self._fusion is not None:
            self._fusion.reset()
            self._uses = 0
