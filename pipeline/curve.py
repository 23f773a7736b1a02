"""CURVE certificates, by which ZeroMQ encrypts, and who is let in by them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from clesr.engines.common.errors import ClesrError, SinkError, UsageError
from clesr.engines.common.files import keep, make_parents, write_private

PUBLIC, SECRET = ".key", ".key_secret"  # suffixes that zmq.auth gives the two files of a certificate
_KEYS = "`clesr keys NAME` makes a pair"


def load_keys(path: str, error_of: type[ClesrError]) -> tuple[bytes, bytes | None]:
    """The public key in the certificate ``path``, and the secret one where it has that. Raises ``error_of``."""
    keep(path)
    try:
        return zmq.auth.load_certificate(Path(path))
    except (OSError, ValueError, IndexError) as error:  # IndexError: of a line without a value
        raise error_of(f"{path} is no readable CURVE certificate ({error}); {_KEYS}") from error


def curve_settings(
    options: Mapping[str, str], *, connect: bool, error_of: type[ClesrError]
) -> dict[int, int | bytes]:
    """The socket's settings that encrypt, where ``options`` of an address name keys; who connects without a key of its
    own gets a fresh one. Raises UsageError for a file without a secret key, else ``error_of``."""
    if "curve_secret" in options:
        public, secret = load_keys(options["curve_secret"], error_of)
        if secret is None:
            raise UsageError(
                f"{options['curve_secret']} has no secret key; give the file that ends in {SECRET}"
            )
    elif "curve_server" in options:
        public, secret = zmq.curve_keypair()
    else:
        return {}
    keys: dict[int, int | bytes] = {zmq.CURVE_PUBLICKEY: public, zmq.CURVE_SECRETKEY: secret}
    if connect:
        return keys | {zmq.CURVE_SERVERKEY: load_keys(options["curve_server"], error_of)[0]}
    return keys | {zmq.CURVE_SERVER: 1}


def make_keys(name: Path) -> tuple[Path, Path]:
    """A new key pair in ``NAME.key`` (public) and ``NAME.key_secret`` (both keys), which their owner alone may read.
    Their folder is made where it is missing. Raises SinkError where one of them exists or cannot be written; then
    neither is new."""
    public, secret = (name.with_name(name.name + suffix) for suffix in (PUBLIC, SECRET))
    for file in (public, secret):
        if os.path.lexists(file):
            raise SinkError(f"{file} exists, and keys are never replaced; give another name")
    make_parents(public)
    with tempfile.TemporaryDirectory(prefix="clesr-") as folder:
        made = zmq.auth.create_certificates(folder, "new")
        write_private(
            {file: Path(new).read_bytes() for file, new in zip((public, secret), made, strict=True)}
        )
    return public, secret


def doorkeeper(context: zmq.Context[Any], folder: str, error_of: type[ClesrError]) -> ThreadAuthenticator:
    """Lets in, where a socket of ``context`` is a CURVE server, only who has a certificate in ``folder``, which is read
    now; to be stopped before the context ends. Raises ``error_of``."""
    files = sorted(Path(folder).glob(f"*{PUBLIC}"))
    if not files:
        raise error_of(
            f"{folder} is no folder of CURVE certificates: it has no *{PUBLIC} file, and nobody could connect; put the "
            f"public keys of those who may in it ({_KEYS})"
        )
    for file in files:
        load_keys(str(file), error_of)
    guard = ThreadAuthenticator(context)
    guard.start()
    guard.configure_curve(domain="*", location=folder)
    return guard
