"""Frames from other programs by ZeroMQ (``docs/wire-format.md``)."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import recv_monitor_message

from clesr.pipeline.clock import SYSTEM, Clock
from clesr.pipeline.errors import EndOfSource, SourceError, UsageError
from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.sources.base import SourceInfo
from clesr.pipeline.sources.message import MAX_HEADER, MAX_PIXELS, Refused, parse_message
from clesr.pipeline.sources.options import check_names, choice, split_options

FORM = "zmq+tcp://host:port or zmq+ipc:///path"
OPTIONS = ("socket", "bind", "topic", "stream", "curve_secret", "curve_server", "curve_clients")
HIGH_WATER = 8  # messages that wait for a reader that is late
NAP_MS = 50  # longest wait before a look whether the source was closed
GIVEN_UP_NS = 500_000_000  # after which ZeroMQ has not begun to connect again by itself, and will not
_BROKEN = f"refused: no ZeroMQ peer, or a part of more than {MAX_PIXELS} bytes; connected again"
MAX_GAP = 1_000_000  # a larger step in a sender's numbers is a new count, not lost frames


class ZmqSource:
    """Frames that a SUB or PULL socket receives at ``zmq+tcp://host:port`` or ``zmq+ipc:///path``, live.

    | option | default | meaning |
    |---|---|---|
    | socket | sub | ``sub`` receives from PUB, ``pull`` from PUSH |
    | bind | 0 | 1 waits for senders at the address (``tcp://*:port``), 0 connects to one |
    | topic | none | messages have three parts, the first beginning with this text (``sub`` only) |
    | stream | all | takes only messages whose header has this ``stream`` |
    | curve_secret | none | our CURVE certificate with secret key; needed with ``bind=1`` |
    | curve_server | none | the sender's CURVE certificate; encrypts where we connect |
    | curve_clients | all | folder of the certificates that may send to us, with ``bind=1`` |

    ``time_ns`` is the arrival by ``clock``: a sender's clock is another machine's. The sender's number is kept,
    so that a gap shows; where it falls back, or steps ahead by more than a million, the sender has begun anew
    and numbers go on from the last one. A message that is not of the documented form is Corrupt.

    Raises UsageError for an address or option that cannot work, SourceError where it cannot be opened.
    """

    def __init__(self, address: str, *, clock: Clock = SYSTEM) -> None:
        self.info = SourceInfo(address, live=True)
        endpoint, options = parse_address(address)
        self._clock, self._topic, self._stream = clock, "topic" in options, options.get("stream")
        self._numbers = Renumbered()
        self._closing = threading.Event()
        self._using = threading.Lock()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._gate: ThreadAuthenticator | None = None
        try:
            self._socket = self._opened(endpoint, options)
            self._link = None if options.get("bind") == "1" else Link(self._socket, endpoint)
        except BaseException:
            self._release()
            raise

    def read(self, timeout: float) -> Frame | Corrupt | None:
        deadline = SYSTEM.now_ns() + round(timeout * 1e9)  # ZeroMQ waits in real time, whatever the clock
        while not self._closing.is_set():
            remaining = max(0, -(-(deadline - SYSTEM.now_ns()) // 1_000_000))
            with self._using:
                item = None if self._closing.is_set() else self._received(min(remaining, NAP_MS))
            if item is not None:
                return item
            if SYSTEM.now_ns() >= deadline:
                return None
        raise EndOfSource

    def close(self) -> None:
        self._closing.set()
        with self._using:
            self._release()

    def _received(self, wait_ms: int) -> Frame | Corrupt | None:
        """The next message; None where there is none in time, or it is of another stream."""
        if not self._socket.poll(wait_ms):
            if self._link is not None and self._link.mended():
                return Corrupt(self._numbers.next(), self._clock.now_ns(), _BROKEN)
            return None
        parts = [part.buffer for part in self._socket.recv_multipart(copy=False)]
        now = self._clock.now_ns()
        try:
            header, image = parse_message(parts, topic=self._topic)
        except Refused as reason:
            return Corrupt(self._numbers.next(), now, f"refused {reason}")
        if self._stream is not None and header.stream != self._stream:
            return None
        return Frame(image, self._numbers.of(header.number), now)

    def _opened(self, endpoint: str, options: dict[str, str]) -> zmq.Socket[bytes]:
        bind = options.get("bind") == "1"
        socket = self._context.socket(zmq.PULL if options.get("socket") == "pull" else zmq.SUB)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RCVHWM, HIGH_WATER)
        socket.set(zmq.MAXMSGSIZE, max(MAX_PIXELS, MAX_HEADER))
        socket.set(zmq.IPV6, int("[" in endpoint))
        if socket.type == zmq.SUB:
            socket.subscribe(options.get("topic", ""))
        if "curve_clients" in options:
            self._gate = _gate(self._context, options["curve_clients"])
        _use_curve(socket, options, bind=bind)
        try:
            socket.bind(endpoint) if bind else socket.connect(endpoint)
        except zmq.ZMQError as error:
            action = "bound to" if bind else "connected to"
            hint = "choose a free port of this machine" if bind else f"write it as {FORM}"
            raise SourceError(f"{endpoint} cannot be {action} ({error.strerror}); {hint}") from error
        return socket

    def _release(self) -> None:
        if self._gate is not None:
            self._gate.stop()
            self._gate = None
        self._context.destroy(linger=0)


class Link:
    """The connection of ``socket`` to ``endpoint``. ZeroMQ opens a lost one again by itself, but not one that it
    ended because the sender broke the protocol or sent too large a part."""

    def __init__(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        self._socket, self._endpoint = socket, endpoint
        events = zmq.EVENT_CONNECTED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_DISCONNECTED
        self._events = socket.get_monitor_socket(events)
        self._lost_ns: int | None = None

    def mended(self) -> bool:
        """Connect again where ZeroMQ does not; whether that was so."""
        while self._events.poll(0):
            event = recv_monitor_message(self._events)["event"]
            self._lost_ns = SYSTEM.now_ns() if event == zmq.EVENT_DISCONNECTED else None
        if self._lost_ns is None or SYSTEM.now_ns() - self._lost_ns < GIVEN_UP_NS:
            return False
        self._lost_ns = None
        with contextlib.suppress(zmq.ZMQError):  # mostly, ZeroMQ has forgotten it
            self._socket.disconnect(self._endpoint)
        self._socket.connect(self._endpoint)
        return True


class Renumbered:
    """A sender's numbers, made to rise when it begins anew."""

    def __init__(self) -> None:
        self._last = -1
        self._shift: int | None = None  # None before the first good number

    def of(self, number: int) -> int:
        """The number of the frame that its sender calls ``number``."""
        if self._shift is None:
            self._shift = 0 if self._last < 0 else self._last + 1 - number
        elif not 0 < number + self._shift - self._last <= MAX_GAP:
            self._shift = self._last + 1 - number
        self._last = number + self._shift
        return self._last

    def next(self) -> int:
        """The number of a message that has none to trust."""
        self._last += 1
        return self._last


def parse_address(address: str) -> tuple[str, dict[str, str]]:
    """ZeroMQ's endpoint, and the options. Raises UsageError."""
    base, options = split_options(address)
    endpoint = base.removeprefix("zmq+")
    scheme, _, rest = endpoint.partition("://")
    host, _, port = rest.rpartition(":")
    if not ((scheme == "ipc" and rest) or (scheme == "tcp" and host and port.isdigit())):
        raise UsageError(f"{address} is no ZeroMQ address; write it as {FORM}")
    check_names(address, options, OPTIONS)
    choice(address, "socket", options.get("socket", "sub"), ("sub", "pull"))
    bind = choice(address, "bind", options.get("bind", "0"), ("0", "1")) == "1"
    if options.get("socket") == "pull" and "topic" in options:
        raise UsageError(f"{address}: PULL sockets have no topics; leave topic out, or use socket=sub")
    if bind and "curve_server" in options:
        raise UsageError(f"{address}: curve_server is for who connects; with bind=1 give curve_secret")
    if "curve_clients" in options and not (bind and "curve_secret" in options):
        raise UsageError(f"{address}: curve_clients needs bind=1 and curve_secret")
    if "curve_secret" in options and not (bind or "curve_server" in options):
        raise UsageError(f"{address}: curve_secret without bind=1 also needs curve_server, the sender's key")
    return endpoint, options


def _gate(context: zmq.Context[Any], folder: str) -> ThreadAuthenticator:
    """Admits only the certificates in ``folder``."""
    if not Path(folder).is_dir():
        raise SourceError(f"{folder} is no folder of CURVE certificates; make one with *.key files in it")
    gate = ThreadAuthenticator(context)
    gate.start()
    gate.configure_curve(domain="*", location=folder)
    return gate


def _use_curve(socket: zmq.Socket[bytes], options: dict[str, str], *, bind: bool) -> None:
    """Encrypt, where keys are given; who connects without a key of its own gets a fresh one."""
    if "curve_secret" in options:
        public, secret = _load_keys(options["curve_secret"])
        if secret is None:
            raise SourceError(f"{options['curve_secret']} has no secret key; give the *.key_secret file")
    elif "curve_server" in options:
        public, secret = zmq.curve_keypair()
    else:
        return
    socket.curve_publickey, socket.curve_secretkey = public, secret
    if bind:
        socket.curve_server = True
    else:
        socket.curve_serverkey = _load_keys(options["curve_server"])[0]


def _load_keys(path: str) -> tuple[bytes, bytes | None]:
    try:
        return zmq.auth.load_certificate(Path(path))
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{path} is no readable CURVE certificate ({error}); make one with zmq.auth.create_certificates"
        ) from error
