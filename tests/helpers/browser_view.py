"""A stream in the browser, as tests need it: results when they say so, and actions that they see."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
from websockets.sync.client import ClientConnection, connect

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import ClesrError
from clesr.engines.common.image import Pixels
from clesr.pipeline.controls import Action, Argument, Controls
from clesr.pipeline.frame import Frame, Image, Outcome, Result, Times
from clesr.pipeline.sinks.browser.door import Door
from clesr.pipeline.sinks.browser.sink import BrowserSink
from clesr.pipeline.sinks.browser.site import Site
from clesr.pipeline.sinks.browser.stored import Sessions
from clesr.pipeline.sinks.placement import WindowPlacement
from clesr.pipeline.sinks.registry import SinkOptions
from clesr.pipeline.status import State, Status


def status(**changed: Any) -> Status:
    """A run that is well."""
    usual: dict[str, Any] = {
        "state": State.RUNNING,
        "source": "demo:",
        "engine": "fake",
        "model": "fast",
        "captured": 3,
        "outcomes": dict.fromkeys(Outcome, 0),
        "fps": 25.0,
        "age_ns": 10_000_000,
        "period_ns": 40_000_000,
        "stalled": False,
    }
    return Status(**usual | changed)


def numbered(number: int, size: int = 64) -> Image:
    """An image whose 16 squares say ``number`` in black and white."""
    bits = (number >> np.arange(16)) & 1
    return np.asarray(np.kron(bits.reshape(4, 4) * 255, np.ones((size // 4, size // 4))), np.uint8)


def number_in(image: Image) -> int:
    """What ``numbered`` wrote."""
    part = image.shape[0] // 4
    bits = image[part // 2 :: part, part // 2 :: part].ravel() > 127
    return int(bits @ (1 << np.arange(16)))


def result_of(image: Image, number: int, *, scale: int = 2, **more: Any) -> Result:
    now = SYSTEM.now_ns()
    lr = np.ascontiguousarray(image[::scale, ::scale])
    times = Times(now, now, now, now)
    return Result(Frame(lr, number, now), lr, image, Outcome.UPSCALED, scale, times, "fast", **more)


class Subject:
    """What the actions of tests act on."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.controls: Controls[Subject] = Controls(self, ACTIONS)


def noting(name: str, changes: bool = False) -> Any:
    """What an action ``name`` does: note that it was called; where it ``changes`` the view, that too."""

    def call(subject: Subject, **arguments: Any) -> Mapping[str, Any]:
        subject.calls.append((name, arguments))
        if changes:
            field = name.replace("-", "_")
            values = list(arguments.values())
            now = getattr(subject.controls.view, field)
            subject.controls.change(**{field: not now if isinstance(now, bool) else values[0]})
        return {"said": f"{name} done"}

    return call


def _fail(subject: Subject) -> None:
    raise ClesrError("it cannot be done; try something else")


def _freeze(subject: Subject) -> Mapping[str, Any]:
    frozen = not subject.controls.view.frozen
    subject.controls.change(frozen=frozen)
    return {"said": "frozen" if frozen else "live"}


_share: dict[str, Any] = {"minimum": 0.0, "maximum": 1.0}
ACTIONS: tuple[Action[Subject], ...] = (
    Action("freeze", "Hold the image.", _freeze, key="space"),
    Action(
        "mode", "What is shown.", noting("mode", True),
        (Argument("mode", str, "which", choices=("sr", "wipe", "side-by-side", "bicubic", "raw")),),
    ),
    Action("wipe", "Where the edge is.", noting("wipe", True), (Argument("position", float, "share", **_share),)),
    Action("zoom", "How large.", noting("zoom", True), (Argument("zoom", float, "times", minimum=1, maximum=32),)),
    Action(
        "region", "Mark a part.", noting("region"),
        tuple(Argument(name, int, name, minimum=0, maximum=10_000) for name in ("x", "y", "width", "height")),
    ),
    Action("scale-bar", "A bar.", noting("scale-bar", True), key="b"),
    Action("still", "Take a still.", noting("still"), (Argument("dicom", bool, "DICOM too", False),), "s", "Keep"),
    Action("note", "Write down.", noting("note"), (Argument("text", str, "words", maximum=200),), "n", "Keep"),
    Action("acknowledge", "Seen.", noting("acknowledge"), (Argument("alarm", str, "which", ""),), "a", "Run"),
    Action("quit", "End.", noting("quit"), (Argument("sure", bool, "no question", False),), "q", "Run"),
    Action("fail", "Cannot work.", _fail, group="Run"),
    Action("help", "Show the keys.", noting("help"), key="h", group="Run"),
    Action("full-screen", "Fill the screen.", noting("full-screen"), key="F", group="Run"),
)  # fmt: skip


