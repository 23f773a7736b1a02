"""Certificates of this machine, made by openssl."""

from __future__ import annotations

import shutil
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
