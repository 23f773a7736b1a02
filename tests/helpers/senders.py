"""Senders of network video whose frames carry their numbers, and what stands between them and a reader."""

from __future__ import annotations

import http.server
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import until
from waits import PATIENCE_S, joined, line_from

from clesr.pipeline.frame import Corrupt, Frame, Image, Outage
from clesr.pipeline.source import Source

WIDTH, HEIGHT, FPS, BITS, STAMP_ROWS = 160, 96, 24, 20, 16  # as in rtsp_server.py
SERVER = Path(__file__).with_name("rtsp_server.py")
SYSTEM_PYTHON = "/usr/bin/python3"  # which has the bindings of GStreamer
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-x264-params", "sliced-threads=0"]
X264 += ["-pix_fmt", "yuv420p", "-g", "12", "-b:v", "1500k"]


def scenes(count: int = 48) -> list[Image]:
    """What the frames show besides their stamps: tissue that drifts, enough of it for several packets a frame."""
    rng = np.random.default_rng(1)
    wide = cv2.GaussianBlur(rng.random((HEIGHT, WIDTH + count)), (0, 0), 1.2)
    tissue = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return [np.ascontiguousarray(tissue[:, index : index + WIDTH]) for index in range(count)]


def stamped(image: Image, number: int) -> Image:
    """``image`` with ``number`` in its top rows."""
    image, block = image.copy(), WIDTH // BITS
    for bit in range(BITS):
        image[:STAMP_ROWS, bit * block : (bit + 1) * block] = 230 if number >> bit & 1 else 20
    return image


def number_of(image: Image) -> int:
    """The number in ``image``."""
    blocks = image[4:12].reshape(8, BITS, WIDTH // BITS)[:, :, 2:-2].mean((0, 2))
    return sum(1 << bit for bit in range(BITS) if blocks[bit] > 125)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RtspServer:
    """A server at ``port``, or any; with ``user`` (name, password) for that one alone."""

    def __init__(self, folder: Path, port: int = 0, user: tuple[str, str] | None = None) -> None:
        file = folder / "scenes.gray"
        file.write_bytes(b"".join(image.tobytes() for image in scenes()))
        command = [SYSTEM_PYTHON, str(SERVER), str(port), str(file), *(user or ())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = line_from(self._process.stdout)
        if not line:
            self.kill()
            pytest.skip("the RTSP server does not start: .ci/run has the packages that it needs")
        self.port = int(line)
        self.address = f"rtsp://127.0.0.1:{self.port}/cam"

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=PATIENCE_S)


class Encoder:
    """``ffmpeg`` that sends stamped frames, one each period of the machine's clock, to ``output`` until ``stop``."""

    def __init__(self, output: list[str], *, shift: int = 0) -> None:
        command = shutil.which("ffmpeg")
        if command is None:
            pytest.skip("ffmpeg is missing: install it")
        raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "-"]
        self._process = subprocess.Popen(
            [command, "-v", "error", *raw, *X264, *output], stdin=subprocess.PIPE
        )
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._feed, args=(shift,))
        self._thread.start()

    def _feed(self, shift: int) -> None:
        images, number = scenes(), int(time.monotonic() * FPS) + 1
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            while not self._ending.wait(max(0.0, number / FPS - time.monotonic())):
                image = stamped(images[number % len(images)], (number + shift) % (1 << BITS))
                self._process.stdin.write(image.tobytes())
                self._process.stdin.flush()
                number += 1

    def stop(self) -> None:
        self._ending.set()
        self._process.kill()
        joined(self._thread)
        with suppress(BrokenPipeError):
            self._process.communicate(timeout=PATIENCE_S)


class UdpRelay:
    """Hands datagrams on to ``port``, but those of which ``loses`` says so, by their count."""

    def __init__(self, loses: Callable[[int], bool]) -> None:
        self._in = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._in.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._in.bind(("127.0.0.1", 0))
        self.source, self.port = self._in.getsockname()[1], free_port(socket.SOCK_DGRAM)
        self._loses, self.lost = loses, 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        count = 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while data := self._in.recv(1 << 16):
                count += 1
                if self._loses(count):
                    self.lost += 1
                else:
                    out.sendto(data, ("127.0.0.1", self.port))

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.source))
        joined(self._thread)
        self._in.close()


class TcpRelay:
    """A way to ``port`` that can be ``closed`` for a while: what is sent meanwhile comes afterwards."""

    def __init__(self, port: int) -> None:
        self._target, self._listener = port, socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.open = threading.Event()
        self.open.set()
        self._sockets: list[socket.socket] = [self._listener]
        self._start(self._accept)

    def _start(self, run: Callable[[], None]) -> None:
        threading.Thread(target=run, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                self._start(partial(self._hand_on, near, far))
                self._start(partial(self._hand_on, far, near))

    def _hand_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self.open.wait(PATIENCE_S)
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.open.set()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class Mjpeg(http.server.BaseHTTPRequestHandler):
    """Stamped frames as an IP camera sends them: parts that replace one another."""

    pausing = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        images, number = scenes(), int(time.monotonic() * FPS) + 1
        with suppress(OSError):
            while True:
                time.sleep(max(0.0, number / FPS - time.monotonic()))
                if not self.pausing.is_set():
                    self._send(stamped(images[number % len(images)], number % (1 << BITS)))
                number += 1

    def _send(self, image: Image) -> None:
        data = cv2.imencode(".jpg", image)[1].tobytes()
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        self.wfile.write(head.encode() + data + b"\r\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        return


class Quiet(http.server.SimpleHTTPRequestHandler):
    """The files of a folder, without a word about it."""

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def web_server(handler: Callable[..., http.server.BaseHTTPRequestHandler], port: int = 0) -> Iterator[int]:
    """A web server at the port that it gives."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            joined(thread)


class Watched:
    """What a source gives, taken by a thread as it comes, with the moment."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.items: list[Frame | Corrupt | Outage] = []
        self.taken_ns: list[int] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            item = self.source.read(0.1)
            if item is not None:
                self.taken_ns.append(time.monotonic_ns())
                self.items.append(item)

    @property
    def frames(self) -> list[Frame]:
        return [item for item in list(self.items) if isinstance(item, Frame)]

    @property
    def outages(self) -> list[Outage]:
        return [item for item in list(self.items) if isinstance(item, Outage) and item.over]

    def await_frames(self, more: int) -> None:
        """Wait for so many more frames."""
        least = len(self.frames) + more
        until(lambda: len(self.frames) >= least)

    def close(self) -> None:
        self._ending.set()
        joined(self._thread)
        self.source.close()

    def unexplained(self) -> list[str]:
        """Where stamps and numbers disagree and no outage of unknown number says so."""
        wrong, last, unknown = [], None, False
        for item in self.items:
            if isinstance(item, Outage):
                unknown = unknown or (item.over and not item.known)
            elif isinstance(item, Frame) and not item.damaged:
                now = item.number, number_of(item.image)
                if last is not None and not unknown and now[1] - last[1] != now[0] - last[0]:
                    wrong.append(f"{last} {now}")
                last, unknown = now, False
        return wrong
