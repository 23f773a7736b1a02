"""Retries, resumption and refusals, against archives that a test can have fail."""

from __future__ import annotations

import json
import queue
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from certificates import make_certificate
from commands import Run, one_line
from heard import hear
from orthanc_server import SOCKETS
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from waits import joined

from clesr.engines.common.errors import SinkError, UsageError
from clesr.tools.export.delivery import dimse
from clesr.tools.export.delivery.address import open_archive, parse_place
from clesr.tools.export.delivery.archive import DicomObject, Unreachable
from clesr.tools.export.delivery.deliver import LONGEST_S, deliver
from clesr.tools.export.options import ExportOptions
from clesr.tools.export.run import write_files

BYTES = "1.2.840.10008.5.1.4.1.1.7.2"  # multi-frame grayscale byte secondary capture
SECRET = "s3cret-Token"
pytestmark = pytest.mark.filterwarnings(SOCKETS)


@pytest.fixture
def files(recording: Path, tmp_path: Path) -> list[Path]:
    """Two objects."""
    made = []
    for name in ("a", "b"):
        options = ExportOptions(output=None, frames="0-2" if name == "a" else "3-4")
        made += write_files(str(recording), tmp_path / f"{name}.dcm", options, stable=True)[1]
    return made


class Fake:
    """An archive that does what its ``plan`` says: an error to raise, or None."""

    name = "an archive"

    def __init__(self, *plan: Exception | None, tells: bool = True) -> None:
        self.plan, self.tells = list(plan), tells
        self.kept: list[str] = []
        self.sent = 0

    def holds(self, item: DicomObject) -> bool | None:
        return item.instance in self.kept if self.tells else None

    def store(self, item: DicomObject) -> str:
        self.sent += 1
        error = self.plan.pop(0) if self.plan else None
        if error is not None:
            raise error
        self.kept.append(item.instance)
        return ""

    def confirm(self, items: Sequence[DicomObject]) -> str:
        return "it keeps them"


def test_waits_grow_and_what_failed_comes_at_last(files: list[Path]) -> None:
    said = hear()
    waits: list[float] = []
    archive = Fake(*[Unreachable("nobody there")] * 9)
    deliver(archive, files, retries=9, wait=waits.append)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, LONGEST_S]
    assert len(archive.kept) == len(set(archive.kept)) == 2
    assert said[0] == "nobody there; trying again in 1 s, up to 9 more times"
    assert said[-1] == "an archive: it keeps them"


@pytest.mark.parametrize("tells", [True, False])
def test_a_run_that_broke_off_goes_on_with_the_rest(files: list[Path], tells: bool) -> None:
    archive = Fake(None, *[Unreachable("gone")] * 3, tells=tells)
    with pytest.raises(
        SinkError, match=r"an archive: gone; 1 of 2 objects are stored; .* goes on with the rest"
    ):
        deliver(archive, files, retries=2, wait=lambda _: None)
    sent = archive.sent
    deliver(archive, files, retries=2, wait=lambda _: None)
    assert archive.sent - sent == (1 if tells else 2)
    assert len(set(archive.kept)) == 2


def test_a_refusal_is_not_tried_again(files: list[Path]) -> None:
    archive = Fake(SinkError("never"))
    waits: list[float] = []
    with pytest.raises(SinkError, match="never; 0 of 2 objects"):
        deliver(archive, files, retries=5, wait=waits.append)
    assert (archive.sent, waits) == (1, [])


def test_the_same_export_gives_the_same_objects_and_another_one_others(
    recording: Path, tmp_path: Path
) -> None:
    def made(name: str, **options: Any) -> DicomObject:
        chosen = ExportOptions(output=None, **options)
        return DicomObject.of(
            write_files(str(recording), tmp_path / f"{name}.dcm", chosen, stable=True)[1][0]
        )

    first, again = made("first"), made("again")
    assert (first.study, first.series, first.instance) == (again.study, again.series, again.instance)
    video = {"sop_class": "video-endoscopic", "region": "colon"}
    assert made("film", **video).instance == made("film again", **video).instance
    others = [made("masked", mask=("0,0,5,5",)), made("part", frames="1-3"), made("sized", pixel_size=2.0)]
    (tmp_path / "p.toml").write_text('name = "Doe^Jane"\nid = "17"\n')
    others.append(made("named", patient=str(tmp_path / "p.toml")))
    assert len({other.instance for other in (first, *others)}) == 5


