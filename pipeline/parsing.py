"""Bytes from outside become values of declared types, or one line that says what is wrong.

All JSON and TOML that clesr reads from files and from the network goes through here: types, ranges and nesting are
checked by msgspec before anybody uses a value.
"""

from __future__ import annotations

import tomllib
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

TOO_DEEP = "is nested too deeply"


def parse_json(data: bytes | memoryview | str, kind: type[T]) -> T:
    """The value of type ``kind`` (a dataclass, a msgspec.Struct, any type that msgspec knows) in the JSON ``data``.

    Raises ValueError, whose message is one line to stand behind the name of what was read.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ValueError(one_line(error)) from None


def parse_toml(text: str, kind: type[T]) -> T:
    """As ``parse_json``, of TOML."""
    try:
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
        raise ValueError(one_line(error)) from None


def one_line(error: BaseException | str) -> str:
    """What ``error`` says (or a text from outside), printable and in one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return text if len(text) <= 200 else text[:199] + "\u2026"
