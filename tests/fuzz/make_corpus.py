"""``python -m fuzz.make_corpus``: what targets begin with, made anew: a session, videos, what an archive says."""

from __future__ import annotations

import select
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from recordings import drifting, write_video
from session_runs import PERIOD_NS, START_NS, frames, record
from waits import joined

from clesr.pipeline.frame import Corrupt
from clesr.tools.export.delivery import dimse
from fuzz.targets import CORPUS
from fuzz.targets.archives import Association, turn
from fuzz.targets.recordings import SUFFIXES

VIDEOS = (
    ("ffv1", ".mkv", "gray"),
    ("ffv1", ".mkv", "gray16le"),
    ("libx264", ".mp4", "yuv420p"),
    ("libx265", ".mkv", "yuv420p"),
    ("mjpeg", ".avi", "yuvj420p"),
    ("mpeg2video", ".ts", "yuv420p"),
    ("libvpx-vp9", ".webm", "yuv420p"),
)


def session() -> None:
    """Six frames, one of them damaged, and two that were lost."""
    folder = CORPUS / "session"
    shutil.rmtree(folder, ignore_errors=True)
    record(
        folder,
        [*frames(range(3)), Corrupt(3, START_NS + 3 * PERIOD_NS, "torn"), *frames(range(6, 9), np.uint8)],
    )


def videos() -> Iterator[tuple[str, bytes]]:
    """Names and contents of the seeds of ``video``."""
    images = drifting(8, (48, 64))
    path = CORPUS / "made"
    for codec, suffix, pixels in VIDEOS:
        made = path.with_suffix(suffix)
        deep = pixels == "gray16le"
        write_video(
            made,
            [image.astype(np.uint16) << 8 for image in images] if deep else images,
            codec=codec,
            pixel_format=pixels,
            options={"g": "4"},
        )
        yield f"seed-{codec}-{pixels}", bytes([3 * SUFFIXES.index(suffix)]) + made.read_bytes()
        made.unlink()


def packets(path: Path) -> Iterator[bytes]:
    """Those of the video in a session."""
    with av.open(path) as container:
        yield from (bytes(packet) for packet in container.demux(video=0) if packet.size)


def associations() -> Iterator[tuple[str, bytes]]:
    """Names and contents of the seeds of ``association``: what an archive sends when it is asked, gets an object, and
    promises to keep it."""
    with TemporaryDirectory() as folder, _archive() as port:
        target = Association(Path(folder))
        for number, name in enumerate(("holds", "store", "confirm")):
            with _recording(port) as (own, turns):
                target.ask(number, own)
            yield f"seed-{name}", bytes([number]) + b"".join(map(turn, turns))


@contextmanager
def _archive() -> Iterator[int]:
    """The port of a DICOM archive that takes everything."""

    def find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        yield 0xFF00, event.identifier

    def commit(event: Any) -> tuple[int, None]:
        asked = event.action_information
        report = (asked, 1, dimse.COMMITMENT, dimse.COMMITMENT_INSTANCE)
        threading.Thread(target=event.assoc.send_n_event_report, args=report).start()
        return 0x0000, None

    entity = AE(ae_title="ARCHIVE")
    for known in (dimse.FIND, dimse.COMMITMENT):
        entity.add_supported_context(known)
    entity.supported_contexts += AllStoragePresentationContexts
    handlers: Any = [
        (evt.EVT_C_STORE, lambda _event: 0),
        (evt.EVT_C_FIND, find),
        (evt.EVT_N_ACTION, commit),
    ]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


@contextmanager
def _recording(port: int) -> Iterator[tuple[int, list[bytes]]]:
    """A port that leads to ``port`` once, and what comes from there, a turn for each of ours."""
    turns: list[bytes] = []

    def relay() -> None:
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            others, ours = {client: server, server: client}, True
            while True:
                for one in select.select(list(others), [], [])[0]:
                    data = one.recv(1 << 16)
                    if not data:
                        return
                    if one is client:
                        ours = True
                    elif ours:
                        turns.append(data)
                        ours = False
                    else:
                        turns[-1] += data
                    others[one].sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=relay)
        thread.start()
        yield listener.getsockname()[1], turns
        joined(thread)


def main() -> None:
    session()
    for name in ("video", "ffv1", "association"):
        (CORPUS / name).mkdir(exist_ok=True)
        for old in (CORPUS / name).glob("seed-*"):
            old.unlink()
    for name, content in videos():
        (CORPUS / "video" / name).write_bytes(content)
    for name, content in associations():
        (CORPUS / "association" / name).write_bytes(content)
    for number, packet in enumerate(packets(CORPUS / "session" / "raw.mkv")):
        if number < 3:
            (CORPUS / "ffv1" / f"seed-{number}").write_bytes(packet)


if __name__ == "__main__":
    main()
