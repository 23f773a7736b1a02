"""Options of commands from TOML files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import rich_click as click
from click.types import BoolParamType

from clesr.engines.common.errors import UsageError
from clesr.engines.common.numbers import shortened
from clesr.engines.common.parsing import parse_toml, read_bounded, unreadable
from clesr.engines.common.text import conceal

LARGEST = 1 << 16  # bytes of a file


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """What the TOML file says, of which no secret is told from now on; raises UsageError, which calls it ``what``."""
    try:
        found = parse_toml(read_bounded(path, LARGEST), dict[str, Any])
    except (OSError, ValueError) as error:
        raise UsageError(f"{what} {path} {unreadable(error)}") from error
    conceal(*_texts(found))
    return found


def _texts(value: Any) -> Iterator[str]:
    """All texts in ``value``, keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in chain(value, value.values() if isinstance(value, dict) else ()):
            yield from _texts(part)


def check_options(table: dict[str, Any], command: click.Command, where: str) -> dict[str, Any]:
    """``table`` with the values of options of ``command`` by their names.

    Raises UsageError, which begins with ``where``, for an option that is unknown or a value that no option takes.
    """
    known = {parameter.name: parameter for parameter in command.params if parameter.name}
    return {
        name: _checked(key, value, known[name], where)
        for key, value in table.items()
        if (name := _known(key, known, where))
    }


def _known(key: str, known: dict[str, click.Parameter], where: str) -> str:
    name = key.replace("-", "_")
    if name not in known:
        raise UsageError(
            f"{where}: there is no option {shortened(key, 80)}; there are {', '.join(sorted(known))}"
        )
    return name


def _checked(key: str, value: Any, parameter: click.Parameter, where: str) -> Any:
    """``value`` as the command line would give it: text, but true and false for a flag."""
    flag = isinstance(parameter.type, BoolParamType)
    several = getattr(parameter, "multiple", False) or parameter.nargs != 1
    values = value if isinstance(value, list) and several else [value]
    if not all(isinstance(one, bool) if flag else _is_word(one) for one in values):
        kinds = "true or false" if flag else "a text or a number" + ", or a list of these" * several
        raise UsageError(f"{where}: {key} is {shortened(str(value), 80)}; give {kinds}")
    words = values if flag else [str(one) for one in values]
    return words if several else words[0]


def _is_word(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and "\0" not in str(value)
