"""Options after the question mark of an address."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl

from clesr.pipeline.errors import UsageError


def split_options(address: str) -> tuple[str, dict[str, str]]:
    """What is before the question mark, and the options ``name=value&name=value`` after it.

    Raises UsageError where they are not of this form or one is given twice.
    """
    base, _, query = address.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise UsageError(f"{address}: {query!r} is not of the form name=value&name=value") from None
    options = dict(pairs)
    if len(options) < len(pairs):
        raise UsageError(f"{address}: an option is given more than once; give each once")
    return base, options


def check_names(address: str, options: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise UsageError for an option that is not ``allowed``."""
    for name in options:
        if name not in allowed:
            raise UsageError(f"{address}: there is no option {name!r}; there are {', '.join(allowed)}")


def choice(address: str, name: str, value: str, allowed: Iterable[str]) -> str:
    """``value``, or UsageError where it is not ``allowed``."""
    if value not in allowed:
        raise UsageError(f"{address}: {name} is {value!r}; allowed is {' or '.join(allowed)}")
    return value
