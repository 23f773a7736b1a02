"""Bicubic, bilinear and nearest interpolation as an engine without weights."""

from __future__ import annotations

import functools

import numpy as np

from clesr.engines.common.image import Image
from clesr.engines.common.processor import cpu_name
from clesr.engines.engine import EngineInfo
from clesr.engines.worker import WorkerEngine

METHODS = ("bicubic", "bilinear", "nearest")


def open_interpolation(method: str, scale: int, shape: tuple[int, int]) -> WorkerEngine:
    """An engine for one of METHODS."""
    precision = "fp32" if method == "bicubic" else "integer"
    info = EngineInfo("interpolation", cpu_name(), precision, method, "", scale, shape)
    return WorkerEngine(info, functools.partial(interpolate, method=method, scale=scale))


def interpolate(image: Image, *, method: str, scale: int) -> Image:
    """``image`` (H, W) uint8 or uint16 enlarged ``scale`` times, in its dtype.

    Sample centres lie half a pixel inside the border. Bicubic is Keys' with a = -0.5, as
    :func:`clesr.engines.common.resample.resize`, to within one level.
    """
    height, width = image.shape[0] * scale, image.shape[1] * scale
    if method == "bicubic":
        import torch

        x = torch.from_numpy(image.astype(np.float32))[None, None]
        # antialias changes nothing when enlarging but selects a = -0.5 and Pillow's borders
        y = torch.nn.functional.interpolate(x, (height, width), mode="bicubic", antialias=True)
        levels: Image = y[0, 0].round_().clamp_(0, np.iinfo(image.dtype).max).numpy().astype(image.dtype)
        return levels
    import cv2

    flag = cv2.INTER_LINEAR if method == "bilinear" else cv2.INTER_NEAREST_EXACT
    enlarged: Image = cv2.resize(image, (width, height), interpolation=flag)  # type: ignore[assignment]
    return enlarged
