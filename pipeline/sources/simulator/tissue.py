"""Mucosa as a fluorescein endomicroscope sees it: cells with bright borders, crypts, light and shade.

Lengths are in micrometres; canvases are square float32, dark 0, bright 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

PSF_UM = 0.3  # standard deviation; 0.7 um full width at half maximum
CELL_UM = (9.0, 13.0)  # diameter
NUCLEUS_UM = 2.6  # radius
WARP_UM = 45.0  # the farthest that the warp of the tissue reaches, nearly always


@dataclass(frozen=True, slots=True)
class Crypt:
    """A gland cut across: centre (x, y) and outer radius."""

    x: float
    y: float
    radius: float


def smooth_noise(rng: np.random.Generator, n: int, wavelength: float) -> Plane:
    """(n, n) noise of about unit variance whose finest structure is ``wavelength`` pixels across."""
    step = max(wavelength / 2, 1.0)
    k = int(np.ceil(n / step)) + 4
    coarse: Plane = rng.standard_normal((k, k), np.float32)
    coarse -= coarse.mean()
    coarse /= coarse.std()
    side, begin = round(k * step), round(1.5 * step)
    if side > k:
        coarse *= np.float32(1.25)  # what interpolation takes from the standard deviation
        coarse = np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)
    return coarse[begin : begin + n, begin : begin + n]


def place_crypts(rng: np.random.Generator, extent: float) -> list[Crypt]:
    """A few glands that do not overlap; every second mucosa has none."""
    crypts: list[Crypt] = []
    for _ in range(round(rng.choice([0, 0, 0, 2, 3, 4]) * (extent / 360) ** 2)):
        x, y = rng.uniform(0.15 * extent, 0.85 * extent, 2)
        radius = rng.uniform(24.0, 36.0)
        if all(np.hypot(x - c.x, y - c.y) > 1.2 * (radius + c.radius) for c in crypts):
            crypts.append(Crypt(float(x), float(y), float(radius)))
    return crypts


def place_cells(rng: np.random.Generator, extent: float, crypts: list[Crypt]) -> NDArray[np.float64]:
    """Cell centres (K, 2) as x, y: a shaken hexagonal grid, and rings of columnar cells in the crypts."""
    spacing = rng.uniform(*CELL_UM) * np.sqrt(2 / np.sqrt(3)) * 0.95
    rows = np.arange(0, extent, spacing * np.sqrt(3) / 2)
    columns = np.arange(0, extent, spacing)
    x, y = np.meshgrid(columns, rows)
    x[1::2] += spacing / 2
    cells = np.stack([x.ravel(), y.ravel()], axis=1)
    cells += rng.normal(0, 0.24 * spacing, cells.shape)
    for crypt in crypts:
        centre = np.array([crypt.x, crypt.y])
        cells = cells[np.hypot(*(cells - centre).T) > 1.5 * crypt.radius]
        count = int(2 * np.pi * 0.62 * crypt.radius / 5.0)
        angle = 2 * np.pi * (np.arange(count) + rng.uniform(-0.3, 0.3, count)) / count
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * crypt.radius
        cells = np.concatenate([cells, centre + 0.62 * ring, centre + 1.38 * ring])
    return cells[((cells > 0) & (cells < extent)).all(axis=1)]


def _warp_maps(rng: np.random.Generator, n: int, pitch: float) -> tuple[Plane, Plane]:
    """Where each pixel looks into the regular tissue: stretched and squeezed over a hundred micrometres,
    wavy over ten."""
    direction = rng.uniform(0, np.pi)
    squeeze = smooth_noise(rng, n, 110 / pitch) * np.float32(rng.uniform(4.0, 13.0) / pitch)
    line = np.arange(n, dtype=np.float32)
    x = squeeze * np.float32(np.cos(direction)) + line
    y = squeeze * np.float32(np.sin(direction)) + line[:, None]
    for target in (x, y):
        for wavelength, shift in ((60.0, 2.5), (9.0, 0.55), (3.0, 0.16)):
            target += smooth_noise(rng, n, wavelength / pitch) * np.float32(shift / pitch)
    return x, y


def _cell_maps(
    n: int, pitch: float, cells: NDArray[np.float64], maps: tuple[Plane, Plane]
) -> tuple[Plane, Plane, NDArray[np.int32]]:
    """Distance to the nearest cell border and to the cell's centre, um, and the cell's label, each (n, n)."""
    seeds = np.ones((n, n), np.uint8)
    columns, rows = np.clip((cells / pitch).astype(int), 0, n - 1).T
    seeds[rows, columns] = 0
    centre, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    border = cv2.BORDER_REFLECT_101
    warped = cv2.remap(labels.astype(np.float32), *maps, cv2.INTER_NEAREST, borderMode=border)
    centre = cv2.remap(centre, *maps, cv2.INTER_LINEAR, borderMode=border)
    inside = np.ones((n, n), np.uint8)
    inside[:, 1:] &= warped[:, 1:] == warped[:, :-1]
    inside[1:] &= warped[1:] == warped[:-1]
    edge = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    return edge * np.float32(pitch), centre * np.float32(pitch), warped.astype(np.int32)


def render_tissue(rng: np.random.Generator, n: int, pitch: float, crypts: list[Crypt]) -> tuple[Plane, Plane]:
    """The mucosa without vessels, and how much light each place gives, each (n, n), at ``pitch`` um a pixel.

    Borders are bright because fluorescein stays between the cells; nuclei take up none; the light changes
    over a hundred micrometres with the pressure and depth of the probe. Not yet blurred.
    """
    maps = _warp_maps(rng, n, pitch)
    edge, centre, labels = _cell_maps(n, pitch, place_cells(rng, n * pitch, crypts), maps)
    tissue = _cells(rng, pitch, edge, centre, labels)
    for crypt in crypts:
        _draw_crypt(rng, tissue, crypt, pitch, maps)
    light = smooth_noise(rng, n, 170 / pitch) * np.float32(0.45)
    light += smooth_noise(rng, n, 50 / pitch) * np.float32(0.16)
    return tissue, np.exp(light)


def _cells(
    rng: np.random.Generator, pitch: float, edge: Plane, centre: Plane, labels: NDArray[np.int32]
) -> Plane:
    """Brightness of cells and the gaps between them; gaps are leaky in places and closed in others."""
    n, count = len(edge), int(labels.max()) + 1
    leak = smooth_noise(rng, n, 30 / pitch) * np.float32(0.5)
    leak += smooth_noise(rng, n, 9 / pitch) * np.float32(0.6)
    width = np.float32(rng.uniform(0.6, 0.9)) * np.exp(np.float32(0.35) * leak)
    strength = np.float32(0.42) * np.exp(np.float32(0.55) * leak)
    strength *= (1 + np.float32(0.45) * smooth_noise(rng, n, 3.5 / pitch)).clip(0.1, None)
    tissue: Plane = np.exp(-np.square(edge / width)) * strength
    tissue += np.exp(-edge / np.float32(1.7)) * strength * np.float32(0.5)
    level = rng.normal(0.25, 0.055, count).clip(0.08, 0.5).astype(np.float32)
    nucleus = rng.choice([-0.45, -0.25, 0.0, 0.2], count).astype(np.float32)
    spot = 1 / (1 + np.exp(np.float32(1.8) * (centre - np.float32(NUCLEUS_UM))))
    grain = smooth_noise(rng, n, 1.4 / pitch) * np.float32(0.12)
    grain += smooth_noise(rng, n, 4.0 / pitch) * np.float32(0.24)
    tissue += level[labels] * (1 + nucleus[labels] * spot) * np.exp(grain)
    return tissue


def _draw_crypt(
    rng: np.random.Generator, tissue: Plane, crypt: Crypt, pitch: float, maps: tuple[Plane, Plane]
) -> None:
    """Turn the ring of columnar cells at ``crypt`` into a gland: dim cells, a dark lumen, bright stroma."""
    reach = 1.6 * crypt.radius + WARP_UM
    begin = [max(0, int((c - reach) / pitch)) for c in (crypt.y, crypt.x)]
    end = [int((c + reach) / pitch) for c in (crypt.y, crypt.x)]
    box = (slice(begin[0], end[0]), slice(begin[1], end[1]))
    x, y = (m[box] for m in maps)
    r = np.hypot(x - np.float32(crypt.x / pitch), y - np.float32(crypt.y / pitch))
    r = np.minimum(r * np.float32(pitch / crypt.radius), np.float32(2))
    inside = 1 / (1 + np.exp((r - 1) * 40))
    lumen = 1 / (1 + np.exp((r - np.float32(rng.uniform(0.2, 0.3))) * 30))
    stroma = np.exp(-np.square((r - np.float32(1.14)) / np.float32(0.12)))
    tissue[box] = tissue[box] * (1 - np.float32(0.45) * inside) + stroma * np.float32(0.32)
    tissue[box] *= 1 - np.float32(0.72) * lumen
