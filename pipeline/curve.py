"""CURVE certificates, by which ZeroMQ encrypts."""

from __future__ import annotations

from pathlib import Path

import zmq.auth

from clesr.engines.common.errors import ClesrError
from clesr.engines.common.files import keep


def load_keys(path: str, error_of: type[ClesrError]) -> tuple[bytes, bytes | None]:
    """The public key in the certificate ``path``, and the secret one where it has that. Raises ``error_of``."""
    keep(path)
    try:
        return zmq.auth.load_certificate(Path(path))
    except (OSError, ValueError) as error:
        raise error_of(
            f"{path} is no readable CURVE certificate ({error}); make one with zmq.auth.create_certificates"
        ) from error
