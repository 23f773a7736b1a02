"""Tissue without end, and what a probe sees of it that moves over it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.image import Floats, Image

SIDE = 128  # SR pixels of the view
Place = tuple[float, float]  # of the middle of the view, x and y, where nothing is at (0, 0)


def tissue(seed: int = 0, side: int = 512) -> Floats:
    """(side, side), structure of several sizes, in grey levels of 8 bits."""
    rng = np.random.default_rng(seed)
    fields = [cv2.GaussianBlur(rng.standard_normal((side, side)), (0, 0), width) for width in (2.5, 7.0)]
    mixed = sum(field / field.std() for field in fields)
    return np.asarray(np.clip(120 + 25 * mixed, 20, 235), np.float32)


def seen(
    scene: Floats,
    at: Place,
    lean: Place = (0, 0),
    *,
    noise: float = 0.0,
    seed: int = 0,
    dtype: type = np.uint8,
) -> Image:
    """The view (SIDE, SIDE) of ``scene`` around ``at`` from its middle, whose rows lean by so many pixels each."""
    left, top = ((n - SIDE) / 2 + shift for n, shift in zip(scene.shape[::-1], at, strict=True))
    half = (SIDE - 1) / 2
    matrix = np.array(
        [[1, lean[0], left - lean[0] * half], [0, 1 + lean[1], top - lean[1] * half]], np.float64
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    image = cv2.warpAffine(scene, matrix, (SIDE, SIDE), flags=flags)
    image = (image + np.random.default_rng(seed).normal(0, noise, image.shape)) * (np.iinfo(dtype).max / 255)
    return np.asarray(np.clip(np.rint(image), 0, np.iinfo(dtype).max), dtype)


def disc() -> NDArray[np.bool_]:
    """The field of view of a round probe, at half the resolution of the view."""
    y, x = np.mgrid[: SIDE // 2, : SIDE // 2] - (SIDE / 2 - 1) / 2
    return np.asarray(x**2 + y**2 < (SIDE / 4 - 1) ** 2, np.bool_)


def circle(count: int, radius: float = 60.0) -> list[Place]:
    """A way that comes back to where it began."""
    angles = np.linspace(0, 2 * np.pi, count)
    return [(radius * (float(np.cos(a)) - 1), radius * float(np.sin(a))) for a in angles]


def leans(places: Sequence[Place]) -> list[Place]:
    """By how much each row leans that is read while the probe goes from each of ``places`` to the next."""
    steps = np.diff([*places, places[-1]], axis=0) / SIDE
    return [(float(x), float(y)) for x, y in steps]


def along(scene: Floats, way: Sequence[Place], noise: float = 6.0, dtype: type = np.uint8) -> list[Image]:
    """What is seen on the ``way``, each row a little later than the one above."""
    return [
        seen(scene, at, lean, noise=noise, seed=n, dtype=dtype)
        for n, (at, lean) in enumerate(zip(way, leans(way), strict=True))
    ]
