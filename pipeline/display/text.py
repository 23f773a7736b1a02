"""Words on a picture: anti-aliased, in the font that Pillow brings along.

Sizes are heights of a capital letter in pixels. What that font lacks is written in a font of the system, and where none
has it as an escape.
"""

from __future__ import annotations

import functools
import itertools
import string
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from clesr.engines.common.errors import printable
from clesr.pipeline.display.layout import Box
from clesr.pipeline.display.overlay import Canvas

Colour = tuple[int, int, int]  # blue, green, red

OTHERS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial.ttf",
    "Helvetica.ttc",
)
BOLDER = 15  # a bold letter's strokes grow by its height over this
LONGEST = 300  # characters of a line; a window has no room for more
DOTS = "..."
ASKED = 16  # size at which a font is asked for its characters
MISSING = "\uffff"  # a character that no font has


class Pen:
    """Writes on ``canvas`` (H, W, 3) uint8. ``boxes`` are where words stand."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.boxes: list[Box] = []

    def write(
        self, text: str, left: float, baseline: float, size: int, colour: Colour, *, bold: bool = False
    ) -> int:
        """``text`` from column ``left`` on, its letters on row ``baseline``; how many pixels it is wide. What does not
        lie on the canvas is left out."""
        if not text:
            return 0
        mask, over = _mask(text, size, bold)
        x, y = round(left), round(baseline) - over
        wide = mask.shape[1]
        box = self.canvas[max(y, 0) : max(y + mask.shape[0], 0), max(x, 0) : max(x + wide, 0)]
        if box.size:
            part = mask[max(-y, 0) : max(-y, 0) + box.shape[0], max(-x, 0) : max(-x, 0) + box.shape[1]]
            box[:] = cv2.blendLinear(box, _plain(colour, *box.shape[:2]), 1 - part, part)
            self.boxes.append(Box(x, y, wide, mask.shape[0]))
        return wide

    def fill(self, box: Box, colour: Colour, opacity: float = 1.0) -> None:
        """``box`` in ``colour``, what is under it shining through where ``opacity`` is below 1."""
        part = self.canvas[
            max(box.top, 0) : max(box.top + box.height, 0), max(box.left, 0) : max(box.left + box.width, 0)
        ]
        if opacity >= 1:
            part[:] = colour
        elif part.size:
            table = np.arange(256)[:, None] * (1 - opacity) + np.multiply(colour, opacity)
            part[:] = cv2.LUT(part, np.rint(table).astype(np.uint8)[:, None])


def width(text: str, size: int, *, bold: bool = False) -> int:
    """How many pixels ``text`` is wide."""
    mask, _ = _mask(text, size, bold)
    return mask.shape[1]


def fitting(text: str, size: int, room: int, *, bold: bool = False) -> str:
    """``text`` in printable characters, its middle left out where it is wider than ``room`` pixels: both ends of a path
    tell."""
    text = printable(text)
    if len(text) > LONGEST:
        text = text[: LONGEST // 2] + DOTS + text[-LONGEST // 2 :]
    shown, kept = text, len(text)
    while kept > 0 and width(shown, size, bold=bold) > room:
        kept -= 1
        shown = text[: (kept + 1) // 2] + DOTS + text[len(text) - kept // 2 :] if kept > 1 else ""
    return shown


Cover = np.ndarray[tuple[int, int], np.dtype[np.float32]]


class _Glyph(NamedTuple):
    """A character: how much of each pixel it covers, where that begins right of and above its place on the baseline,
    and how far on the next one stands."""

    cover: Cover
    left: int
    over: int
    advance: float


@functools.lru_cache(maxsize=1024)
def _mask(text: str, size: int, bold: bool) -> tuple[Cover, int]:
    """How much of each pixel the letters cover, (h, w) float32 from 0 to 1, and how many rows of it lie above the
    baseline. Put together from characters: most of what is written are numbers, which change with each frame."""
    shown, name = _writable(text)
    glyphs = [_glyph(character, name, size, bold) for character in shown]
    ends = list(itertools.accumulate((glyph.advance for glyph in glyphs), initial=0.0))
    over = max((glyph.over for glyph in glyphs), default=0)
    under = max((glyph.cover.shape[0] - glyph.over for glyph in glyphs), default=0)
    mask = np.zeros((max(over + under, 1), max(round(ends[-1]), 1)), np.float32)
    for glyph, begin in zip(glyphs, ends, strict=False):
        left, top = max(round(begin) + glyph.left, 0), over - glyph.over
        part = mask[top : top + glyph.cover.shape[0], left : left + glyph.cover.shape[1]]
        np.maximum(part, glyph.cover[:, : part.shape[1]], out=part)
    return mask, over


@functools.lru_cache(maxsize=4096)
def _glyph(character: str, name: str, size: int, bold: bool) -> _Glyph:
    """Digits are all as wide as the widest, so that numbers that change stay where they are."""
    font = _font(name, size)
    assert font is not None
    stroke = size // BOLDER if bold else 0  # small letters would run together
    advance = max(map(font.getlength, string.digits if character in string.digits else character)) + stroke
    left, top, right, bottom = (int(n) for n in font.getbbox(character, anchor="ls", stroke_width=stroke))
    letter = Pillow.new("L", (max(right - left, 1), max(bottom - top, 1)))
    ImageDraw.Draw(letter).text((-left, -top), character, 255, font, anchor="ls", stroke_width=stroke)
    cover = np.asarray(letter, np.float32).reshape(letter.height, letter.width) / np.float32(255)
    return _Glyph(cover, left, -top, advance)


def _writable(text: str) -> tuple[str, str]:
    """``text`` as it can be written, and the name of the font that can."""
    for name in ("", *OTHERS):
        if _font(name, ASKED) is not None and not any(_lacks(character, name) for character in text):
            return text, name
    known = (c if not _lacks(c, "") else c.encode("unicode_escape").decode("ascii") for c in text)
    return "".join(known), ""


@functools.lru_cache(maxsize=256)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    """The font of that name, "" for Pillow's own, with capitals of ``size`` pixels; None where there is none."""
    try:
        capital = _of_size(name, 100).getbbox("H", anchor="ls")
        return _of_size(name, size * 100 / -capital[1])
    except OSError:
        return None


def _of_size(name: str, points: float) -> ImageFont.FreeTypeFont:
    if name:
        return ImageFont.truetype(name, points)
    font = ImageFont.load_default(points)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise OSError("Pillow was built without FreeType")
    return font


@functools.lru_cache(maxsize=4096)
def _lacks(character: str, name: str) -> bool:
    font = _font(name, ASKED)
    assert font is not None
    return not character.isspace() and bytes(font.getmask(character)) == bytes(font.getmask(MISSING))


@functools.lru_cache(maxsize=512)
def _plain(colour: Colour, rows: int, columns: int) -> Canvas:
    return np.full((rows, columns, 3), colour, np.uint8)
