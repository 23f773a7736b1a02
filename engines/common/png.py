"""Images as PNG."""

from __future__ import annotations

from collections.abc import Sequence

import cv2

from clesr.engines.common.errors import SinkError
from clesr.engines.common.image import Image


def png_bytes(image: Image, options: Sequence[int] = ()) -> bytes:
    """``image``, (H, W), or (H, W, 3) blue-green-red, as PNG; ``options`` are OpenCV's. Raises SinkError."""
    done, data = cv2.imencode(".png", image, options)
    if not done:
        raise SinkError(f"an image {image.shape} {image.dtype} cannot be encoded as PNG")
    return data.tobytes()
