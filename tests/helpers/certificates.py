"""Certificates of this machine, made by openssl."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


def make_certificate(path: Path) -> Path:
    """A PEM file of a certificate of localhost and 127.0.0.1, signed by itself, and its key: ``path``; the certificate
    alone is ``NAME.crt``. Skips where openssl is missing."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is missing: apt-get install openssl")
    subprocess.run(
        [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={path.stem}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", path,
         "-out", path.with_suffix(".crt")],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


def trusting(certificate: Path | None = None) -> ssl.SSLContext:
    """What a client trusts: ``certificate``, or any. Of TLS 1.2: the client of websockets reads and writes on two
    threads, which Python's sockets do not bear while the tickets of TLS 1.3 come."""
    context = ssl.create_default_context(cafile=None if certificate is None else str(certificate))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if certificate is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
