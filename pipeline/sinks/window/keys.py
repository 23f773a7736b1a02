"""The keys of a window by the names that actions use."""

from __future__ import annotations

NAMED = {
    8: "backspace",
    9: "tab",
    10: "enter",
    13: "enter",
    27: "esc",
    32: "space",
    127: "delete",
    65288: "backspace",
    65289: "tab",
    65293: "enter",
    65307: "esc",
    65360: "home",
    65361: "left",
    65362: "up",
    65363: "right",
    65364: "down",
    65365: "page-up",
    65366: "page-down",
    65367: "end",
    65421: "enter",
    65535: "delete",
    **{65470 + number: f"f{number + 1}" for number in range(12)},
    **{65456 + digit: str(digit) for digit in range(10)},  # of the number block
    65451: "+",
    65453: "-",
}
"""By code of ASCII, or keysym of X11 (keysymdef.h), as OpenCV gives them."""


def key_name(code: int) -> str:
    """What a key is called in the settings: a character, or a name; "" for Shift and its like."""
    if code in NAMED:
        return NAMED[code]
    return chr(code) if 32 < code < 127 else ""
