"""Options after the question mark of an address."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlsplit

from clesr.engines.common.errors import UsageError
from clesr.engines.common.numbers import shortened
from clesr.engines.common.parsing import one_line
from clesr.engines.common.text import shown

MOST_CHARACTERS = 4096  # as the system's longest path
MOST_OPTIONS = 100
MOST_PORT, MOST_DIGITS = 65535, 5
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_address(address: str) -> None:
    """Raises UsageError for an address that no file and no device can have."""
    try:
        possible = b"\0" not in os.fsencode(address)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise UsageError(
            f"the address {shortened(shown(address))} has characters that no name has; check how it was written"
        )
    if len(address) > MOST_CHARACTERS:
        raise UsageError(
            f"the address {shortened(shown(address))} has {len(address)} characters; at most {MOST_CHARACTERS} go"
        )


def split_options(address: str) -> tuple[str, dict[str, str]]:
    """What is before the question mark, and the options ``name=value&name=value`` after it.

    Raises UsageError where they are not of this form or one is given twice.
    """
    check_address(address)
    base, _, query = address.partition("?")
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=MOST_OPTIONS
        )
    except ValueError:
        raise _wrong(address, f"{shortened(query)} is not of the form name=value&name=value") from None
    options = dict(pairs)
    for name, value in pairs:
        if _UNWRITABLE.search(name + value) is not None:
            words = f"{shortened(name)} is {shortened(value)}; write it in characters that print"
            raise _wrong(address, words)
    if len(options) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _wrong(address, f"option {shortened(twice)} is given more than once; give each option once")
    return base, options


def check_names(address: str, options: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise UsageError for an option that is not ``allowed``."""
    for name in options:
        if name not in allowed:
            raise _wrong(address, f"there is no option {shortened(name)}; there are {', '.join(allowed)}")


def choice(address: str, name: str, value: str, allowed: Iterable[str]) -> str:
    """``value``, or UsageError where it is not ``allowed``."""
    if value not in allowed:
        raise _wrong(address, f"{name} is {shortened(value)}; allowed is {' or '.join(allowed)}")
    return value


def zmq_endpoint(
    address: str, form: str, known: Iterable[str], port: str = "[0-9]+"
) -> tuple[str, dict[str, str]]:
    """ZeroMQ's own endpoint in ``address``, which is written as ``form``, and the options behind it, which must be
    ``known``; ``port`` is what a port looks like. Raises UsageError."""
    base, options = split_options(address)
    endpoint = base.removeprefix("zmq+")
    scheme, _, rest = endpoint.partition("://")
    host, _, given = rest.rpartition(":")
    if not ((scheme == "ipc" and rest) or (scheme == "tcp" and host and re.fullmatch(port, given))):
        raise UsageError(f"{one_line(shown(address))} is no ZeroMQ address; write it as {form}")
    if scheme == "tcp" and given.isdecimal() and (len(given) > MOST_DIGITS or int(given) > MOST_PORT):
        raise _wrong(address, f"there is no port {shortened(given)}; give one from 1 to {MOST_PORT}")
    check_names(address, options, known)
    return endpoint, options


def host_and_port(text: str, option: str, form: str, port: int | None = None) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, an IPv6 address in brackets; where there is a usual ``port``, of ``PORT`` on this
    machine and of ``HOST`` as well. Raises UsageError, which names the ``option`` and the ``form``."""
    host, colon, given = text.rpartition(":")
    if port is not None and (not colon or text.endswith("]")):
        host, given = ("127.0.0.1", text) if _is_number(text) else (text, str(port))
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not bare or bracketed != (":" in bare) or not _is_number(given):
        raise UsageError(f"{option} {shortened(text)} is no address; {form}")
    if len(given) > MOST_DIGITS or int(given) > MOST_PORT:
        raise UsageError(
            f"{option} {shortened(text)}: port {shortened(given)} is more than {MOST_PORT}; {form}"
        )
    return bare, int(given)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``, a name or number; a name other than localhost is not looked up."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def names_this_machine(host: str) -> bool:
    """Whether ``host``, a Host header with or without a port, names this machine as such: another name may be one that
    somebody else's page has led here (DNS rebinding)."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)


def _wrong(address: str, words: str) -> UsageError:
    return UsageError(f"{one_line(shown(address))}: {words}")
