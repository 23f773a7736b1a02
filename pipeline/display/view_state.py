"""How the operator wants to see a stream: the same in the window and in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """What of a frame is shown."""

    SR = "sr"
    WIPE = "wipe"  # bicubic left of an edge, SR right of it
    SIDE = "side-by-side"  # bicubic, SR
    BICUBIC = "bicubic"
    RAW = "raw"  # pixels as they were captured
    RAW_SIDE = "raw-beside"  # pixels that the engine read, SR


class Contrast(StrEnum):
    """How grey levels become brightness on the screen. Nothing of it is in a recording."""

    AS_IS = "as-is"
    AUTO = "auto"  # the darkest and brightest half percent become black and white
    FIXED = "fixed"  # ``ViewState.levels``
    CLAHE = "clahe"  # contrast-limited adaptive histogram equalisation


LOOKUP_TABLES = ("gray", "green", "fire", "viridis")


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewState:
    """What is shown, and how.

    ``wipe`` is where the edge of a wipe stands, 0 to 1 of the image's width. ``levels`` are the 8-bit grey levels that
    become black and white by `Contrast.FIXED`. ``zoom`` is at least 1; ``centre`` (x, y) is what stands in the middle
    then, as shares of the image's width and height. ``hud`` is ``over`` the image, ``beside`` it, or ``off``: what
    must not be overlooked is shown in any case. ``region`` (x, y, width, height) is the part of the captured image,
    in its pixels, that the user has marked by a drag. ``asking`` is a question that waits for the key pressed
    again, ``said`` the answer to the last action, in one line.
    """

    mode: Mode = Mode.SR
    wipe: float = 0.5
    overlay: bool = False
    contrast: Contrast = Contrast.AS_IS
    levels: tuple[float, float] = (0.0, 255.0)
    lookup_table: str = "gray"
    zoom: float = 1.0
    centre: tuple[float, float] = (0.5, 0.5)
    hud: str = "over"
    scale_bar: bool = False
    help: bool = False
    full_screen: bool = False
    mosaic: bool = False
    frozen: bool = False
    region: tuple[int, int, int, int] | None = None
    asking: str = ""
    said: str = ""
