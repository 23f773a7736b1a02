"""Archives that answer nonsense: an error in one line, in time, and nothing left behind."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from fuzz.targets import CORPUS
from fuzz.targets.archives import dicom_object, split_turns
from orthanc_server import SOCKETS
from pydicom.dataset import Dataset
from waits import joined

from clesr.engines.common.errors import SinkError
from clesr.tools.export.delivery import dimse
from clesr.tools.export.delivery.archive import Unreachable
from clesr.tools.export.delivery.dimse import DicomNode

pytestmark = pytest.mark.filterwarnings(SOCKETS)
USES = ("holds", "store", "confirm")


@contextmanager
def answering(turns: list[bytes]) -> Iterator[int]:
    """The port of an archive that sends these, one for each message, and then ends the connection."""

    def answer() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            connection.settimeout(10)
            with connection:
                for turn in turns:
                    connection.recv(1 << 16)
                    connection.sendall(turn)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            joined(thread)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONNECT_S", "ANSWER_S", "COMMIT_S"):
        monkeypatch.setattr(dimse, name, 0.5)


def asked(use: str, port: int, folder: Path) -> object:
    node, item = DicomNode("ARCHIVE", "127.0.0.1", port, calling="CLESR"), dicom_object(folder)
    return node.confirm([item]) if use == "confirm" else getattr(node, use)(item)


NOISE = b"\4\0\0\0\0\x14\0\0\0\x10\1\3" + b"\xff" * 14  # as an answer


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("turns", [[], [b"\xff" * 300], [b"\3\0\0\0\0\4\0\1\1\3"]])
def test_answers_of_no_form_are_an_error_in_a_line(use: str, turns: list[bytes], tmp_path: Path) -> None:
    with answering(turns) as port, pytest.raises(SinkError) as raised:
        asked(use, port, tmp_path)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("noise", [[], [NOISE]])
def test_nothing_is_taken_for_stored_or_promised_that_was_not_said(
    use: str, noise: list[bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    accepted, *_ = split_turns((CORPUS / "association" / f"seed-{use}").read_bytes()[1:])
    with answering([accepted, *noise]) as port:
        if use == "store":
            with pytest.raises(SinkError):
                asked(use, port, tmp_path)
        else:
            with suppress(Unreachable):  # where it had gone before it was asked
                assert not asked(use, port, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_report_without_what_it_must_have_is_no_promise(tmp_path: Path) -> None:
    reports: queue.Queue[Dataset] = queue.Queue()
    report = Dataset()
    report.TransactionUID, report.ReferencedSOPSequence = "1.2", [Dataset()]
    reports.put(report)
    with pytest.raises(Unreachable, match="is not understood"), dimse._understood():
        dimse._promised(reports, "1.2", [dicom_object(tmp_path)], None)