@dataclass
class Shown:
    """A sink that is open, what its actions act on, and its address."""

    sink: BrowserSink
    subject: Subject = field(default_factory=Subject)

    @property
    def url(self) -> str:
        return f"{self.sink.site.door.scheme}://127.0.0.1:{self.sink.site.port}"

    def show(self, number: int, size: int = 64) -> None:
        self.sink.write(result_of(numbered(number, size), number))
        self.sink.refresh(status())


@contextmanager
def showing(
    *, token: str | None = None, sessions: Sessions | None = None, door: Door | None = None, streams: int = 1
) -> Iterator[Shown]:
    """A stream, or several, in the browser; what is yielded is the first."""
    site = Site(door or Door(listen="127.0.0.1:0", token=token), sessions)
    places = [WindowPlacement(f"stream {index}", index, streams) for index in range(streams)]
    sinks = [BrowserSink(options=SinkOptions(place=place, site=site)) for place in places]
    subject = Subject()
    try:
        for sink in sinks:
            sink.controls = subject.controls
            sink.refresh(status())
        yield Shown(sinks[0], subject)
    finally:
        for sink in sinks:
            sink.close()


def decoded(data: bytes) -> Pixels:
    """The image in a PNG or JPEG file."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert found is not None
    return np.asarray(found, np.uint8)


UPGRADE = (
    b"GET /streams/0 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def ask_and_never_read(port: int) -> socket.socket:
    """A page that asks for pictures and takes none."""
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.settimeout(60)
    deaf.connect(("127.0.0.1", port))
    deaf.sendall(UPGRADE)
    assert b" 101 " in deaf.recv(64)
    words = b'{"now":0}'
    deaf.sendall(b"\x81" + bytes([0x80 | len(words)]) + bytes(4) + words)  # RFC 6455: a text, masked by zeros
    return deaf


def page_ms(time_ns: int) -> float:
    """A moment of ours by the clock of a page without a browser, in milliseconds."""
    return time_ns / 1e6 + 5000


class Seen(NamedTuple):
    """A picture that came."""

    header: dict[str, Any]
    data: bytes

    @property
    def image(self) -> Pixels:
        return decoded(self.data)


class Looker:
    """A page without a browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self.socket = connection
        self.texts: dict[str, Any] = {}
        self._header: dict[str, Any] = {}  # of the picture of which not all pieces are here
        self._pieces = b""

    def send(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def next(self, seconds: float = 30.0) -> Seen | str:
        """The next picture, or the kind of the next text, whose value is in ``texts``."""
        while True:
            data = self.socket.recv(seconds)
            if isinstance(data, str):
                ((kind, value),) = json.loads(data).items()
                if kind != "picture":
                    self.texts[kind] = value
                    return str(kind)
                self._header, self._pieces = value, b""
            else:
                self._pieces += data
                if len(self._pieces) == self._header["bytes"]:
                    return Seen(self._header, self._pieces)

    def picture(self, *, ack: bool = True) -> Seen:
        while isinstance(seen := self.next(), str):
            pass
        if ack:
            self.send(ack=seen.header["id"])
        return seen

    def text(self, kind: str) -> Any:
        """The next text of that kind; pictures before it are acknowledged."""
        while (seen := self.next()) != kind:
            if isinstance(seen, Seen):
                self.send(ack=seen.header["id"])
        return self.texts[kind]

    def call(self, action: str, /, **arguments: Any) -> Any:
        self.send(call=action, arguments=arguments, id=7)
        return self.text("told")


@contextmanager
def looking(
    url: str, path: str = "/streams/0", *, says_time: bool = True, **options: Any
) -> Iterator[Looker]:
    """A socket to a stream, with the time of the page that pictures wait for; ``options`` are those of websockets."""
    address = url.replace("http", "ws", 1) + path
    with connect(address, max_size=None, proxy=None, compression=None, **options) as connection:
        looker = Looker(connection)
        if says_time:
            looker.send(now=page_ms(SYSTEM.now_ns()))
        yield looker
