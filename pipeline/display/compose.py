"""The picture of a result as the operator wants to see it, before anything is written on it.

Only what is shown is changed. Frames and results are left as they are, and so is every recording of them.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

from clesr.engines.common.image import Pixels
from clesr.engines.common.resample import quantise, resize
from clesr.engines.view import TILE, eight_bits, field_of_view
from clesr.pipeline.display.layout import Box, edge_of, visible
from clesr.pipeline.display.overlay import Canvas, cover_of, tint
from clesr.pipeline.display.view_state import Contrast, Mode, ViewState
from clesr.pipeline.frame import Fidelity, Image, Outcome, Result

OUTER = 0.005  # of the grey levels become black, and so many white
CLIP, TILES = 2.0, (8, 8)  # of CLAHE


def compose(result: Result, view: ViewState) -> Pixels | Canvas:
    """(H, W) uint8 gray, or (H, W, 3) uint8 blue-green-red: what ``view`` shows of ``result``, cut to what is visible
    and never enlarged; ``layout.lay_out`` says where it belongs. 16-bit images are shown by their top 8 bits.

    As large as the visible part of the SR image, side by side twice as wide; a raw image in its own size.
    """
    shape = shown_shape(result, view)
    crop = visible(shape, view)
    images = _images(result, view, shape)
    if view.contrast is Contrast.CLAHE:  # which looks at all of an image
        images = [np.asarray(cv2.createCLAHE(CLIP, TILES).apply(image), np.uint8) for image in images]
    table = _table(levels_of(result, view), view.lookup_table)
    shown = [_looked_up(_cut(image, crop), table) for image in images]
    if view.overlay and shown_check(result, view) is not None:
        shown = [_in_colour(image) for image in shown]
        shown[-1] = tint(shown[-1], _cut(_cover(result, view, shape), crop))
    return shown[0] if len(shown) == 1 else np.hstack(shown)


def shown_shape(result: Result, view: ViewState) -> tuple[int, int]:
    """(H, W) of the whole image of which ``view`` shows a part."""
    height, width = (result.frame.image if view.mode is Mode.RAW else result.image).shape
    return height, width


def shown_check(result: Result, view: ViewState) -> Fidelity | None:
    """What was found of the image of the network; None where ``view`` does not show that, or nothing was found."""
    return None if view.mode in (Mode.RAW, Mode.BICUBIC) else result.check


def worst_tile(result: Result, view: ViewState) -> tuple[float, float, float, float] | None:
    """The tile of the image of the network that agrees least with what was measured, as shares of the image's width and
    height: left, top, right, bottom; None where it is not below the limit, or ``view`` does not show that image."""
    check = shown_check(result, view)
    if check is None or not check.below_limit or check.worst_at is None or result.outcome is Outcome.FAILED:
        return None
    (row, column), (height, across) = check.worst_at, result.lr.shape
    return column / across, row / height, (column + TILE) / across, (row + TILE) / height


def levels_of(result: Result, view: ViewState) -> tuple[float, float] | None:
    """The 8-bit grey levels that ``view`` shows as black and as white; None where they are as they are.

    By `Contrast.AUTO` those of the measured image inside the field of view, so that bicubic and SR images look alike
    and a zoom changes nothing.
    """
    if view.contrast is Contrast.FIXED:
        return view.levels
    if view.contrast is not Contrast.AUTO:
        return None
    image = result.frame.image if view.mode is Mode.RAW else result.lr
    seen = field_of_view(image).astype(np.uint8)
    counts = np.cumsum(cv2.calcHist([eight_bits(image)], [0], seen, [256], [0, 256]).ravel())
    low, high = (int(np.searchsorted(counts, share * counts[-1])) for share in (OUTER, 1 - OUTER))
    return float(low), float(min(high, 255))


def _images(result: Result, view: ViewState, shape: tuple[int, int]) -> list[Pixels]:
    """What is shown from left to right, gray, each of ``shape``."""
    if view.mode is Mode.RAW:
        return [eight_bits(result.frame.image)]
    sr = eight_bits(result.image)
    if view.mode is Mode.SR:
        return [sr]
    if view.mode is Mode.RAW_SIDE:
        raw = cv2.resize(eight_bits(result.lr), (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
        return [np.asarray(raw, np.uint8), sr]
    bicubic = _bicubic(result.lr, shape)
    if view.mode is Mode.BICUBIC:
        return [bicubic]
    if view.mode is Mode.SIDE:
        return [bicubic, sr]
    edge = edge_of(shape[1], view)
    return [np.hstack((bicubic[:, :edge], sr[:, edge:]))]


def _bicubic(lr: Image, shape: tuple[int, int]) -> Pixels:
    enlarged = resize(lr, *shape)
    if lr.dtype == np.uint16:
        return eight_bits(quantise(enlarged, lr.dtype))
    return np.asarray(cv2.convertScaleAbs(np.maximum(enlarged, 0)), np.uint8)  # rounds and clips, in one pass


def _cover(result: Result, view: ViewState, shape: tuple[int, int]) -> Pixels:
    """How far the fidelity overlay hides each pixel of the SR image; a bicubic one is not meant."""
    assert result.check is not None
    cover = cover_of(result.lr, result.check, shape)
    if view.mode is Mode.WIPE:
        cover[:, : edge_of(shape[1], view)] = 0
    return cover


def _cut(image: Pixels, box: Box) -> Pixels:
    return image[box.top : box.top + box.height, box.left : box.left + box.width]


def _looked_up(image: Pixels, table: Pixels | None) -> Pixels | Canvas:
    if table is None:
        return image
    if table.ndim == 1:
        return np.asarray(cv2.LUT(image, table), np.uint8)
    return np.asarray(cv2.applyColorMap(image, table), np.uint8)


def _in_colour(image: Pixels | Canvas) -> Canvas:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image, np.uint8)


@functools.lru_cache(maxsize=8)
def _table(levels: tuple[float, float] | None, name: str) -> Pixels | None:
    """What each grey level looks like, (256,) or (256, 1, 3); None where nothing changes."""
    ramp = np.arange(256, dtype=np.float64)
    if levels is not None:
        low, high = levels
        ramp = np.clip((ramp - low) * (255 / max(high - low, 1)), 0, 255)
    at = np.rint(ramp).astype(np.uint8)
    if name in COLOURS:
        return np.ascontiguousarray(colours(name)[at])
    return None if levels is None else at


COLOURS = {"green": None, "fire": cv2.COLORMAP_HOT, "viridis": cv2.COLORMAP_VIRIDIS}


def colours(name: str) -> Pixels:
    """The look-up table of that name, (256, 1, 3) blue-green-red."""
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    colour_map = COLOURS.get(name)
    if colour_map is not None:
        return np.asarray(cv2.applyColorMap(ramp, colour_map), np.uint8)
    gray = np.repeat(ramp[:, :, None], 3, axis=2)
    return np.asarray(gray * np.array([0, 1, 0], np.uint8), np.uint8) if name in COLOURS else gray
