"""A confocal laser endomicroscopy phantom: seeded, moving, with ground truth at any scale.

The field of view is a disc 475 um across unless told otherwise, and the resolution 0.7 um: the Pentax ISC-1000,
with which the paper's images were taken at 1024 pixels. The scene is drawn once on a canvas of CANVAS pixels a
field of view, and looked at through a moving window.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist
from threading import Lock
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.resample import cubic_kernel, quantise, resampling
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.simulator.tissue import PSF_UM, Plane, place_crypts, render_tissue
from clesr.pipeline.sources.simulator.vessels import (
    VesselTree,
    cells_in_sight,
    draw_trees,
    erythrocyte_sprites,
    grow_trees,
)

FOV_UM = 475.0
CANVAS = 1024  # canvas pixels across the field of view
MARGIN_UM = 60.0  # of tissue around the field of view: how far the probe may wander
HAZE = 0.5  # light from out of focus, over that from the focus
HAZE_UM = 7.0  # how far it spreads
RADIUS = 0.495  # of the disc, in image sides
VIGNETTE = 0.28  # of the light is missing at the rim
PHOTONS = 700.0  # a pixel at full scale, with noise 1
READ_NOISE = 0.006  # of full scale, with noise 1
JOLTS = 32  # before they repeat
JOLT_EVERY_S = 5.0


class Motion:
    """Where a hand-held probe looks: slow drift, breathing, tremor and a jolt now and then, within 46 um."""

    def __init__(self, rng: np.random.Generator) -> None:
        periods = np.array([41.0, 23.0, 11.3]) * rng.uniform(0.9, 1.1, 3)
        drift = np.array([13.0, 8.0, 4.0])[:, None] * np.ones(2)
        breath, tremor = rng.uniform(0, 2 * np.pi, 2)
        sway = 5.0 * np.array([[np.cos(breath), np.sin(breath)]])
        shake = 0.3 * np.array([[np.cos(tremor), np.sin(tremor)]])
        self.amplitude = np.concatenate([drift, sway, shake])
        self.rate = 2 * np.pi * np.r_[1 / periods, rng.uniform(0.22, 0.3), rng.uniform(8, 9)]
        self.phase = rng.uniform(0, 2 * np.pi, self.amplitude.shape)
        self.jolt_time = JOLT_EVERY_S * (np.arange(JOLTS) + rng.uniform(0.1, 0.9, JOLTS))
        angle = rng.uniform(0, 2 * np.pi, JOLTS)
        strength = rng.uniform(3, 14, JOLTS)
        self.jolt = np.stack([np.cos(angle), np.sin(angle)], axis=1) * strength[:, None]

    def at(self, seconds: float) -> NDArray[np.float64]:
        """Displacement (x, y) of the field of view over the tissue, um."""
        wander = (self.amplitude * np.sin(self.rate[:, None] * seconds + self.phase)).sum(axis=0)
        since = (seconds - self.jolt_time) % (JOLTS * JOLT_EVERY_S) / 0.16
        moved: NDArray[np.float64] = wander + (since * np.exp(1 - since)) @ self.jolt
        return moved


class PhantomScene(NamedTuple):
    """Tissue at rest, optically blurred: (n, n), n canvas pixels with a margin around the field of view."""

    canvas: Plane
    plasma: Plane  # the canvas at a quarter of its size, which erythrocytes darken
    trees: list[VesselTree]
    sprites: Plane  # what an erythrocyte takes away, by its angle


@lru_cache(maxsize=4)  # some 8 MB each; drawing takes most of a second
def draw_scene(seed: int, fov_um: float) -> PhantomScene:
    """The scene of ``seed`` for a field of view of ``fov_um``; read-only, for it may be shared."""
    pitch = fov_um / CANVAS
    rng, n = np.random.default_rng((seed, 2)), 8 * round((fov_um + 2 * MARGIN_UM) / pitch / 8)
    extent = n * pitch
    crypts = place_crypts(rng, extent)
    thin = 2 if pitch < 0.75 * PSF_UM else 1  # half the pixels hold what the blur leaves
    coarse = thin * pitch
    tissue, light = render_tissue(rng, n // thin, coarse, crypts)
    trees = grow_trees(rng, extent, crypts)
    draw_trees(rng, tissue, trees, coarse)
    tissue *= light
    haze = cv2.resize(tissue, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    haze = cv2.GaussianBlur(haze, (0, 0), HAZE_UM / (4 * coarse))
    tissue += cv2.resize(haze, tissue.shape, interpolation=cv2.INTER_CUBIC) * np.float32(HAZE)
    q = n // 8
    low, high = np.percentile(tissue[q:-q:4, q:-q:4], [0.5, 99.0])
    tissue -= np.float32(0.7 * low)
    tissue *= np.float32(2.9 / (high - low))
    fine = cv2.resize(tissue, (n, n), interpolation=cv2.INTER_CUBIC) if thin > 1 else tissue
    fine = cv2.GaussianBlur(fine, (0, 0), PSF_UM / pitch)
    canvas: Plane = 1 - np.exp(-fine.clip(0.03, None))
    plasma = cv2.resize(canvas, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    scene = PhantomScene(
        canvas, plasma.astype(np.float32, copy=False), trees, erythrocyte_sprites(pitch, PSF_UM)
    )
    for plane in (scene.canvas, scene.plasma, scene.sprites):
        plane.flags.writeable = False
    return scene


class Phantom:
    """A seeded scene of mucosa with flowing blood; frame ``index`` is always the same, in any order of calls.

    ``size`` is the LR image's side in pixels, 64 to 1024, which show ``fov_um``, 100 to 600; ``fps`` gives each
    frame its time; ``noise`` scales the photon and read noise, 0 for none; images are uint8 or, with ``bits``
    16, uint16. Any thread may call.
    """

    def __init__(
        self,
        size: int = 256,
        seed: int = 0,
        *,
        fps: float = 12.0,
        fov_um: float = FOV_UM,
        noise: float = 1.0,
        bits: int = 8,
    ) -> None:
        self.size, self.seed, self.fps, self.noise = size, seed, fps, noise
        self.dtype = np.dtype(np.uint8) if bits == 8 else np.dtype(np.uint16)
        self.full = float(np.iinfo(self.dtype).max)
        self.fov_um, self.pitch = fov_um, fov_um / CANVAS
        self.motion = Motion(np.random.default_rng((seed, 1)))
        self._scene = draw_scene(seed, fov_um)
        self._prepare_lr()

    def _prepare_lr(self) -> None:
        """Everything once more as an LR pixel sees it: degraded first and sampled then, which is the same, on
        every second canvas pixel where that leaves two for an LR pixel."""
        self._stride = 2 if 2 * self.size <= CANVAS // 2 else 1
        taps = _taps(cubic_kernel, CANVAS / self.size)
        self._lr_canvas = self._thinned(_filtered(self._scene.canvas, taps))
        self._lr_work = self._lr_canvas.copy()
        margin = 2 * (len(taps) // 4 + 1)
        padded = np.pad(self._scene.sprites, ((0, 0), (margin, margin), (margin, margin)))
        self._lr_sprites = np.stack([self._thinned(_filtered(s, taps)) for s in padded])
        self._lock = Lock()
        fine = self.size * -(-CANVAS // self.size)
        matrix = resampling(fine, self.size).matrix()
        self._lr_light = np.asarray(matrix @ _light(fine) @ matrix.T, np.float32)
        self._inside = (self._lr_light > 0.5 * self._lr_light.max()).astype(np.float32)

    def _thinned(self, image: Plane) -> Plane:
        return np.ascontiguousarray(image[:: self._stride, :: self._stride])

    def clean(self, index: int) -> Image:
        """The LR image (size, size) without noise: what antialiased bicubic makes of the truth, to within
        half a grey level on average (more on the disc's rim)."""
        return self._levels(self._clean(index))

    def measured(self, index: int) -> Image:
        """The LR image (size, size) with photon and read noise."""
        image = self._clean(index)
        if self.noise:
            rng = np.random.Generator(np.random.SFC64((self.seed, 3, index)))
            chance = np.frombuffer(rng.bytes(2 * image.size), "<u2").reshape(image.shape)
            grain = _gaussian().take(chance >> 4)
            sigma = np.sqrt(image * np.float32(1 / PHOTONS) + np.float32(READ_NOISE**2))
            image += grain * sigma * self._inside * np.float32(self.noise)
        return self._levels(image)

    def truth(self, index: int, scale: int) -> Image:
        """The HR image (scale * size, scale * size), without noise. Takes tens of milliseconds and more."""
        side = scale * self.size
        canvas = self._scene.canvas.copy()
        self._bleed(canvas, self._scene.sprites, index, 1)
        if side < CANVAS:
            canvas = _filtered(canvas, _taps(_lanczos3, CANVAS / side))
        return self._levels(self._window(canvas, index, side, 1) * _light(side))

    def _clean(self, index: int) -> Plane:
        work, rest = self._lr_work, self._lr_canvas
        with self._lock:
            windows = self._bleed(work, self._lr_sprites, index, self._stride)
            image = self._window(work, index, self.size, self._stride)
            for rows, columns in windows:
                work[rows, columns] = rest[rows, columns]
        image *= self._lr_light
        return np.clip(image, 0, 1, out=image)

    def _bleed(self, canvas: Plane, sprites: Plane, index: int, stride: int) -> list[tuple[slice, slice]]:
        """Draw the erythrocytes in sight on ``canvas``, which has every ``stride``-th pixel; gives where."""
        half, n = sprites.shape[1] // 2, len(canvas)
        start, end = (self.motion.at((index + k) / self.fps) for k in (0, 1))
        centre = MARGIN_UM + self.fov_um / 2 + (start + end) / 2
        reach = self.fov_um / 2 + np.abs(end - start).max() + 1.5 * half * stride * self.pitch
        places, angles, shades = cells_in_sight(self._scene.trees, index / self.fps, centre, reach)
        even = np.rint(places / (2 * self.pitch)).astype(np.intp)
        corners = even * (2 // stride) - half
        whole = ((corners >= 0) & (corners < n - 2 * half)).all(axis=1)
        light = shades * self._scene.plasma[tuple(even.T[::-1].clip(0, n * stride // 2 - 1) // 2)]
        patches = sprites[angles] * light[:, None, None]
        windows = []
        for k in np.flatnonzero(whole).tolist():
            x, y = corners[k].tolist()
            rows, columns = slice(y, y + 2 * half + 1), slice(x, x + 2 * half + 1)
            window = canvas[rows, columns]
            window -= patches[k]
            windows.append((rows, columns))
        return windows

    def _window(self, canvas: Plane, index: int, side: int, stride: int) -> Plane:
        """The field of view (side, side) out of ``canvas``.

        The scanner reads row by row while the probe moves, so the window leans the way the probe goes.
        """
        start = self.motion.at(index / self.fps) / self.pitch
        lean = (self.motion.at((index + 1) / self.fps) / self.pitch - start) / side
        step = CANVAS / side
        origin = start + MARGIN_UM / self.pitch + 0.5 * step - 0.5 + 0.5 * lean
        matrix = np.array([[step, lean[0], origin[0]], [0, step + lean[1], origin[1]]]) / stride
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(canvas, matrix, (side, side), flags=flags), np.float32)

    def _levels(self, image: Plane) -> Image:
        return quantise(image * np.float32(self.full), self.dtype)


@lru_cache(maxsize=1)
def _gaussian() -> Plane:
    """4096 equally likely values of a standard normal: drawing from them is faster than NumPy's own."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((k + 0.5) / 4096) for k in range(4096)], np.float32)


def _taps(kernel: Callable[[NDArray[np.float64]], NDArray[np.float64]], stretch: float) -> Plane:
    """``kernel``, of support 3 or less, widened by ``stretch`` canvas pixels, sampled and normalised."""
    half = int(np.ceil(3 * stretch))
    weights = kernel(np.arange(-half, half + 1) / stretch)
    used = np.flatnonzero(weights)
    taps: Plane = (weights / weights.sum())[used[0] : used[-1] + 1].astype(np.float32)
    return taps


def _lanczos3(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lanczos' kernel with three lobes."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


def _filtered(image: Plane, taps: Plane) -> Plane:
    filtered = cv2.sepFilter2D(image, cv2.CV_32F, taps, taps, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(filtered, np.float32)


def _light(side: int) -> Plane:
    """How much light comes through at each pixel of a (side, side) image: the disc, dimmer to its rim."""
    x = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)
    r = np.hypot(x[:, None], x[None, :])
    disc = np.clip((np.float32(RADIUS) - r) * np.float32(side) + np.float32(0.5), 0, 1)
    light: Plane = disc * (1 - np.float32(VIGNETTE / RADIUS**2) * np.square(r))
    return light
