"""Several streams on one command line: their names, and which of an option's values is whose."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from clesr.engines.common.errors import UsageError
from clesr.engines.common.text import shown

PLACE = "{stream}"  # in a file name or address: the stream's name
_NAMED = re.compile(r"([\w-]+)=(.+)", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(//)?")


def name_streams(sources: Sequence[str]) -> dict[str, str]:
    """Address by name of each source, in order: ``NAME=ADDRESS``, or an address, which is named after itself.

    Raises UsageError for a name that is given twice.
    """
    streams: dict[str, str] = {}
    for source in sources:
        match = None if os.path.exists(source) else _NAMED.fullmatch(source)
        name, address = match.groups() if match else (_own_name(source), source)
        if match and name in streams:
            raise UsageError(
                f"--source {name}={shown(address)}: there are two streams named {name}; choose another name"
            )
        unique, number = name, 1
        while unique in streams:
            number += 1
            unique = f"{name}-{number}"
        streams[unique] = address
    return streams


def _own_name(address: str) -> str:
    """A word for ``address`` that may be part of a file name."""
    path = shown(address).partition("?")[0]
    scheme = _SCHEME.match(path)
    if scheme is not None and not os.path.exists(path):
        name = path[scheme.end() :] or scheme[0].rstrip(":/")
    else:
        name = Path(path).stem
    return re.sub(r"[^\w-]+", "-", name, flags=re.ASCII).strip("-") or "stream"


def spread(option: str, values: Sequence[str], streams: Sequence[str]) -> list[str | None]:
    """The value of ``option`` for each of ``streams``: none, one each, or one with ``{stream}`` for the name.

    Raises UsageError for any other number of values.
    """
    if not values:
        return [None] * len(streams)
    if len(values) == 1 and (len(streams) == 1 or PLACE in values[0]):
        values = [values[0]] * len(streams)
    if len(values) != len(streams):
        times = "once" if len(values) == 1 else f"{len(values)} times"
        raise UsageError(
            f"{option} is given {times} for {len(streams)} stream{'s' * (len(streams) > 1)}; give it "
            f"once for each, in the order of --source, or once with {PLACE} in it, which becomes the stream's name"
        )
    spread_out = [value.replace(PLACE, name) for value, name in zip(values, streams, strict=True)]
    if len(set(spread_out)) < len(spread_out):
        raise UsageError(f"{option} {shown(spread_out[0])}: two streams cannot share it; put {PLACE} in it")
    return list(spread_out)
