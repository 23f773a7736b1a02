"""Text that came from outside, fit to be shown: no control characters, no secrets of addresses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, unquote

from clesr.engines.common.errors import ClesrError, chain, printable

SHORTEST = 3  # characters of a secret that is looked for by itself; shorter ones stand in every text
LONG = 8  # characters of one that is also looked for inside longer words
HIDDEN = "..."
_CUT = ("\u2026", HIDDEN)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/*")
_OWN = ("zmq+tcp", "zmq+ipc", "igtl")  # addresses whose options are clesr's own
_TITLED = "dicom://"  # before whose host an archive's title stands, which is no secret
_concealed: dict[str, None] = {}
_OPTIONS = (  # of which none is a secret itself: the last three name files
    "socket", "bind", "topic", "stream", "connect", "name", "header", "pixel_um",
    "curve_secret", "curve_server", "curve_clients",
)  # fmt: skip


def conceal(*addresses: str) -> None:
    """From now on ``presentable`` text has no secret of ``addresses``; what has none is passed over."""
    _concealed.update(dict.fromkeys(address for address in addresses if secrets_of(address)))


def presentable(text: str) -> str:
    """``text`` as it may be put on a terminal: printable, without the secrets of addresses that were given."""
    for address in list(_concealed):
        text = without_secrets(text, address)
    return printable(text)


def shown(address: str) -> str:
    """``address`` as it may be shown and recorded.

    Of a network address neither a user's name and password nor the values behind the question mark are in it. Where
    it cannot be told which part is the password (a ``?`` or ``#`` before an ``@``), only the scheme is.
    """
    text = address.removeprefix("file:")
    match = _SCHEME.search(text)
    if match is None or _is_local(text):
        return text
    scheme, rest = text[: match.end()], text[match.end() :]
    before, mark, query = _split_query(rest)
    if "@" in query:
        return scheme + HIDDEN
    if scheme.lower() == _TITLED and not mark and ":" not in before.rpartition("@")[0]:
        return text
    host = before.rpartition("@")[2]
    if not mark:
        return scheme + host
    own = match[0].rstrip(":/").lower() in _OWN and mark == "?" and not _is_unclear(query)
    return scheme + host + mark + (_options(query) if own else HIDDEN)


@contextmanager
def hiding_secrets(address: str) -> Iterator[None]:
    """Errors that leave the block say ``address`` as it may be shown, and none of its secrets."""
    try:
        yield
    except Exception as error:
        told = map(str, chain(error))  # all that a traceback shows
        if all(without_secrets(text, address) == text for text in told):
            raise
        kind = type(error) if isinstance(error, ClesrError) else ClesrError
        raise kind(without_secrets(str(error), address)).with_traceback(error.__traceback__) from None


def without_secrets(text: str, address: str) -> str:
    """``text``, which may repeat ``address`` or parts of it, without its secrets."""
    if shown(address) == address.removeprefix("file:"):
        return text
    for form in (address, re.sub("/+", "/", address)):  # as it is, and as a path would have it
        text = text.replace(form, shown(address)).replace(repr(form)[1:-1], shown(address))
    for secret in secrets_of(address):
        if len(secret) < LONG and secret.isalnum():  # may stand in a hash by chance
            text = re.sub(rf"(?<!\w){secret}(?!\w)", HIDDEN, text)
        else:
            text = text.replace(secret, HIDDEN)
        for mark in (mark for mark in _CUT if mark in text):  # a secret that was cut with the text around it
            for length in range(len(secret) - 1, SHORTEST - 1, -1):
                text = text.replace(secret[:length] + mark, HIDDEN)
    return text


def secrets_of(address: str) -> list[str]:
    """What ``shown`` leaves out of ``address``: whole and in parts, as written and decoded; longest first."""
    text = address.removeprefix("file:")
    match = _SCHEME.search(text)
    if match is None or shown(address) == text:
        return []
    rest = text[match.end() :]
    before, _, query = _split_query(rest)
    user = rest if "@" in query else before.rpartition("@")[0]
    values = [pair.partition("=")[2] or pair for pair in re.split("[&;]", query)]
    if _is_unclear(query):
        values += re.split("[&;=]", query)
    found = {user, query, *user.split(":"), *values}
    found |= {unquote(part) for part in found}
    texts = (text for part in (user, *values) for text in (part, unquote(part)))
    found |= {word for text in texts for word in re.split(r"\W+", text)}
    found |= {form for part in found for form in (quote(part, errors="surrogateescape"), repr(part)[1:-1])}
    kept = shown(address)
    secret = (part for part in found if len(part) >= SHORTEST and part not in kept)
    return sorted(secret, key=len, reverse=True)


def _is_local(text: str) -> bool:
    """Whether ``text`` names something on this machine, or the phantom; a stream's name may stand before it."""
    text = re.sub(r"^\w+=(?=demo:|\.{0,2}/)", "", text)
    path = text.startswith(("/", "./", "../")) and "://" not in text
    return path or text.startswith("demo:") or os.path.exists(text)


def _split_query(rest: str) -> tuple[str, str, str]:
    """Before the first ``?`` or ``#``, that character, and after it."""
    match = re.search("[?#]", rest)
    return (rest, "", "") if match is None else (rest[: match.start()], match[0], rest[match.end() :])


def _is_unclear(query: str) -> bool:
    """Whether ``query`` has an option without a name or a value: a secret with a ``&`` in it makes such."""
    pairs = (pair.partition("=") for pair in re.split("[&;]", query))
    return any(equals and not (name and value) for name, equals, value in pairs)


def _options(query: str) -> str:
    """``query`` with the values of all but clesr's own options hidden."""
    pairs = (pair.partition("=") for pair in query.split("&"))
    return "&".join(
        name + equals + value if name in _OPTIONS else f"{name}={HIDDEN}" if equals else HIDDEN
        for name, equals, value in pairs
    )
