"""Image quality inside the field of view, over the integer images themselves."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

RADIUS, SIGMA = 5, 1.5  # of the window of SSIM, pixels


def psnr(reference: NDArray[np.uint8], image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """True peak signal-to-noise ratio in dB (peak 255) of two (H, W) uint8 images where ``mask`` is true."""
    error = reference.astype(np.float64) - image.astype(np.float64)
    mse = float(np.mean(error[mask] ** 2))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def wrapped_psnr(reference: NDArray[np.uint8], image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """PSNR as the authors' published evaluation has it: subtracted and squared in uint8, so that every error of 16 grey
    levels or more wraps around. For comparison with their figures alone; dB, as :func:`psnr`."""
    error = reference - image
    mse = float(np.mean((error * error)[mask]))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def ssim(reference: NDArray[np.uint8], image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """Mean structural similarity (Wang 2004: Gaussian window 11x11, sigma 1.5, K 0.01 and 0.03, peak 255) of two
    (H, W) uint8 images over the pixels where ``mask`` is true and whose window lies in the image."""
    x, y = reference.astype(np.float64), image.astype(np.float64)
    mean_x, mean_y = _window(x), _window(y)
    var_x, var_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    whole = np.s_[RADIUS:-RADIUS, RADIUS:-RADIUS]
    return float(np.mean(similarity[whole][mask[whole]]))


def _window(image: NDArray[np.float64]) -> NDArray[np.float64]:
    line = cv2.getGaussianKernel(2 * RADIUS + 1, SIGMA)
    return np.asarray(
        cv2.sepFilter2D(image, cv2.CV_64F, line, line, borderType=cv2.BORDER_REFLECT), np.float64
    )
