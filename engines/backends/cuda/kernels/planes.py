"""Feature maps with a margin of zeros, so that a convolution reads its neighbours without asking where it is."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_ROWS = 4  # image rows that a program works on at once
BELOW = MOST_ROWS + 1  # zero rows under the image: a group of rows may reach past it
LARGEST = 2**31 - 1  # numbers that the kernels' 32-bit indices reach


def plane(height: int, width: int, channels: int, device: torch.device | str) -> Tensor:
    """(H, W, C) FP16 in zeroed memory where a zero pixel ends each row and zero rows lie above and below.

    The pixel left of a row's first is the one that ends the row above, so one column serves both sides. Nobody writes
    to the margin. Raises ValueError where 32-bit indices do not reach.
    """
    pitch = width + 1
    size = ((1 + height + BELOW) * pitch + 1) * channels
    if size > LARGEST:
        raise ValueError(f"32-bit indices do not reach {height} x {width} pixels of {channels} channels")
    memory, strides = torch.zeros(size, dtype=torch.float16, device=device), (pitch * channels, channels, 1)
    return memory.as_strided((height, width, channels), strides, (pitch + 1) * channels)


def pitch_of(x: Tensor) -> int:
    """Pixels from one row of (H, W, C) to the next."""
    return x.stride(0) // x.stride(1)


def check_plane(x: Tensor) -> None:
    """Raise ValueError where ``x`` is neither a plane nor a run of a plane's channels."""
    if pitch_of(x) != x.shape[1] + 1 or x.storage_offset() // x.stride(1) <= pitch_of(x):
        raise ValueError("the kernels read planes only: see planes.py")
