"""Capillaries, bright with fluorescein in the plasma, and the erythrocytes that flow in them, dark."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.pipeline.sources.simulator.tissue import Crypt, Plane, smooth_noise

STEP_UM = 1.0  # between the points of a path
ANGLES = 32  # directions in which an erythrocyte is drawn
ERYTHROCYTE_UM = (3.3, 2.4)  # half axes along and across the flow: 7 um discs, folded in a capillary
SPACING_UM = (6.0, 13.0)  # from one erythrocyte to the next
SPEED_UM_S = (60.0, 260.0)
PULSE = 0.3  # of the speed, at the heart's rate
HEART_HZ = 1.15
SHADE = (0.4, 0.65)  # of the plasma's light, that an erythrocyte takes


Cells = tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float32]]
"""Erythrocytes: x, y (M, 2) um, direction (M,) as index of ANGLES, shade (M,)."""


@dataclass(frozen=True, slots=True, eq=False)
class FlowPath:
    """A way through a capillary from canvas edge to canvas edge: points (K, 2) as x, y um, STEP_UM apart;
    directions (K,) as indices of ANGLES; radii (K,) um."""

    points: NDArray[np.float64]
    angles: NDArray[np.intp]
    radii: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class VesselTree:
    """A capillary that branches: paths that share their first part, and the N cells that flow in them.

    ``starts`` (um) is where along its path each cell is at time zero, ``lanes`` which path it takes,
    ``offsets`` (um) how far from the centre line, ``shades`` the share of the plasma's light that it takes.
    A cell comes back after ``circuit`` um; ``speed`` is in um/s.
    """

    paths: list[FlowPath]
    speed: float
    circuit: float
    starts: NDArray[np.float64]
    lanes: NDArray[np.intp]
    offsets: NDArray[np.float64]
    shades: NDArray[np.float32]

    def cells(self, seconds: float) -> Cells:
        """The cells that are on their way."""
        omega = 2 * np.pi * HEART_HZ
        way = self.speed * (seconds + PULSE / omega * np.sin(omega * seconds))
        index = ((self.starts + way) % self.circuit / STEP_UM).astype(np.intp)
        places, directions, shades = [], [], []
        for vessel, path in enumerate(self.paths):
            mine = (self.lanes == vessel) & (index < len(path.points))
            at = index[mine]
            angle = path.angles[at] * (2 * np.pi / ANGLES)
            across = np.stack([-np.sin(angle), np.cos(angle)], axis=1) * self.offsets[mine, None]
            places.append(path.points[at] + across)
            directions.append(path.angles[at])
            shades.append(self.shades[mine])
        return np.concatenate(places), np.concatenate(directions), np.concatenate(shades)


def grow_trees(rng: np.random.Generator, extent: float, crypts: list[Crypt]) -> list[VesselTree]:
    """A few capillaries across a square of ``extent`` um, bending around the crypts."""
    count = round(rng.uniform(1.6, 2.6) * extent / 360)
    return [_grow_tree(rng, extent, crypts) for _ in range(count)]


def _grow_tree(rng: np.random.Generator, extent: float, crypts: list[Crypt]) -> VesselTree:
    side = rng.uniform(0, 2 * np.pi)
    centre = np.full(2, extent / 2)
    start = centre + 0.62 * extent * np.array([np.cos(side), np.sin(side)])
    aim = centre + rng.uniform(-0.2, 0.2, 2) * extent - start
    trunk = _walk(rng, start, float(np.arctan2(aim[1], aim[0])), extent, crypts)
    radius = rng.uniform(3.4, 4.6)
    paths = [_path(trunk, np.full(len(trunk), radius))]
    for _ in range(int(rng.integers(1, 3))):
        split = int(rng.uniform(0.35, 0.7) * len(trunk))
        ahead = trunk[split] - trunk[split - 3]
        turn = rng.choice([-1, 1]) * rng.uniform(0.5, 1.0)
        heading = float(np.arctan2(ahead[1], ahead[0]) + turn)
        branch = _walk(rng, trunk[split], heading, extent, crypts)
        radii = np.r_[np.full(split, radius), np.full(len(branch), 0.8 * radius)]
        paths.append(_path(np.concatenate([trunk[:split], branch]), radii))
    circuit = max(len(p.points) for p in paths) * STEP_UM
    gaps = rng.uniform(*SPACING_UM, int(circuit / SPACING_UM[0]))
    starts = np.cumsum(gaps)
    starts = starts[starts < circuit]
    return VesselTree(
        paths,
        speed=rng.uniform(*SPEED_UM_S),
        circuit=circuit,
        starts=starts,
        lanes=rng.integers(0, len(paths), len(starts)),
        offsets=rng.uniform(-0.22, 0.22, len(starts)) * radius,
        shades=rng.uniform(*SHADE, len(starts)).astype(np.float32),
    )


def _walk(
    rng: np.random.Generator, start: NDArray[np.float64], heading: float, extent: float, crypts: list[Crypt]
) -> NDArray[np.float64]:
    """A winding line (K, 2) from ``start`` until it has crossed and left the square, K * STEP_UM long."""
    (x, y), bend = start.tolist(), 0.0
    points, entered = [(x, y)], False
    for shake in rng.normal(0, 0.0055, int(4 * extent / STEP_UM)).tolist():
        bend = 0.93 * bend + shake
        heading += bend
        for crypt in crypts:
            dx, dy = x - crypt.x, y - crypt.y
            distance = math.hypot(dx, dy) / crypt.radius
            if distance < 1.6:
                side = math.copysign(1, math.cos(heading) * dy - math.sin(heading) * dx)
                heading += side * 0.16 * (1.6 - distance)
        x += STEP_UM * math.cos(heading)
        y += STEP_UM * math.sin(heading)
        points.append((x, y))
        inside = min(x, y) > -12 and max(x, y) < extent + 12
        if entered and not inside:
            break
        entered |= inside
    return np.array(points)


def _path(points: NDArray[np.float64], radii: NDArray[np.float64]) -> FlowPath:
    ahead = np.gradient(points, axis=0)
    angles = np.rint(np.arctan2(ahead[:, 1], ahead[:, 0]) * ANGLES / (2 * np.pi)).astype(np.intp) % ANGLES
    return FlowPath(points, angles, radii)


def cells_in_sight(
    trees: list[VesselTree], seconds: float, centre: NDArray[np.float64], reach: float
) -> Cells:
    """The cells of all ``trees`` within ``reach`` um of ``centre``, but those that others hide at crossings."""
    each = [tree.cells(seconds) for tree in trees]
    places, angles, shades = (np.concatenate(parts) for parts in zip(*each, strict=True))
    inside = np.flatnonzero(np.square(places - centre).sum(axis=1) < reach**2)
    x, y = places[inside].T
    near = np.square(x[:, None] - x) + np.square(y[:, None] - y) < ERYTHROCYTE_UM[0] ** 2
    seen = inside[~np.triu(near, 1).any(axis=0)]
    return places[seen], angles[seen], shades[seen]


def draw_trees(rng: np.random.Generator, tissue: Plane, trees: list[VesselTree], pitch: float) -> None:
    """Put the capillaries, full of plasma, into ``tissue``; the epithelium above them shows through."""
    lumen = np.zeros(tissue.shape, np.uint8)
    extent = len(tissue) * pitch
    for path in (p for tree in trees for p in tree.paths):
        for (x, y), radius in zip(path.points, path.radii, strict=True):
            if -20 < x < extent + 20 and -20 < y < extent + 20:
                centre = (round(16 * x / pitch), round(16 * y / pitch))
                cv2.circle(lumen, centre, round(16 * radius / pitch), 255, -1, cv2.LINE_AA, 4)
    share = cv2.GaussianBlur(lumen.astype(np.float32) / 255, (0, 0), 0.8 / pitch)
    depth = cv2.GaussianBlur(share, (0, 0), 2.0 / pitch)
    plasma = np.exp(np.float32(0.1) * smooth_noise(rng, len(tissue), 2.5 / pitch))
    plasma *= np.float32(0.4) + np.float32(0.8) * depth
    tissue *= 1 - np.float32(0.78) * share
    tissue += share * plasma + cv2.GaussianBlur(share, (0, 0), 5.0 / pitch) * np.float32(0.06)


def erythrocyte_sprites(pitch: float, psf: float) -> Plane:
    """(ANGLES, k, k): the light that an erythrocyte takes, 0 to 1, seen with a Gaussian PSF of ``psf`` um."""
    half = 2 * int(np.ceil((max(ERYTHROCYTE_UM) + 4 * psf) / pitch / 2))
    y, x = np.mgrid[-half : half + 1, -half : half + 1] * pitch
    sprites = []
    for k in range(ANGLES):
        c, s = np.cos(2 * np.pi * k / ANGLES), np.sin(2 * np.pi * k / ANGLES)
        along, across = (c * x + s * y) / ERYTHROCYTE_UM[0], (c * y - s * x) / ERYTHROCYTE_UM[1]
        rear = 0.25 * np.clip(-along, 0, None) * (1 - np.abs(across))  # the hollow back of a parachute
        body = 1 / (1 + np.exp(9 * (np.hypot(along, across) - 1))) * (1 - rear)
        sprites.append(cv2.GaussianBlur(body.astype(np.float32), (0, 0), psf / pitch))
    return np.stack(sprites)
