"""What a DICOM archive answers, by the web and by associations."""

from __future__ import annotations

import http.client
import io
import json
import logging
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np

from clesr.tools.export.clip import Clip, Still
from clesr.tools.export.delivery import dimse
from clesr.tools.export.delivery.archive import DicomObject
from clesr.tools.export.delivery.dimse import DicomNode
from clesr.tools.export.delivery.stow import FAILED, INSTANCE, REASON, REFERENCED, Login, StowService
from clesr.tools.export.dicom import DicomExporter
from clesr.tools.export.files import all_or_none
from fuzz.mutations import DEEP, flip, reword
from fuzz.target import Target

UID = "1.2.826.0.1.3680043.8.498.1"  # of the object: what the corpus was recorded with
TRANSACTION = f"{UID}.9"
ANSWER_S = 0.3  # that is waited for an answer
MOST = 20_000  # bytes of a turn
MOST_THREADS = 60
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n"


def dicom_object(folder: Path) -> DicomObject:
    """A small object with known identifiers."""
    path = folder / "object.dcm"
    still = Still(0, 0, np.zeros((4, 4), np.uint8))
    clip = Clip(kind="raw", stills=[still], total=1, fps=None, started="2024-01-01T10:00:00+01:00")
    with all_or_none() as files:
        DicomExporter().write(clip, path, files)
    made = DicomObject.of(path)
    return DicomObject(path, made.sop_class, UID, f"{UID}.2", f"{UID}.3", made.transfer_syntax, made.words)


class WebArchive(Target):
    """A first byte that says what was asked, then what comes by the connection, each time that one is made."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._item = dicom_object(folder)
        self._service = StowService("a", "localhost", 80, "/studies", login=Login("a", "b"), tls=None)
        self._answer = b""
        setattr(http.client.HTTPConnection, "connect", lambda one: self._connect(one))  # noqa: B010 - to a method

    def seeds(self) -> list[bytes]:
        stored = {REFERENCED: {"vr": "SQ", "Value": [{INSTANCE: {"vr": "UI", "Value": [UID]}}]}}
        failed = {
            FAILED: {
                "vr": "SQ",
                "Value": [{INSTANCE: {"vr": "UI", "Value": [UID]}, REASON: {"vr": "US", "Value": [272]}}],
            }
        }
        found = [{"00080018": {"vr": "UI", "Value": [UID]}}]
        bodies = [*(json.dumps(one).encode() for one in (stored, failed, found, [])), *DEEP]
        answers = [HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body for body in bodies]
        answers += [
            HEAD
            + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(bodies[0])
            + bodies[0]
            + b"\r\n0\r\n\r\n",
            *(b"HTTP/1.1 %d Because\r\n\r\n" % status for status in (100, 204, 301, 401, 404, 405, 503)),
            b"",
        ]
        return [bytes([kind]) + answer for kind in (0, 1) for answer in answers]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        head, found, body = data[1:].partition(b"\r\n\r\n")
        if rng.random() < 0.5:
            return data[:1] + flip(rng, data[1:])
        return data[:1] + (head if rng.random() < 0.3 else HEAD) + found + reword(rng, body)

    def run(self, data: bytes) -> None:
        self._answer = data[1:]
        if data[:1] == b"\1":
            self._service.holds(self._item)
            return
        remark = self._service.store(self._item)
        assert remark == ""
        if b"chunked" not in data.lower() and b"\\u" not in data:
            assert UID.encode() in data, "what nobody said to be stored is taken for stored"

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        connection.sock = Replies(self._answer)


class Replies:
    """A connected socket, by which ``answer`` comes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self._answer))

    def sendall(self, _data: bytes) -> None:
        pass

    def close(self) -> None:
        pass


class Association(Target):
    """A first byte that says what is asked, then what an archive sends: the length of a turn in two bytes and its
    bytes, for each. Turns are sent as ours come."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        logging.getLogger("pynetdicom").handlers = [logging.NullHandler()]
        for name in ("CONNECT_S", "ANSWER_S", "COMMIT_S"):
            setattr(dimse, name, ANSWER_S)
        setattr(dimse, "generate_uid", lambda prefix=None: TRANSACTION)  # noqa: B010 - of another module
        item = dicom_object(folder)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._turns: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()
        self._uses: tuple[Callable[[DicomNode], object], ...] = (
            lambda node: node.holds(item),
            lambda node: node.store(item),
            lambda node: node.confirm([item]),
        )

    def seeds(self) -> list[bytes]:
        return [
            b"\0",
            b"\1\0\1\3",
            b"\2" + turn(b"\3\0\0\0\0\4\0\1\1\3"),
            b"\1" + turn(b"\7\0\0\0\0\4\0\0\0\0"),
        ]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        turns = split_turns(data[1:]) or [b"\3"]
        at, kind = int(rng.random() * len(turns)), rng.random()
        if kind < 0.1:
            turns[at:at] = [turns[int(rng.random() * len(turns))]]
        elif kind < 0.2:
            del turns[at]
        else:
            turns[at] = flip(rng, turns[at])[:MOST]
            if kind < 0.8:
                turns[at] = with_lengths(turns[at])
        use = data[:1] if rng.random() < 0.9 else bytes([int(rng.random() * 3)])
        return use + b"".join(map(turn, turns))

    def run(self, data: bytes) -> None:
        self._turns = split_turns(data[1:])
        self.ask(data[0] if data else 0, self._listener.getsockname()[1])
        assert threading.active_count() < MOST_THREADS, "threads are left behind"

    def ask(self, use: int, port: int) -> None:
        """Ask what the archive holds, have it store, or have it confirm."""
        self._uses[use % len(self._uses)](DicomNode("ARCHIVE", "127.0.0.1", port, calling="CLESR"))

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._answer, args=(connection, self._turns), daemon=True).start()

    def _answer(self, connection: socket.socket, turns: list[bytes]) -> None:
        connection.settimeout(2 * ANSWER_S)
        with connection, suppress(OSError):
            for one in turns:
                if not connection.recv(1 << 16):
                    return
                connection.sendall(one)
            while connection.recv(1 << 16):
                pass


def turn(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def split_turns(data: bytes) -> list[bytes]:
    turns = []
    while len(data) >= 2:
        (size,) = struct.unpack_from(">H", data)
        turns.append(data[2 : 2 + size])
        data = data[2 + size :]
    return turns


def with_lengths(pdu: bytes) -> bytes:
    """``pdu`` with the lengths that it should state: its own, and that of its one value."""
    body = pdu[6:]
    if pdu[:1] == b"\4" and len(body) > 4:
        body = struct.pack(">I", len(body) - 4) + body[4:]
    return pdu[:2].ljust(2, b"\0") + struct.pack(">I", len(body)) + body
