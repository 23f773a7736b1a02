"""Images as pairs of HR and LR, in memory: what networks are trained and measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.errors import UsageError
from clesr.engines.common.image import Pixels
from clesr.engines.view import field_of_view
from clesr.tools.data.degradations import Degradation
from clesr.tools.data.degrade import crop_to_multiple, degrade
from clesr.tools.data.images import read_entry


@dataclass(frozen=True, slots=True)
class Pair:
    """One image: (sH, sW) HR and (H, W) LR, uint8, where the field of view is, and how often it is drawn."""

    name: str
    hr: Pixels
    lr: Pixels
    mask: NDArray[np.bool_]
    weight: float


def make_pair(name: str, image: Pixels, scale: int, patch: int, weight: float) -> Pair:
    """``image`` and its degraded copy; raises UsageError where it is smaller than a patch."""
    hr = np.ascontiguousarray(crop_to_multiple(image, scale))
    if min(hr.shape) < patch:
        height, width = image.shape
        raise UsageError(
            f"{name} is {width}x{height}, smaller than a patch of {patch}; remove it or lower --patch"
        )
    return Pair(name, hr, degrade(hr, scale), field_of_view(hr), weight)


def load_pairs(entry: str, scale: int) -> list[Pair]:
    """Every image of a folder, pattern or file as a pair, to measure on."""
    return [make_pair(name, image, scale, scale, 1.0) for name, image in read_entry(entry)]


def noise_of(number: int) -> np.random.Generator:
    """What is random in the degradation of image ``number`` of those that are measured on."""
    return np.random.default_rng((number, 2))


def degraded_pairs(pairs: Sequence[Pair], degradations: Sequence[Degradation], scale: int) -> list[Pair]:
    """Each of ``pairs`` under each of ``degradations``, the same whenever it is asked for."""
    return [
        replace(pair, name=f"{pair.name} {degradation}", lr=degradation(pair.hr, scale, noise_of(number)))
        for degradation in degradations
        for number, pair in enumerate(pairs)
    ]
