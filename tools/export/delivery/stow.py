"""Archives by DICOMweb: STOW-RS and QIDO-RS (PS3.18, 10.5, 10.6)."""

from __future__ import annotations

import base64
import http.client
import secrets
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clesr.engines.common.errors import SinkError
from clesr.engines.common.parsing import one_line, parse_json
from clesr.tools.export.delivery.archive import DicomObject, Unreachable

CHUNK = 1 << 20
ANSWER_S = 120.0
MOST_ANSWER = 16 << 20  # bytes of an answer that are read
PASSING = (408, 425, 429, 500, 502, 503, 504)  # may be over soon
NO_QUERIES = (400, 405, 406, 501)  # stores, but answers no QIDO-RS of this form
JSON = "application/dicom+json"
FAILED, REFERENCED = "00081198", "00081199"  # sequences of a store's answer
INSTANCE, REASON = "00081155", "00081197"


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are: a user with a password, or a bearer token. None of it is shown."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def header(self) -> dict[str, str]:
        if self.token:
            return {"Authorization": f"Bearer {self.token}"}
        if self.user:
            pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        return {}


class StowService:
    """The DICOMweb service whose studies are at ``path`` of ``host``. ``tls`` is None for plain HTTP."""

    def __init__(
        self, name: str, host: str, port: int, path: str, *, login: Login, tls: ssl.SSLContext | None
    ) -> None:
        self.name, self._host, self._port, self._path = name, host, port, path
        self._login, self._tls = login, tls

    def holds(self, item: DicomObject) -> bool | None:
        path = f"{self._path}/{item.study}/series/{item.series}/instances?SOPInstanceUID={item.instance}"
        status, reason, body = self._ask("GET", path, {"Accept": JSON})
        if status in (204, 404):
            return False
        if status in NO_QUERIES:
            return None
        if status != 200:
            self._refuse(status, reason)
            return None
        found = _parsed(body)
        if not isinstance(found, list):
            return None
        return any(item.instance in _values(entry, "00080018") for entry in found)

    def store(self, item: DicomObject) -> str:
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n"
        tail = f"\r\n--{boundary}--\r\n"
        size = item.path.stat().st_size
        headers = {
            "Accept": JSON,
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(len(head) + size + len(tail)),
        }
        body = _parts(head.encode(), item.path, tail.encode())
        status, reason, answer = self._ask("POST", self._path, headers, body)
        told = _parsed(answer)
        failed, stored = _listed(told, FAILED), _listed(told, REFERENCED)
        if item.instance in failed:
            raise SinkError(
                f"the archive refuses {item.path.name} (failure reason {failed[item.instance] or 'not given'})"
            )
        if status not in (200, 202):
            self._refuse(status, reason)
            raise SinkError(f"the archive refuses {item.path.name} (HTTP {status} {reason})")
        if item.instance in stored or self.holds(item):
            return ""
        raise SinkError(
            f"the archive answered HTTP {status} and does not say that it stored {item.path.name}"
        )

    def confirm(self, items: Sequence[DicomObject]) -> str:
        return ""  # an answer to STOW-RS is the promise

    def _refuse(self, status: int, reason: str) -> None:
        """Raise what ``status`` means, where it concerns more than one object."""
        said = f"HTTP {status} {reason}"
        if status in (401, 403):
            raise SinkError(f"the archive does not let us in ({said}); give --credentials FILE, or mend it")
        if 300 <= status < 400:
            raise SinkError(f"the archive is elsewhere ({said}); give the address that it has now")
        if status in (404, 405):
            raise SinkError(f"there is no DICOMweb service ({said}); check the path of --to")
        if status in PASSING:
            raise Unreachable(f"the archive cannot answer now ({said})")

    def _ask(
        self, method: str, path: str, headers: dict[str, str], body: Iterator[bytes] | None = None
    ) -> tuple[int, str, bytes]:
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_S)
        else:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=ANSWER_S, context=self._tls
            )
        try:
            connection.request(method, path, body=body, headers=headers | self._login.header)
            answer = connection.getresponse()
            return answer.status, one_line(answer.reason or ""), answer.read(MOST_ANSWER)
        except ssl.SSLCertVerificationError as error:
            raise SinkError(
                f"the archive's certificate is not trusted ({error.verify_message}); give --ca FILE if it is yours"
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:  # of a chunk's negative length
            words = getattr(error, "strerror", None) or one_line(error) or type(error).__name__
            raise Unreachable(f"no answer from {self._host} port {self._port} ({words})") from error
        finally:
            connection.close()


def _parts(head: bytes, path: Path, tail: bytes) -> Iterator[bytes]:
    yield head
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            yield data
    yield tail


def _parsed(body: bytes) -> Any:
    try:
        return parse_json(body, Any)
    except ValueError:
        return None


def _values(entry: Any, tag: str) -> list[Any]:
    """The values of an attribute in DICOM JSON, of whatever form it is."""
    attribute = entry.get(tag) if isinstance(entry, dict) else None
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values if isinstance(values, list) else []


def _listed(answer: Any, sequence: str) -> dict[Any, str]:
    """The instances in a ``sequence`` of an answer, each with its failure reason."""
    found = {}
    for entry in _values(answer, sequence):
        for instance in _values(entry, INSTANCE):
            if isinstance(instance, str):
                found[instance] = ", ".join(map(str, _values(entry, REASON)))
    return found
