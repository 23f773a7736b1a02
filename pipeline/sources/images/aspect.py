"""The form of pixels, as files state it by their sides."""

from __future__ import annotations

from fractions import Fraction

_MOST_OBLONG, _FINEST = 100, 1000  # parts of an aspect ratio, and of its denominator


def aspect_of(width: float | None, height: float | None) -> Fraction | None:
    """``width`` of a pixel over its ``height``; None where one is not stated, or the form is none that pixels have."""
    if not width or not height or not 1 / _MOST_OBLONG <= width / height <= _MOST_OBLONG:
        return None
    return (Fraction(width) / Fraction(height)).limit_denominator(_FINEST)
