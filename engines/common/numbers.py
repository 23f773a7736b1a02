"""Numbers as people write them in options and addresses: plain decimal digits, and not too many of them.

``int``, ``float`` and ``Fraction`` take more than a person means by a number (underscores, digits of other scripts,
spaces, ``nan``), and need minutes for ``1e99999999``.
"""

from __future__ import annotations

import re
from fractions import Fraction

_WHOLE = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?([0-9]{1,19}(\.[0-9]{0,19})?|\.[0-9]{1,19})(e[+-]?[0-9]{1,2})?", re.ASCII | re.I)
_RATIO = re.compile(r"[0-9]{1,12}/[0-9]{1,12}", re.ASCII)


def whole_number(text: str) -> int:
    """``text`` as a whole number of at most 19 digits. Raises ValueError."""
    if _WHOLE.fullmatch(text) is None:
        raise ValueError(f"{shortened(text)} is no whole number")
    return int(text)


def decimal_number(text: str) -> float:
    """``text`` as a finite decimal number. Raises ValueError."""
    if _DECIMAL.fullmatch(text) is None:
        raise ValueError(f"{shortened(text)} is no number")
    return float(text)


def rational_number(text: str) -> Fraction:
    """``text`` as a decimal number or a ratio such as 30000/1001, exactly. Raises ValueError."""
    if _RATIO.fullmatch(text) is None and _DECIMAL.fullmatch(text) is None:
        raise ValueError(f"{shortened(text)} is no number and no ratio")
    try:
        return Fraction(text)
    except ZeroDivisionError:
        raise ValueError(f"{shortened(text)} divides by zero") from None


def shortened(text: str, most: int = 60) -> str:
    """``text`` quoted, printable and of at most ``most`` characters, to stand in an error."""
    return repr(text if len(text) <= most else text[: most - 1] + "\u2026")
