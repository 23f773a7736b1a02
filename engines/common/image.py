"""The types of images, and images as PNG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.errors import SinkError

Image = NDArray[np.uint8 | np.uint16]  # (H, W)
Pixels = NDArray[np.uint8]  # (H, W), where 8 bits are all there is
Floats = NDArray[np.float32]


def png_bytes(image: Image, options: Sequence[int] = ()) -> bytes:
    """``image``, (H, W), or (H, W, 3) blue-green-red, as PNG; ``options`` are OpenCV's. Raises SinkError."""
    import cv2  # slow to import, and seldom needed

    done, data = cv2.imencode(".png", image, options)
    if not done:
        raise SinkError(f"an image {image.shape} {image.dtype} cannot be encoded as PNG")
    return data.tobytes()
