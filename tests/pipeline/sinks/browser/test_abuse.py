"""What strangers may do to the server of a running `clesr-live`: its memory is bounded, and the live path goes on."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from browser_view import UPGRADE, Seen, ask_and_never_read, looking
from certificates import make_certificate
from support import until
from waits import joined, line_from

from clesr.engines.common.clock import SYSTEM
from clesr.pipeline.operator.control_socket import ask

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads /proc, which is Linux"),
]

FPS, FRAMES = 25, 75  # of the source; of one look
EACH_S = 1.0  # between two waves of the same strangers
LOOKS = 4  # of which one must be as without strangers: other work on the machine may disturb some
AS_BEFORE = 0.9  # of the frames a second
MOST_BYTES = 48 << 20  # that strangers may cost, all together
SILENT = 400  # connections at once
SPARE = 60  # handles for all that comes
MESSAGE = b"x" * 10_000_000


@dataclass
class Program:
    """`clesr-live` with its page at ``port``."""

    process: subprocess.Popen[str]
    url: str
    control: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = ask(self.control, {"status": True}, 60)["status"]
        return status

    def upscaled(self) -> int:
        return int(self.status()["outcomes"]["upscaled"])

    def fps(self) -> float:
        """Frames a second that are up-scaled, over the next ``FRAMES``."""
        begun, first = SYSTEM.now_ns(), self.upscaled()
        until(lambda: self.upscaled() >= first + FRAMES)
        return FRAMES / ((SYSTEM.now_ns() - begun) / 1e9)

    def memory(self) -> int:
        """Bytes that it holds."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", text)
        return int(kib) * 1024

    def numbers(self) -> list[int]:
        """Of its handles: the lowest that is free is taken next."""
        return [int(name) for name in os.listdir(f"/proc/{self.process.pid}/fd")]

    def handles(self) -> int:
        return len(self.numbers())


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[Program]:
    control = f"zmq+ipc://{folder}/control"
    process = subprocess.Popen(
        [
            sys.executable, "-c", "from clesr.tools.entry import live_main; live_main()",
            "--source", f"demo:?size=128&fps={FPS}", "--model", "nearest", "--temporal", "off",
            "--display", "browser", "--listen", "127.0.0.1:0", "--control", control, *options,
        ],
        stderr=subprocess.PIPE, text=True, cwd=folder,
    )  # fmt: skip
    drain = threading.Thread(target=process.communicate)
    try:
        while "open in a browser" not in (line := line_from(process.stderr)):
            assert line, "it has ended"
        drain.start()
        until((folder / "control").exists)
        yield Program(process, line.split()[-1].rstrip("/"), control)
    finally:
        process.kill()
        joined(drain)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with running(tmp_path) as made:
        yield made


class Strangers:
    """Do their worst until ``close``: some never read, some send 10 MB, and a thousand come at once."""

    def __init__(self, program: Program) -> None:
        self._program, self._over = program, threading.Event()
        self._place = ("127.0.0.1", program.port)
        self.waves = {"deaf": 0, "long": 0, "many": 0}
        self._threads = [threading.Thread(target=self._repeat, args=(name,)) for name in self.waves]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._over.set()
        joined(*self._threads)

    def _repeat(self, name: str) -> None:
        with contextlib.ExitStack() as held:
            while not self._over.wait(EACH_S):
                with contextlib.suppress(OSError, AssertionError):
                    getattr(self, f"_{name}")(held)
                self.waves[name] += 1

    def _deaf(self, held: contextlib.ExitStack) -> None:
        """Three that take no picture."""
        for _ in range(3):
            held.enter_context(ask_and_never_read(self._program.port))

    def _long(self, _held: contextlib.ExitStack) -> None:
        """A message of 10 MB by the socket (RFC 6455, a text masked by zeros), and one by a request."""
        head = b"\x81\xff" + len(MESSAGE).to_bytes(8, "big") + bytes(4)
        with contextlib.suppress(OSError), socket.create_connection(self._place, 20) as connection:
            connection.sendall(UPGRADE)
            connection.recv(4096)
            connection.sendall(head + MESSAGE)
        with socket.create_connection(self._place, 20) as connection:
            connection.sendall(
                b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + MESSAGE
            )

    def _many(self, _held: contextlib.ExitStack) -> None:
        """A thousand connections, of which those that are let in say nothing."""
        with contextlib.ExitStack() as all_of_them:
            for _ in range(1000):
                if self._over.is_set():
                    return
                all_of_them.enter_context(socket.create_connection(self._place, 20))


