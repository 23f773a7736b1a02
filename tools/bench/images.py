"""The images that engines are measured on."""

from __future__ import annotations

import os

import numpy as np

from clesr.engines.common.image import Pixels
from clesr.tools.data.degrade import degrade
from clesr.tools.data.images import read_entry

DATA = "CLESR_DATA"


def phantom(side: int, seed: int = 0) -> Pixels:
    """A still (side, side) of the simulated endomicroscope, without noise."""
    from clesr.pipeline.sources.simulator.phantom import Phantom

    return Phantom(side, seed, fps=12.0).truth(0, 1).astype(np.uint8, copy=False)


def known_images(least: int = 256) -> list[tuple[str, Pixels]]:
    """The test images of CLESR_DATA, else one phantom of about ``least`` pixels a side (64 to 1024)."""
    folder = os.environ.get(DATA)
    if folder:
        return list(read_entry(f"{folder}/test"))
    return [("phantom", phantom(min(max(least, 64), 1024)))]


def lr_and_hr(scale: int, shape: tuple[int, int]) -> tuple[Pixels, Pixels]:
    """LR of ``shape`` (H, W) and its HR: the middle of the first test image that is large enough, else of the first
    one mirrored to the size. Without CLESR_DATA the image is the phantom's."""
    height, width = shape[0] * scale, shape[1] * scale
    images = [image for _, image in known_images(max(height, width))]
    image = next((i for i in images if i.shape[0] >= height and i.shape[1] >= width), images[0])
    missing = [max(0, n - m) for n, m in zip((height, width), image.shape, strict=True)]
    image = np.pad(image, [(0, n) for n in missing], mode="symmetric")
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    hr = np.ascontiguousarray(image[top : top + height, left : left + width])
    return degrade(hr, scale), hr
