"""How large an image of a source may be: checked from what a header states, before memory is taken.

The limit is one for the process, as in Pillow and OpenCV, so that it holds wherever an image is read: sources,
sessions, archives, training.
"""

from __future__ import annotations

from clesr.engines.common.errors import UsageError
from clesr.engines.common.numbers import shortened, whole_number

DEFAULT_SIDE = 8192
MOST_SIDE = 65_535
OPTION = "--max-size"

# Decoded bytes that a stored image may come to: a fixed part, which an even image of 8192x8192 in 16 bit needs, and so
# many times its own bytes. A microscope's image is compressed tenfold or so, a bomb a thousandfold.
FREE_BYTES = 144 << 20
MOST_RATIO = 128
# The same for all pictures that a video's decoder keeps.
FREE_VIDEO_BYTES = 384 << 20
VIDEO_RATIO = 72
INTRA_KEPT, INTER_KEPT = 4, 12  # pictures: of codecs without and with prediction between them
_ROUNDED = 128

_side = DEFAULT_SIDE


def set_max_side(side: int) -> None:
    """From now on take images whose width and height are at most ``side`` pixels. Raises UsageError."""
    global _side
    if not 1 <= side <= MOST_SIDE:
        raise _not_allowed(str(side))
    _side = side


def parse_side(text: str | int) -> int:
    """The longest side that ``text`` says. Raises UsageError."""
    try:
        return whole_number(str(text))
    except ValueError:
        raise _not_allowed(shortened(str(text))) from None


def max_side() -> int:
    """The longest side, in pixels, of an image that is taken."""
    return _side


def size_problem(shape: tuple[int, int], *, decoded: int = 0, stored: int | None = None) -> str | None:
    """What is wrong with an image of ``shape`` (H, W) that takes ``decoded`` bytes in memory and ``stored`` in its
    file, in a line to stand behind its name; None where nothing is."""
    height, width = shape
    if height < 1 or width < 1:
        return f"it states {width}x{height} pixels, which is no image"
    if height > _side or width > _side:
        return f"it states {width}x{height} pixels; allowed are {_side} a side ({OPTION} changes that)"
    if stored is not None and decoded > FREE_BYTES * _grown() + MOST_RATIO * stored:
        return f"it states {decoded >> 20} MB of pixels, more than its {stored} bytes can hold"
    return None


def video_problem(shape: tuple[int, int], stored: int | None, *, bits: int, kept: int) -> str | None:
    """As ``size_problem``, of the pictures of a video whose file has ``stored`` bytes (None: nobody knows how many), of
    ``bits`` a pixel, of which its decoder keeps ``kept``."""
    problem = size_problem(shape)
    if problem is not None or stored is None:
        return problem
    decoded = shape[0] * shape[1] * bits // 8 * kept
    if decoded > _video_bytes(stored):
        return f"it states {shape[1]}x{shape[0]} pixels, for which its {stored} bytes are far too few"
    return None


def most_pixels(stored: int | None, *, kept: int = INTRA_KEPT) -> int:
    """FFmpeg's ``max_pixels`` for a video whose file has ``stored`` bytes and whose decoder keeps ``kept`` pictures."""
    largest = decoder_pixels((_side, _side))
    return largest if stored is None else min(largest, _video_bytes(stored) // kept + 2 * _ROUNDED * _side)


def decoder_pixels(size: tuple[int, int]) -> int:
    """FFmpeg's ``max_pixels`` for pictures of ``size``, whose sides its decoders round up."""
    return (size[0] + _ROUNDED) * (size[1] + _ROUNDED)


def _not_allowed(given: str) -> UsageError:
    return UsageError(f"{OPTION} {given} is not allowed; give the longest side in pixels, 1 to {MOST_SIDE}")


def _video_bytes(stored: int) -> int:
    return round(FREE_VIDEO_BYTES * _grown()) + VIDEO_RATIO * stored


def _grown() -> float:
    """By how much the user has raised the limit."""
    return max(1.0, (_side / DEFAULT_SIDE) ** 2)
