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
    return _different(
        option, [value.replace(PLACE, name) for value, name in zip(values, streams, strict=True)]
    )


def spread_several(option: str, values: Sequence[str], streams: Sequence[str]) -> list[tuple[str, ...]]:
    """The values of ``option`` for each of ``streams``: those with ``{stream}``, which all have, those with its
    ``NAME=``, and of the others one each. A single stream has all.

    Raises UsageError where the others are not as many as the streams, or two are the same.
    """
    own: dict[str, list[str]] = {name: [] for name in streams}
    ordered = []
    for value in values:
        name, equals, rest = value.partition("=")
        if PLACE in value:
            for stream in streams:
                own[stream].append(value.replace(PLACE, stream))
        elif len(streams) == 1:
            own[streams[0]].append(value)
        elif equals and name in own:
            own[name].append(rest)
        else:
            ordered.append(value)
    for stream, one in zip(streams, spread(option, ordered, streams), strict=True):
        own[stream] += [one] if one is not None else []
    _different(option, [value for each in own.values() for value in each])
    return [tuple(each) for each in own.values()]


def _different(option: str, values: list[str]) -> list[str | None]:
    """``values``; raises UsageError where one of them is there twice."""
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise UsageError(
            f"{option} {shown(twice)}: two outputs cannot share it; give each its own, or put {PLACE} in it"
        )
    return list(values)
