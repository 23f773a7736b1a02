"""Bytes from outside become values of declared types, or one line that says what is wrong.

JSON and TOML from files and from the network go through here: size, nesting, types and ranges are checked, by msgspec,
before anybody uses a value.
"""

from __future__ import annotations

import functools
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import msgspec
from msgspec import Meta

from clesr.engines.common.errors import printable

T = TypeVar("T")

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Side = Annotated[int, Meta(ge=1, le=65535)]  # of an image, in pixels

DEEPEST = 32  # lists and tables in one another
TOO_DEEP = f"is nested too deeply; at most {DEEPEST} lists and tables may lie in one another"
_ESCAPES = re.compile(
    rb"\\\\|\\u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|\\u[dD][89a-fA-F][\da-fA-F]{2}"
)
_AT = re.compile(r" - at `(?:key` in `)?\$([^`]*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_NO_KEYS = re.compile(
    r'"""(?:\\.|[^\\])*?"""|' + r"'''.*?'''|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'|#[^\n]*", re.DOTALL
)
# A dotted key with many parts: tomllib takes the square of its length.
_LONG_KEY = re.compile(r"(?:\.[^.,=\[\]{}\n]*+){" + str(DEEPEST) + "}")


def read_bounded(path: Path, limit: int) -> bytes:
    """All of the regular file ``path``. Raises OSError, and ValueError where it is another thing than a file of at most
    ``limit`` bytes; nothing of it is read then."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(f"has {size} bytes, at most {limit} are allowed")
        data = file.read(size + 1)  # which takes memory for as much as is asked
    if len(data) > size:
        raise ValueError("grew while it was read")
    return data


def open_regular(path: Path) -> BufferedReader:
    """The file ``path``, which must be a regular one: a pipe or device would be waited for, or never end. Raises
    OSError, and ValueError for what is no file."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise ValueError("is not a regular file")


def read_lines(file: BufferedReader, longest: int) -> Iterator[bytes]:
    """The lines of ``file``, each with its end; raises ValueError at one of more than ``longest`` bytes."""
    while line := file.readline(longest + 1):
        if len(line) > longest:
            raise ValueError(f"is longer than the {longest} bytes that are allowed")
        yield line


def parse_json(data: bytes | memoryview | str, kind: type[T], *, nonfinite: bool = False) -> T:
    """The value of type ``kind`` (a dataclass, a msgspec.Struct, any type that msgspec knows) in the JSON ``data``.

    Raises ValueError, whose message is one line to stand behind the name of what was read. Half a surrogate pair, as
    Python writes it for a byte of a file name that is no text, becomes U+FFFD. ``nonfinite`` takes NaN and Infinity,
    which Python writes too.
    """
    try:
        found: T = _decoder(cast(Any, kind)).decode(data)
        return found
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except msgspec.ValidationError as error:
        raise ValueError(_with_value(error, data)) from None
    except (msgspec.DecodeError, UnicodeError) as error:
        if nonfinite:
            return convert(_load(data), kind)
        whole = _without_halves(data) if "surrogate" in str(error) else data
        if whole == data:
            raise ValueError(one_line(error)) from None
    return parse_json(whole, kind)


def parse_toml(data: bytes | str, kind: type[T]) -> T:
    """As ``parse_json``, of TOML."""
    try:
        text = data if isinstance(data, str) else data.decode()
        if _LONG_KEY.search(_NO_KEYS.sub("x", text)):
            raise ValueError(TOO_DEEP)
        found = tomllib.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(one_line(error)) from None
    return convert(found, kind)


def convert(value: Any, kind: type[T]) -> T:
    """``value``, made of plain lists, dictionaries, strings and numbers, as a ``kind``; errors as ``parse_json``."""
    try:
        return msgspec.convert(value, type=kind)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except msgspec.ValidationError as error:
        raise ValueError(_with_value(error, value)) from None


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raises ValueError where ``value``, called ``name``, is none of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} {value!r} is not one of {', '.join(map(str, choices))}")


def check_depth(value: object) -> None:
    """Raises ValueError where lists and tables of ``value`` lie too deep in one another, for what is ``Any``."""
    layer = [value]
    for _ in range(DEEPEST + 1):
        layer = [part for one in layer for part in _parts(one)]
        if not layer:
            return
    raise ValueError(TOO_DEEP)


def one_line(error: BaseException | str) -> str:
    """What ``error`` says (or a text from outside), printable and in one line of at most 200 characters."""
    text = printable(" ".join(str(error).split()) or type(error).__name__)
    return text if len(text) <= 200 else text[:199] + "\u2026"


def unreadable(error: OSError | ValueError) -> str:
    """Why a file was not read, to stand behind its name."""
    return f"cannot be read: {getattr(error, 'strerror', None) or one_line(error)}"


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _load(data: bytes | memoryview | str) -> Any:
    try:
        return json.loads(_without_halves(data))
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(one_line(error)) from None


def _without_halves(data: bytes | memoryview | str) -> bytes:
    plain = data.encode() if isinstance(data, str) else bytes(data)
    return _ESCAPES.sub(lambda m: m[0] if len(m[0]) in (2, 12) else rb"\ufffd", plain)


def _with_value(error: msgspec.ValidationError, data: Any) -> str:
    """msgspec's message, which says where and what was expected, with the value that is there."""
    message = str(error)
    place = _AT.search(message)
    if place is None:
        return one_line(error)
    try:
        text = bytes(data) if isinstance(data, memoryview) else data
        value = json.loads(text) if isinstance(text, bytes | str) else text
        for key, index in _STEP.findall(place[1]):
            value = value[key] if key else value[int(index)]
    except (ValueError, LookupError, TypeError, RecursionError):
        return one_line(error)
    shown = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    expected = message[0].lower() + message[1 : place.start()]
    return one_line(f"{place[1].lstrip('.')} is {shown[:60]}: {expected}")


def _parts(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []
