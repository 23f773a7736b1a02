"""Feature maps with a margin of zeros, so that a convolution reads its neighbours without asking where it is."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_ROWS = 4  # image rows that a program works on at once
BELOW = MOST_ROWS + 1  # zero rows under the image: a group of rows may reach past it
LARGEST = 2**31 - 1  # numbers that the kernels' 32-bit indices reach


def plane(height: int, width: int, channels: int, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """(H, W, C) in zeroed memory where a zero pixel ends each row and zero rows lie above and below.

    The pixel left of a row's first is the one that ends the row above, so one column serves both sides. Nobody writes
    to the margin. Raises ValueError where 32-bit indices do not reach.
    """
    return planes(1, height, width, channels, dtype, device)[0]


def planes(
    number: int, height: int, width: int, channels: int, dtype: torch.dtype, device: torch.device | str
) -> Tensor:
    """(number, H, W, C): several planes of one size in one memory. Raises as ``plane``."""
    pitch = width + 1
    size = ((1 + height + BELOW) * pitch + 1) * channels
    if number * size > LARGEST:
        raise ValueError(
            f"{height} x {width} pixels of {channels} channels are more than 32-bit indices reach"
        )
    memory = torch.zeros(number * size, dtype=dtype, device=device)
    strides = (size, pitch * channels, channels, 1)
    return memory.as_strided((number, height, width, channels), strides, (pitch + 1) * channels)


def pitch_of(x: Tensor) -> int:
    """Pixels from one row of (H, W, C) to the next."""
    return x.stride(0) // x.stride(1)


def has_margin(x: Tensor) -> bool:
    """Whether ``x`` is a plane, or a run of a plane's channels."""
    before = x.storage_offset() // x.stride(1)
    return pitch_of(x) == x.shape[1] + 1 and before > pitch_of(x)