@contextmanager
def node(
    answers: Sequence[int | None], tls: ssl.SSLContext | None = None, takes: str = BYTES
) -> Iterator[tuple[int, list[int]]]:
    """A C-STORE SCP that answers with these statuses, and breaks off for None: its port, and how many frames came each
    time."""
    left = list(answers)
    came: list[int] = []

    def store(event: Any) -> int:
        came.append(int(event.dataset.NumberOfFrames))
        status = left.pop(0)
        if status is None:
            event.assoc.abort()
            return 0x0000
        return status

    entity = AE(ae_title="ARCHIVE")
    entity.add_supported_context(takes, ExplicitVRLittleEndian)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)], ssl_context=tls
    )
    assert server is not None
    try:
        yield server.server_address[1], came
    finally:
        server.shutdown()


def send(port: int, files: list[Path], **options: Any) -> None:
    to = f"dicom://ARCHIVE@127.0.0.1:{port}"
    deliver(open_archive(ExportOptions(output=None, to=to, **options)), files, retries=1, wait=lambda _: None)


def test_an_archive_that_is_busy_or_warns_gets_the_object_and_one_that_fails_is_told(
    files: list[Path],
) -> None:
    said = hear()
    with node([0xA700, 0x0000, 0xB000]) as (port, came):
        send(port, files)
        assert came == [3, 3, 2]
    assert "the archive cannot store it now (status 0xA700); trying again" in said[0]
    assert said[2].endswith("; with a warning (status 0xB000)")
    with (
        node([0xC001]) as (port, came),
        pytest.raises(SinkError, match=r"refuses a\.dcm \(status 0xC001\); 0 of 2"),
    ):
        send(port, files)
    with node([0], takes="1.2.840.10008.5.1.4.1.1.2") as (port, came):
        with pytest.raises(SinkError, match=r"takes no Multi-frame Grayscale Byte.*allow it there"):
            send(port, files)
        assert came == []
    with pytest.raises(SinkError, match="nobody answers there"):
        send(port, files)


def test_a_connection_that_breaks_while_an_object_is_stored_has_stored_nothing(files: list[Path]) -> None:
    said = hear()
    with node([0, None, 0]) as (port, came):
        send(port, files)
        assert came == [3, 2, 2]
    assert [line.partition(" ")[0] for line in said] == ["stored", "the", "stored"]
    assert "the connection ended before the archive said that it stored the object" in said[1]
    with node([0, None, None]) as (port, came), pytest.raises(SinkError, match="1 of 2 objects are stored"):
        send(port, files)


def test_a_web_archive_that_breaks_off_half_way_has_stored_nothing(files: list[Path]) -> None:
    said = hear()
    service = Web((0, nothing), (200, stored), (200, stored))
    with web(service) as to:
        archive = open_archive(ExportOptions(output=None, to=to))
        deliver(archive, files, retries=1, wait=lambda _: None)
    assert len(service.posts) == 2
    assert said[0].startswith("no answer from 127.0.0.1 port ")
    assert len(said) == 3


@pytest.mark.parametrize("query", [404, 405, 501])
def test_a_web_archive_that_answers_no_queries_gets_objects(query: int, files: list[Path]) -> None:
    service = Web((200, stored), (202, stored))
    service.query = query
    with web(service) as to:
        deliver(open_archive(ExportOptions(output=None, to=to)), files, retries=0)
    assert len(service.posts) == 2


