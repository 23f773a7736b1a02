"""Values in place of others, anywhere in what JSON holds: what a foreign or damaged file may say."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]
REMOVED = object()


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


FOREIGN: tuple[Any, ...] = (
    REMOVED, None, True, False, -1, 0, 1, 3, 255, 65536, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 10**30, 0.5, -0.0,
    1e-300, 1e308, "", "x", "uint8", "\x1b]0;x\x07\n", "\udcff", "../../victim", "/dev/zero", "a" * 5000, "\0",
    "ffv1", "hevc", "upscaled", "lost-at-source", "corrupt", "0" * 64, "-1,0,4,4", "0,0,99999,2",
    "9999-12-31T23:59:59+00:00", [], {}, [1], [0, 0], [-1, 5], [1, 2, 3], ["a", "b"], [1e9, 1e9], [10**6, 10**6],
    {"a": 1}, {"x": {"y": []}}, _nested(60),
)  # fmt: skip


def check_line(error: Exception) -> None:
    """``error`` is one line for a terminal, and not a long one."""
    assert str(error).isprintable()
    assert len(str(error)) < 1200


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The path of each value within ``value``."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield (*path, key)
        yield from places(part, (*path, key))


def replaced(value: Any, path: Path, new: Any) -> Any:
    """A copy of ``value`` with ``new`` at ``path``, or without what is there where it is REMOVED."""
    changed = copy.deepcopy(value)
    at = changed
    for key in path[:-1]:
        at = at[key]
    if new is REMOVED:
        del at[path[-1]]
    else:
        at[path[-1]] = new
    return changed


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """``value`` with one to three foreign values in it, or numbers of its own changed."""
    for _ in range(draw(st.integers(1, 3))):
        known = list(places(value))
        if not known:
            break
        path = draw(st.sampled_from(known))
        old: Any = value
        for key in path:
            old = old[key]
        new = draw(st.sampled_from(FOREIGN))
        if isinstance(old, int | float) and not isinstance(old, bool) and draw(st.booleans()):
            new = draw(st.sampled_from((old + 1, old - 1, -old, old * 10**6, str(old), [old])))
        value = replaced(value, path, new)
    return value
