"""Words and scale bars drawn into gray images of 8 or 16 bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.errors import UsageError
from clesr.pipeline.display.layout import round_length
from clesr.pipeline.frame import Image
from clesr.tools.export.clip import Clip, Still

Alpha = NDArray[np.uint8]  # 0 where the image stays, 255 where it is white

WARNING = "not for diagnosis"
FONT = cv2.FONT_HERSHEY_SIMPLEX
DIM = 0.35  # how much of the image is left under words
SMALLEST, LARGEST = 9, 28  # pixels of a capital letter's height
PER_WIDTH = 1 / 45  # of the image's width that is a capital letter's height
BAR_PART = 0.25  # of the image's width that the scale bar takes at most
GAP = "   "


@dataclass(frozen=True, slots=True)
class Lettering:
    """Letters for images of ``width`` pixels: ``height`` of a capital, OpenCV's ``scale`` and ``stroke``."""

    width: int

    @property
    def height(self) -> int:
        return max(SMALLEST, min(LARGEST, round(self.width * PER_WIDTH)))

    @property
    def scale(self) -> float:
        return self.height / 21  # a capital of this font is 21 pixels high at scale 1

    @property
    def stroke(self) -> int:
        return max(1, round(self.height / 12))

    @property
    def line(self) -> int:
        return round(self.height * 2)

    def width_of(self, text: str) -> int:
        return int(cv2.getTextSize(text, FONT, self.scale, self.stroke)[0][0])


def words_of(clip: Clip, still: Still) -> tuple[str, ...]:
    """What ``--burn-in`` writes: the time, scale and model, and the warning."""
    made = "as captured"
    if still.bicubic:
        made = "BICUBIC ONLY: the engine failed"
    elif clip.derivation is not None:
        identity = f" {clip.derivation.model_hash[:12]}" if clip.derivation.model_hash else ""
        made = f"x{clip.derivation.scale} {clip.derivation.model}{identity}"
    return f"{still.time_ns / 1e9:.3f} s", made, WARNING


def burn_words(image: Image, phrases: Sequence[str], pixel_um: float | None = None) -> Image:
    """A copy of ``image`` (H, W) with ``phrases`` over its dimmed lower edge, in as many lines as they need, and with a
    scale bar below where the size of a pixel is known. Raises UsageError where they do not fit into half of it."""
    letters = Lettering(image.shape[1])
    lines = wrap(phrases, letters)
    rows = len(lines) + (pixel_um is not None)
    alpha: Alpha = np.zeros((letters.line * rows + letters.height // 2, image.shape[1]), np.uint8)
    if 2 * len(alpha) > len(image) or max(map(letters.width_of, lines)) > image.shape[1] - letters.height:
        raise UsageError(
            f"--burn-in does not fit into images of {image.shape[1]}x{image.shape[0]} pixels; leave it out, or export "
            "larger ones"
        )
    for number, line in enumerate(lines):
        draw_text(
            alpha, line, (letters.height // 2, letters.line * number + round(letters.height * 1.6)), letters
        )
    if pixel_um is not None:
        _draw_bar(alpha, letters.height // 2, len(alpha) - letters.height, pixel_um, letters)
    burnt = image.copy()
    burnt[-len(alpha) :] = blend(burnt[-len(alpha) :], alpha)
    return burnt


def wrap(phrases: Sequence[str], letters: Lettering) -> list[str]:
    """``phrases`` beside each other as far as the width goes, then on lines of their own."""
    lines: list[str] = []
    for phrase in phrases:
        longer = f"{lines[-1]}{GAP}{phrase}" if lines else phrase
        if lines and letters.width_of(longer) > letters.width - letters.height:
            lines.append(phrase)
        else:
            lines[-1:] = [longer]
    return lines


def draw_text(alpha: Alpha, text: str, at: tuple[int, int], letters: Lettering) -> None:
    cv2.putText(alpha, text, at, FONT, letters.scale, 255, letters.stroke, cv2.LINE_AA)


def blend(image: Image, alpha: Alpha) -> Image:
    """``image`` dimmed, with white where ``alpha`` is."""
    white = float(np.iinfo(image.dtype).max)
    part = alpha.astype(np.float32) / 255
    mixed = image.astype(np.float32) * DIM * (1 - part) + white * part
    return np.rint(mixed).astype(image.dtype)


def bar_length(width: int, pixel_um: float, part: float = BAR_PART) -> float:
    """Micrometres of a scale bar for an image of ``width`` pixels: 1, 2 or 5 times a power of ten, at most ``part`` of
    the width."""
    return round_length(width * pixel_um * part)


def length_text(micrometres: float) -> str:
    if micrometres >= 1000:
        return f"{micrometres / 1000:g} mm"
    return f"{micrometres:g} um" if micrometres >= 1 else f"{micrometres * 1000:g} nm"


def with_scale_bar(image: Image, pixel_um: float) -> Image:
    """``image``, its pixels untouched, above a black strip with a scale bar and its length."""
    return np.concatenate([image, _bar_strip(image.shape[1], pixel_um, image.dtype.name)])


@lru_cache(maxsize=4)
def _bar_strip(width: int, pixel_um: float, dtype: str) -> Image:
    letters = Lettering(width)
    strip: Alpha = np.zeros((letters.line * 2, width), np.uint8)
    _draw_bar(strip, letters.height, letters.line, pixel_um, letters)
    return strip if strip.dtype == dtype else strip.astype(dtype) * np.dtype(dtype).type(257)


def _draw_bar(alpha: Alpha, left: int, middle: int, pixel_um: float, letters: Lettering) -> None:
    """A scale bar from ``left`` on, around the row ``middle``, and its length."""
    length = bar_length(alpha.shape[1], pixel_um)
    right, half = left + round(length / pixel_um), max(1, letters.height // 4)
    alpha[middle - half : middle + half, left:right] = 255
    draw_text(alpha, length_text(length), (right + letters.height, middle + letters.height // 2), letters)
