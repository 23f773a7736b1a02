"""The type of every image on its way, and what all share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8 | np.uint16]  # (H, W)
