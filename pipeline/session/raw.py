"""Raw images to pictures, and which of them go together into one video."""

from __future__ import annotations

import numpy as np

from clesr.pipeline.frame import Image
from clesr.pipeline.session.checkpointer import cause
from clesr.pipeline.session.coding import Coder, Picture, coder_for, raw_threads

Kind = tuple[tuple[int, ...], np.dtype[np.generic]]  # shape and depth of images


class RawImages:
    """Codes images of a source. Whatever a coder raises, the frames that it takes are recorded."""

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self.coder: Coder | None = None  # of the last picture

    def code(self, image: Image) -> Picture | str:
        """The picture of ``image``, or why there can be none."""
        try:
            coder = coder_for(image, self.coder, "ffv1", fps=self.fps, threads=raw_threads())
            picture = coder.code(image, 0)
        except Exception as error:  # noqa: BLE001 - as said
            return f"could not be coded: {describe_kind((image.shape, image.dtype))}: {cause(error)}"
        self.coder = coder
        return picture


def kind_of(coder: Coder) -> Kind:
    """What ``coder`` is for."""
    return coder.shape, coder.dtype


def describe_kind(kind: Kind) -> str:
    """``kind`` in words: width, height, depth."""
    (height, width), dtype = kind
    return f"{width}x{height} {dtype}"
