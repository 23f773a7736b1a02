"""Debian's Orthanc, an archive with its own settings and folder on free ports."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import until

USER, PASSWORD = "clinic", "s3cret-Word"
# pynetdicom leaves the socket of an attempt that failed to the garbage collector.
SOCKETS = (
    "ignore:Exception ignored in. <(ssl.SSLSocket|socket.socket):pytest.PytestUnraisableExceptionWarning"
)
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass
class Orthanc:
    """An archive that runs."""

    http: int
    dicom: int
    commit: int
    title: str = "ARCHIVE"
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def node(self) -> str:
        return f"dicom://{self.title}@127.0.0.1:{self.dicom}"

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.http}/dicom-web/studies"

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=30)
        connection.request("GET", path, headers=self.headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        assert answer.status == 200, answer.status
        return data

    def answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except OSError:
            return False

    def instances(self) -> list[str]:
        found: list[str] = json.loads(self.get("/instances"))
        return found


@contextmanager
def running_orthanc(tmp_path: Path, tls: tuple[Path, Path] | None = None) -> Iterator[Orthanc]:
    """One that runs in the block; skips where it is not installed. With ``tls``, PEM files of its certificate with key
    and of those that it trusts, it speaks DICOM by TLS alone, to those that prove themselves, and calls back so."""
    program = shutil.which("Orthanc")
    if program is None or not PLUGIN.exists():
        pytest.skip("Orthanc is missing: apt-get install orthanc orthanc-dicomweb")
    folder = tmp_path / "orthanc"
    folder.mkdir()
    login = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    made = Orthanc(free_port(), free_port(), free_port(), headers={"Authorization": f"Basic {login}"})
    settings: dict[str, Any] = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "Plugins": [str(PLUGIN)],
        "HttpPort": made.http, "AuthenticationEnabled": True, "RegisteredUsers": {USER: PASSWORD},
        "DicomPort": made.dicom, "DicomAet": made.title, "DicomCheckCalledAet": True,
        "DicomModalities": {"clesr": ["CLESR", "127.0.0.1", made.commit]},
        "DicomAlwaysAllowStore": False, "DicomCheckModalityHost": False,
    }  # fmt: skip
    if tls is not None:
        own, trusted = map(str, tls)
        node = {"AET": "CLESR", "Host": "127.0.0.1", "Port": made.commit, "UseDicomTls": True}
        settings |= {
            "DicomTlsEnabled": True, "DicomTlsCertificate": own, "DicomTlsPrivateKey": own,
            "DicomTlsTrustedCertificates": trusted, "DicomTlsRemoteCertificateRequired": True,
            "DicomModalities": {"clesr": node},
        }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    with (tmp_path / "orthanc.log").open("wb") as said:
        process = subprocess.Popen([program, tmp_path / "orthanc.json"], stdout=said, stderr=said)
    try:
        until(lambda: process.poll() is not None or made.answers())
        assert process.poll() is None, (tmp_path / "orthanc.log").read_text()
        yield made
    finally:
        process.terminate()
        process.wait(60)
