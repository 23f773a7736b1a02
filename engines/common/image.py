"""The types of images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8 | np.uint16]  # (H, W)
Pixels = NDArray[np.uint8]  # (H, W), where 8 bits are all there is
Floats = NDArray[np.float32]
