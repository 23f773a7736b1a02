"""Frames of fibre bundles whose cores are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.image import Floats
from clesr.pipeline.cores.calibration import BundleFacts, CoreCalibration, decode, encode_cores
from clesr.pipeline.cores.triangles import gather, lines, triangulate
from clesr.pipeline.frame import Image


@dataclass(frozen=True)
class DrawnBundle:
    """Cores at ``places`` (N, 2), x and y, ``spacing`` pixels apart in a disc on frames of ``shape`` (H, W); ``gain``
    (N,) is how bright each is."""

    shape: tuple[int, int]
    spacing: float
    places: NDArray[np.float64]
    gain: NDArray[np.float64]

    def show(
        self,
        scene: float | NDArray[Any] = 120.0,
        dtype: type = np.uint8,
        *,
        gain: NDArray[np.float64] | None = None,
        noise: float = 0.0,
        black: float = 8.0,
        seed: int = 0,
    ) -> Image:
        """What a camera sees where each core has the brightness of ``scene``, in 8-bit levels: one for all, or (N,)."""
        height, width = self.shape
        sigma = 0.2 * self.spacing
        reach = int(4 * sigma) + 1
        seen = np.full((height + 2 * reach, width + 2 * reach), float(black))
        x, y = self.places.T
        left, top = np.floor(x).astype(int), np.floor(y).astype(int)
        light = (self.gain if gain is None else gain) * scene
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                away = (left + dx - x) ** 2 + (top + dy - y) ** 2
                np.add.at(seen, (top + dy + reach, left + dx + reach), light * np.exp(-away / (2 * sigma**2)))
        seen += np.random.default_rng(seed).normal(0, noise, seen.shape) if noise else 0
        levels = seen[reach:-reach, reach:-reach] * (257 if dtype == np.uint16 else 1)
        image: Image = np.clip(np.rint(levels), 0, np.iinfo(dtype).max).astype(dtype)
        return image

    def calibration(self, flat: Image | None = None, name: str = "drawn.cores") -> CoreCalibration:
        """The calibration that these places and ``flat`` make."""
        image: Floats = np.asarray(self.show() if flat is None else flat, np.float32)
        places = self.places.astype(np.float32)
        y, x = np.indices(self.shape)
        pixels = np.stack([x.ravel(), y.ravel()], 1).astype(np.float64)
        triangles, inside = triangulate(places.astype(np.float64), pixels)
        top = 255.0 if flat is None else float(np.iinfo(flat.dtype).max)
        arrays = {
            "places": places,
            "flat": gather(image, lines(places), len(places), self.spacing) / top,
            "dead": np.empty((0, 2)),
            "triangles": triangles,
            "map": inside.reshape(self.shape),
        }
        return decode(encode_cores(BundleFacts(shape=self.shape, spacing=self.spacing), **arrays), name)


def draw_bundle(
    shape: tuple[int, int] = (160, 176), spacing: float = 8.0, *, jitter: float = 0.05, seed: int = 0
) -> DrawnBundle:
    """A turned hexagonal lattice whose cores lie ``jitter`` spacings off and differ in brightness."""
    rng = np.random.default_rng(seed)
    count = int(max(shape) / spacing) + 4
    rows, columns = np.mgrid[-count:count, -count:count].reshape(2, -1)
    lattice = np.stack([columns + rows % 2 / 2, rows * np.sqrt(3) / 2], 1)
    rotation = np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    centre = np.array([shape[1], shape[0]]) / 2
    places = (lattice @ rotation + rng.normal(0, jitter, lattice.shape)) * spacing + centre
    places = places[np.hypot(*(places - centre).T) < 0.45 * min(shape)]
    return DrawnBundle(shape, spacing, places, rng.uniform(0.8, 1.2, len(places)))
