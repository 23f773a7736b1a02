"""Where the browser's server listens, and who may come in.

On the address of this machine alone nobody else can reach it. Any other needs a token, which a browser gives once, in
the address that clesr prints, and then has as a cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clesr.engines.common.addresses import host_and_port, is_loopback, names_this_machine
from clesr.engines.common.errors import WHY, UsageError, told_as
from clesr.engines.common.numbers import shortened
from clesr.engines.common.parsing import read_bounded

HOST, PORT = "127.0.0.1", 8765
EVERYWHERE = ("0.0.0.0", "::")  # all addresses of this machine
TOKEN_VARIABLE = "CLESR_BROWSER_TOKEN"
SHORTEST, LONGEST = 16, 1024  # characters of a token that a user gives
OWN_SITES = ("same-origin", "none")  # of Sec-Fetch-Site: our page, or an address that the user typed
FORM = "write it as ADDRESS:PORT, such as 127.0.0.1:8765 or 0.0.0.0:8765"


def given_token(file: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The token that the user gives in ``file``, or in CLESR_BROWSER_TOKEN; None without. Raises UsageError."""
    place = f"--token-file {file}" if file is not None else TOKEN_VARIABLE
    token = environment.get(TOKEN_VARIABLE)
    if file is not None:
        with told_as(UsageError, f"{place} cannot be read ({WHY})", (OSError, ValueError)):
            token = read_bounded(Path(file), 4 * LONGEST).decode().strip()
    if token is None:
        return None
    if not SHORTEST <= len(token) <= LONGEST or not (token.isascii() and token.isprintable()):
        raise UsageError(f"{place} has no token of {SHORTEST} to {LONGEST} plain characters; make one longer")
    return token


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where to listen and whom to let in. Without ``listen``: on this machine alone, at port 8765 or a free one.

    ``token`` is what a browser must show; one is made where others than this machine can reach the address.
    ``certificate`` and ``key`` are PEM files for TLS. Raises UsageError for what cannot work.
    """

    listen: str | None = None
    token: str | None = field(default=None, repr=False)
    certificate: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if self.certificate is None and self.key is not None:
            raise UsageError("--tls-key also needs --tls-certificate, the file of its certificate")
        if self.token is None and not self.local:
            object.__setattr__(self, "token", secrets.token_urlsafe(32))

    @property
    def address(self) -> tuple[str, int]:
        return (HOST, PORT) if self.listen is None else host_and_port(self.listen, "--listen", FORM)

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.address[0])

    @property
    def scheme(self) -> str:
        return "http" if self.certificate is None else "https"

    def tls(self) -> ssl.SSLContext | None:
        """What encrypts; None where nothing does. Raises UsageError where the files are no certificate and key."""
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        words = f"--tls-certificate {self.certificate} and its key cannot be used ({WHY}); give PEM files"
        with told_as(UsageError, words, (OSError, ValueError)):
            context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        return context

    def url(self, port: int) -> str:
        """What to open in a browser, once."""
        host = self.address[0]
        host = socket.gethostname() if host in EVERYWHERE else host
        shown = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{shown}:{port}/" + (f"?token={self.token}" if self.token else "")

    def opens(self, token: str) -> bool:
        """Whether ``token`` is the one, in a time that does not tell how much of it is right."""
        return self.token is not None and _same(token, self.token)

    def cookie(self, port: int) -> str:
        """The header that leaves the cookie; it holds what follows from the token, not the token."""
        secure = "; Secure" if self.scheme == "https" else ""
        return f"{_cookie_name(port)}={self._pass()}; Path=/; HttpOnly; SameSite=Strict{secure}"

    def refusal(self, headers: Mapping[str, str], port: int, *, asks: bool) -> tuple[int, str] | None:
        """Why a request with these ``headers`` is refused, with the HTTP status; None where it is not. ``asks``: it
        asks for more than the page, or changes something: other sites' pages must not."""
        host = headers.get("host", "")
        if self.token is None and not names_this_machine(host):
            return 421, f"this server is {HOST} or localhost, not {shortened(host)}"
        if self.token is not None and not self._has_cookie(headers.get("cookie", ""), port):
            return 401, "open the address that clesr printed, with its token"
        origin = headers.get("origin")
        foreign = origin is not None and origin.lower() != f"{self.scheme}://{host}".lower()
        if asks and (foreign or headers.get("sec-fetch-site", "none") not in OWN_SITES):
            return 403, "only the page of this server may ask this"
        if int(headers.get("content-length", "0") or 0) or "transfer-encoding" in headers:
            return 413, "nothing is to be sent here"
        return None

    def _pass(self) -> str:
        assert self.token is not None
        return hmac.new(self.token.encode(), b"clesr browser cookie", hashlib.sha256).hexdigest()

    def _has_cookie(self, header: str, port: int) -> bool:
        """Whether ours is in the ``header``, whatever other programs of this host have left there beside it."""
        cookies = (cookie.strip().partition("=") for cookie in header.split(";"))
        return any(name == _cookie_name(port) and _same(value, self._pass()) for name, _, value in cookies)


def _cookie_name(port: int) -> str:
    return f"clesr-{port}"  # browsers give cookies to all ports of a host


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), right.encode())
