"""Phantom stills for training: clean, each of another scene and magnification."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clesr.pipeline.sources.simulator.demo import read_options, whole_option
from clesr.pipeline.sources.simulator.phantom import Phantom

OPTIONS = {
    "size": whole_option(512, 64, 1024),
    "images": whole_option(16, 1, 1000),
    "seed": whole_option(0, 0),
}
FOV_UM = (130.0, 320.0)
FPS = 12.0
FRAMES = 1200  # of each scene, out of which one is taken


def phantom_images(address: str) -> list[tuple[str, NDArray[np.uint8]]]:
    """Names and clean HR images (size, size) for an address such as ``demo:?size=512&images=16&seed=7``.

    Image k is of the scene with seed ``seed + k``, at a random time and with a field of view between 130 and
    320 um. The same address always gives the same images. Raises UsageError for options that are not allowed.
    """
    options = read_options(address, OPTIONS)
    first = options["seed"]
    return [
        (f"phantom seed {seed}", _still(options["size"], seed))
        for seed in range(first, first + options["images"])
    ]


def _still(size: int, seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng((seed, 5))
    phantom = Phantom(size, seed, fps=FPS, fov_um=float(rng.uniform(*FOV_UM)))
    return phantom.truth(int(rng.integers(FRAMES)), 1).astype(np.uint8, copy=False)