def test_storage_commitment_is_heard_on_the_same_association(files: list[Path]) -> None:
    answers: list[threading.Thread] = []

    def commit(event: Any) -> tuple[int, None]:
        asked = event.action_information

        def answer() -> None:
            event.assoc.send_n_event_report(asked, 1, dimse.COMMITMENT, dimse.COMMITMENT_INSTANCE)

        answers.append(threading.Thread(target=answer))
        answers[-1].start()
        return 0x0000, None

    said = hear()
    entity = AE(ae_title="ARCHIVE")
    entity.add_supported_context(dimse.COMMITMENT)
    entity.add_supported_context(BYTES, ExplicitVRLittleEndian)
    handlers: Any = [(evt.EVT_N_ACTION, commit), (evt.EVT_C_STORE, lambda _: 0)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        send(server.server_address[1], files)
    finally:
        server.shutdown()
        for thread in answers:
            joined(thread)
    assert said[-1].endswith(": it commits itself to keep all 2 objects")


def test_what_an_archive_does_not_promise_is_an_error(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [DicomObject.of(file) for file in files]
    reports: queue.Queue[Dataset] = queue.Queue()
    for kept, failed in ((items, []), (items[:1], items[1:]), (items[:1], [])):
        report = Dataset()
        report.TransactionUID = "1.2"
        report.ReferencedSOPSequence = [dimse._reference(item) for item in kept]
        if failed:
            report.FailedSOPSequence = [dimse._reference(item) for item in failed]
        stranger = Dataset()
        stranger.TransactionUID = "1.3"
        reports.put(stranger)
        reports.put(report)
    assert dimse._promised(reports, "1.2", items, None) == "it commits itself to keep all 2 objects"
    with pytest.raises(SinkError, match=f"does not commit itself to keep {items[1].instance};"):
        dimse._promised(reports, "1.2", items, None)
    with pytest.raises(SinkError, match="does not commit itself to keep all of them"):
        dimse._promised(reports, "1.2", items, None)
    monkeypatch.setattr(dimse, "COMMIT_S", 0.0)
    assert "did not answer (it may need a --commit-port" in dimse._promised(reports, "1.2", items, None)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of localhost and 127.0.0.1, with its key, signed by itself."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "localhost.pem")


def served(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_node_is_encrypted_and_its_certificate_checked(files: list[Path], certificate: Path) -> None:
    with node([0, 0], served(certificate)) as (port, came):
        with pytest.raises(SinkError, match="does not trust or speak this TLS"):
            send(port, files, tls=True)
        with pytest.raises(SinkError, match="no association"):
            send(port, files)
        assert came == []
        send(port, files, tls=True, ca=str(certificate))
        assert came == [3, 2]


class Web:
    """A DICOMweb service: what it answers to each POST, and what came."""

    def __init__(self, *answers: tuple[int, Callable[[str], Any]]) -> None:
        self.answers, self.query = list(answers), 204
        self.posts: list[bytes] = []
        self.logins: set[str | None] = set()


@contextmanager
def web(service: Web, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            service.logins.add(self.headers.get("Authorization"))
            self.answer(service.query, None)

        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            if not service.answers[0][0]:  # breaks off in the middle
                service.answers.pop(0)
                self.rfile.read(size // 2)
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            body = self.rfile.read(size)
            service.posts.append(body)
            status, content = service.answers.pop(0)
            part = BytesIO(body.partition(b"\r\n\r\n")[2])
            instance = str(dcmread(part, stop_before_pixels=True).SOPInstanceUID)
            self.answer(status, content(instance))

        def answer(self, status: int, content: Any) -> None:
            data = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http{'s' * (tls is not None)}://127.0.0.1:{server.server_address[1]}/web/studies"
    finally:
        server.shutdown()
        joined(thread)
        server.server_close()


def stored(instance: str) -> Any:
    return {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [instance]}}]}}


def refused(instance: str) -> Any:
    reference = {"00081155": {"vr": "UI", "Value": [instance]}, "00081197": {"vr": "US", "Value": [49442]}}
    return {"00081198": {"vr": "SQ", "Value": [reference]}}


def nothing(instance: str) -> None:
    return None


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([(503, nothing), (200, stored)], ""),
        ([(200, refused)], r"refuses study\.dcm \(failure reason 49442\)"),
        ([(409, refused)], r"failure reason 49442"),
        ([(200, nothing)], "answered HTTP 200 and does not say that it stored"),
        ([(202, lambda _: {"00081199": {"Value": "odd"}})], "does not say that it stored"),
        ([(302, nothing)], "the archive is elsewhere"),
        ([(404, nothing)], "no DICOMweb service"),
        ([(403, nothing)], "does not let us in"),
        ([(400, nothing)], "HTTP 400"),
    ],
)
def test_only_what_a_web_archive_says_to_have_stored_is_done(
    answers: list[tuple[int, Callable[[str], Any]]], words: str, recording: Path, tmp_path: Path, run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("clesr.tools.export.delivery.deliver.FIRST_S", 0.0)
    (tmp_path / "login.toml").write_text(f'token = "{SECRET}"\n')
    service = Web(*answers)
    with web(service) as to:
        code, out, err = run(
            "clesr", "export", recording, "--to", to, "--credentials", tmp_path / "login.toml"
        )
    assert SECRET not in out + err
    assert service.logins == {f"Bearer {SECRET}"}
    assert len(service.posts) == len(answers)
    if words:
        assert code == 1
        assert re.search(words, one_line(err))
    else:
        assert code == 0, err
        assert "HTTP 503" in err
        assert "stored study.dcm" in err


def test_a_web_archive_s_certificate_is_checked(recording: Path, certificate: Path, run: Run) -> None:
    service = Web((200, stored))
    with web(service, served(certificate)) as to:
        code, _, err = run("clesr", "export", recording, "--to", to)
        assert code == 1
        assert "the archive's certificate is not trusted" in one_line(err)
        assert "--ca FILE" in err
        code, _, err = run("clesr", "export", recording, "--to", to, "--ca", certificate)
        assert code == 0, err
    assert len(service.posts) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"to": "dicom://host:104"}, "give the archive's AE title"),
        ({"to": "dicom://MUCHTOOLONGATITLE1@host"}, "1 to 16 characters"),
        ({"to": "dicom://A@host:99999"}, "is no archive; write it as dicom://AET@HOST:PORT"),
        ({"to": "ftp://A@host"}, "is no archive"),
        ({"to": "https://host/dicom-web"}, "does not end in /studies"),
        ({"to": "https://host/studies", "tls": True}, "--tls is for dicom://, not for https://"),
        ({"to": "dicom://A@host", "credentials": "x"}, "--credentials is for https:// and http://"),
        ({"to": "dicom://A@host", "ca": "x"}, "give --tls too"),
        ({"to": "dicom://A@host", "tls": True, "ca": "absent"}, "--ca absent is no readable file"),
        ({"to": "dicom://A@host", "calling_aet": "A\\B"}, "is no AE title"),
        ({"to": "http://me:word@10.0.0.1/studies"}, "credentials are not sent without encryption"),
        (
            {"to": "https://host/studies", "credentials": "absent"},
            "the credentials file absent cannot be read",
        ),
        ({"to": "https://host/studies", "certificate": "absent"}, "--certificate absent is no readable PEM"),
        ({"to": "dicom://A@host", "tls": True, "commit_port": 5}, "needs --certificate"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_read(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        open_archive(ExportOptions(output=None, **options))


def test_what_others_on_the_network_may_read_is_told() -> None:
    said = hear()
    for to in ("dicom://A@127.0.0.1:104", "http://localhost/studies", "https://host/studies"):
        open_archive(ExportOptions(output=None, to=to))
    assert said == []
    open_archive(ExportOptions(output=None, to="dicom://A@host"))
    assert said == [
        "dicom://A@host is not encrypted: whoever is on the network may read images and names; --tls encrypts"
    ]
    assert parse_place("https://me:a%40b@host:8443/x/studies/").password == "a@b"


def test_nothing_to_do_and_another_format_are_one_line(recording: Path, run: Run, tmp_path: Path) -> None:
    for more, words in (
        ((), "give -o FILE, --to ARCHIVE, or both"),
        (("--to", "dicom://A@127.0.0.1", "-o", tmp_path / "a.mp4"), "has to end in .dcm"),
        (("--to", "dicom://A@127.0.0.1", "--frames", "9-"), "has no"),
    ):
        code, _, err = run("clesr", "export", recording, *more)
        assert code in (1, 2)
        assert words in one_line(err)