def test_strangers_cost_little_memory_and_no_frames(program: Program) -> None:
    """While a page that was there before looks on."""
    over, numbers, most = threading.Event(), [0], [0]

    def look() -> None:
        with looking(program.url) as looker:
            while not over.is_set():
                seen = looker.next()
                if isinstance(seen, Seen):
                    looker.send(ack=seen.header["id"])
                    numbers[0] = seen.header["number"]
                    most[0] = max(most[0], program.memory())

    looking_on = threading.Thread(target=look)
    looking_on.start()
    until(lambda: numbers[0] > FPS)
    alone, bytes_alone = program.fps(), most[0]
    handles = program.handles()
    strangers = Strangers(program)
    try:
        until(lambda: min(strangers.waves.values()) >= 2, 240)
        beside: list[float] = []
        while len(beside) < LOOKS and max(beside, default=0.0) < AS_BEFORE * alone:
            seen = numbers[0]
            beside.append(program.fps())
            assert numbers[0] > seen, "the page goes on"
    finally:
        strangers.close()
        over.set()
        joined(looking_on)
    print(
        f"{alone:.1f} frames/s alone, {beside} beside {strangers.waves}; {most[0] - bytes_alone} bytes more"
    )
    assert max(beside) >= AS_BEFORE * alone
    assert most[0] - bytes_alone <= MOST_BYTES
    until(lambda: program.handles() <= handles)


class Silent:
    """Holds ``SILENT`` connections that say nothing, until ``close``; for one that is cut off another comes."""

    def __init__(self, port: int) -> None:
        self._place, self._over = ("127.0.0.1", port), threading.Event()
        self.cut = 0
        self._thread = threading.Thread(target=self._hold)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        joined(self._thread)

    def _hold(self) -> None:
        with selectors.DefaultSelector() as held:
            while not self._over.is_set():
                while len(held.get_map()) < SILENT:
                    connection = socket.socket()
                    connection.setblocking(False)
                    connection.connect_ex(self._place)
                    held.register(connection, selectors.EVENT_READ)
                for key, _ in held.select(0.1):
                    held.unregister(key.fileobj)
                    cast(socket.socket, key.fileobj).close()
                    self.cut += 1
            for key in list(held.get_map().values()):
                cast(socket.socket, key.fileobj).close()


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_hundreds_of_silent_connections_take_no_handles_from_the_live_path(
    tmp_path: Path, encrypted: bool
) -> None:
    """The program may have few handles more than it has; whoever asks for the page gets it meanwhile."""
    key = str(make_certificate(tmp_path / "localhost.pem")) if encrypted else ""
    options = ["--tls-certificate", key, "--tls-key", key] if encrypted else []
    with running(tmp_path, *options) as program:
        until(lambda: program.upscaled() > FPS)
        most = max(program.numbers()) + SPARE
        resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE, (most, most))
        silent = Silent(program.port)
        try:
            until(lambda: silent.cut > SILENT)
            for _ in range(3):
                seen = program.upscaled()  # asked over a new connection
                until(lambda: _page_of(program) == 200)
                until(lambda seen=seen: program.upscaled() > seen + FPS)  # type: ignore[misc]
                assert max(program.numbers()) < most - 1, "all handles are taken"
        finally:
            silent.close()


def _page_of(program: Program) -> int | None:
    try:
        return httpx.get(program.url, verify=False, timeout=10).status_code
    except httpx.TransportError:
        return None
