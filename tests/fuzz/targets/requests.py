"""HTTP requests: to the browser's server, with cookies, query strings, and what comes behind an upgrade; to that of
the figures."""

from __future__ import annotations

import asyncio
import io
import logging
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import uvicorn
from browser_view import Subject
from uvicorn.server import ServerState

from clesr.pipeline.metrics.server import _Handler
from clesr.pipeline.session import reading, sessions
from clesr.pipeline.session.sessions import SessionListing
from clesr.pipeline.sinks.browser.channel import Channel
from clesr.pipeline.sinks.browser.door import Door
from clesr.pipeline.sinks.browser.server import BoundedHttp, BoundedSocket
from clesr.pipeline.sinks.browser.site import Site
from fuzz.mutations import flip
from fuzz.target import Target
from fuzz.targets import CORPUS

TOKEN = "a-token-of-tests-0123456789"
COOKIE = b"THE=COOKIE"  # in place of which the right one is sent
SECRET = b"precious"
PIECE = 4096  # bytes that come together
END_S = 4.0
PATHS = (
    "/", "/?token=" + TOKEN, "/?token=a&token=b", "/app.js", "/streams", "/streams/0", "/streams/1", "/sessions",
    "/sessions/session/certificate", "/sessions/session/zip", "/sessions/session/files/session.json",
    "/sessions/session/replay", "/sessions/..%2fsecret/zip", "/sessions/session/files/..%2f..%2fsecret", "/nowhere",
)  # fmt: skip
WORDS = (
    b"..", b"%2f", b"%2e%2e", b"%00", b"%", b"%ff", b"\xff", b"\0", b"\r\n", b"\r\n\r\n", b" ", b"/", b"//", b"?", b"#",
    b";", b"=", b"&", b",", b'"', b"HTTP/1.0", b"HTTP/9.9", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"PRI * HTTP/2.0",
    b"Content-Length: 5\r\n", b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n", b"Host: evil.example\r\n", b"Host: [::1\r\n", b"Origin: http://evil.example\r\n",
    b"Origin: null\r\n", b"Sec-Fetch-Site: cross-site\r\n", b"Connection: upgrade\r\n", b"Upgrade: websocket\r\n",
    b"Upgrade: h2c\r\n", b"Cookie: a=b; ;;=\r\n", b"Sec-WebSocket-Version: 12\r\n", b"9" * 5000,
    b"a" * 20_000, b"session", b"0", b"-1",
)  # fmt: skip
SOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
FRAMES = (  # masked by zeros: a text, a ping, a close, one that states too much
    b"\x81\x89\0\0\0\0" + b'{"ack":0}',
    b"\x89\x80\0\0\0\0",
    b"\x88\x82\0\0\0\0\x03\xe8",
    b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
)


class Wire(asyncio.Transport):
    """A connection without a network."""

    def __init__(self, protocol: Any) -> None:
        super().__init__({"peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 80)})
        self.protocol, self.written, self.closed = protocol, bytearray(), False
        protocol.connection_made(self)

    def write(self, data: Any) -> None:
        assert not self.closed or not data, "something is sent behind the end"
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Raised(logging.Handler):
    """What the application raises, as uvicorn says it."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.errors.append(record.exc_info[1])


class Scrapes(Target):
    """A connection to the server of figures and health."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._handler = type("Handler", (_Handler,), {"streams": {}, "metrics": lambda _self: b"figures"})

    def seeds(self) -> list[bytes]:
        paths = ("/metrics", "/healthz", "/readyz", "/nowhere", "/metrics?a=b")
        return [f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in paths] + [
            b"GET /metrics\r\n",
            b"",
        ]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        return worded(rng, data)

    def run(self, data: bytes) -> None:
        self._handler(OneRequest(data), ("127.0.0.1", 5), Beside())


class Beside:
    """The server of a connection."""

    local = True

    def answers(self, _connection: object) -> None:
        pass


class OneRequest:
    """A socket by which ``data`` comes."""

    def __init__(self, data: bytes) -> None:
        self._data, self.sent = data, bytearray()

    def makefile(self, *_arguments: object) -> io.BytesIO:
        return io.BytesIO(self._data)

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def settimeout(self, _seconds: float) -> None:
        pass


class HttpRequests(Target):
    """A first byte, odd for a server that wants a token, then what comes by a connection. Servers are real, with a
    thread each; connections are not."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        logging.getLogger("clesr").handlers = [logging.NullHandler()]
        self._servers = [self._serve(Door(listen="127.0.0.1:0", token=token)) for token in (None, TOKEN)]
        self._heard = Raised()
        logging.getLogger("uvicorn.error").addHandler(self._heard)
        guarded = self._servers[1]
        self._cookie = guarded.door.cookie(guarded.port).partition(";")[0].encode()

    def seeds(self) -> list[bytes]:
        found = [b"\1GET / HTTP/1.1\r\n\r\n", b"\0", b"\1GET"]
        for path in PATHS:
            line = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode()
            known = b"Cookie: a=b; " + COOKIE + b"\r\n"
            found += [b"\0" + line + b"\r\n", b"\1" + line + b"\r\n", b"\1" + line + known + b"\r\n"]
            if path.endswith(("/0", "/1", "replay")):
                found += [
                    b"\0" + line + SOCKET + b"\r\n" + b"".join(FRAMES[:3]),
                    b"\1" + line + SOCKET + b"\r\n",
                ]
                found += [b"\0" + line + SOCKET + b"\r\n" + frame for frame in FRAMES]
        return found

    def mutate(self, rng: Random, data: bytes) -> bytes:
        return data[:1] + worded(rng, data[1:])

    def run(self, data: bytes) -> None:
        self._heard.errors.clear()
        guarded = bool(data[:1] and data[0] & 1)
        sent = data[1:].replace(COOKIE, self._cookie)
        server = self._servers[guarded]._server
        assert server is not None
        assert server._loop is not None
        work = _answered(server._server.config, sent)
        answer = asyncio.run_coroutine_threadsafe(work, server._loop).result()
        for error in self._heard.errors:
            raise error
        assert SECRET not in answer, "a file outside was given away"
        if guarded and self._cookie.partition(b"=")[2] not in sent:
            let_in = answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 101"))
            assert not let_in, "somebody without the cookie was let in"

    def _serve(self, door: Door) -> Site:
        """A site with one stream, and the sessions of a folder beside a file that nobody may see."""
        shown = self.folder / "shown"
        if not shown.exists():
            shutil.copytree(CORPUS / "session", shown / "session")
            (self.folder / "secret").write_bytes(SECRET)
        sessions._read_apart = _read_here
        site, subject = Site(door, SessionListing(shown)), Subject()
        site.join("a", Channel(site, subject.controls.call))
        return site


def _read_here(folder: Path, what: str, go_on: Callable[[], None]) -> Generator[Any, None, None]:
    """What the process sends that decodes sessions. It takes what others leave of the cores: that may be nothing."""
    told: list[Any] = []
    to: Any = SimpleNamespace(send=told.append)
    if what == "certificate":
        reading.send_certificate(to, folder)
    else:
        reading.send_images(to, folder, what)
    yield from told


def worded(rng: Random, data: bytes) -> bytes:
    """``data`` with WORDS in it, and changed bytes."""
    for _ in range(1 + int(rng.random() * 3)):
        at = int(rng.random() * len(data))
        if rng.random() < 0.6:
            word = WORDS[int(rng.random() * len(WORDS))]
            data = data[:at] + word + data[at + int(rng.random() * 6) :]
        else:
            data = flip(rng, data)
    return data


async def _answered(config: uvicorn.Config, data: bytes) -> bytes:
    """What is answered to ``data``, until whoever sent it is gone."""
    state = ServerState()
    wire = Wire(BoundedHttp(config, state, {}))
    for at in range(0, len(data), PIECE):
        if not wire.closed:
            wire.protocol.data_received(data[at : at + PIECE])
            await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)
    if state.tasks and not isinstance(wire.protocol, BoundedSocket):
        await asyncio.wait(state.tasks, timeout=END_S)
    wire.protocol.connection_lost(None)
    wire.closed = True
    if state.tasks:
        await asyncio.wait(state.tasks, timeout=END_S)
    assert not state.tasks, "a request is still at work"
    return bytes(wire.written)
