"""Results on a ZeroMQ PUB socket.

A message has two parts: a JSON header (UTF-8) and the pixels, little-endian, row by row from the top left.
The header has ``version`` 1, ``shape`` [H, W], ``dtype`` "uint8" or "uint16", ``number`` and ``time_ns`` of the
captured frame (monotonic clock of the sender), ``stream``, ``scale``, ``model``, which is "bicubic" for
the frames on which the engine failed, and ``damaged``, true for those that build on a damaged picture.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import zmq
from zmq.auth.thread import ThreadAuthenticator

from clesr.engines.common.addresses import choice, is_loopback, zmq_endpoint
from clesr.engines.common.errors import WHY, SinkError, UsageError, first_line, on_error, told_as
from clesr.engines.common.text import shown
from clesr.pipeline.curve import curve_settings, doorkeeper
from clesr.pipeline.frame import Outcome, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.sinks.registry import DEFAULTS, SinkOptions
from clesr.pipeline.unix_sockets import UnixListener

log = SafeLogger(logging.getLogger(__name__))
VERSION = 1
HIGH_WATER = 4  # messages that may wait for one subscriber before it misses some
WAITING = 32  # connections that are not yet accepted
LINGER_MS = 500  # how long ``close`` waits for the last messages to leave
OPTIONS = ("connect", "stream", "curve_secret", "curve_server", "curve_clients")
FORM = "zmq+tcp://*:5555 or zmq+ipc:///run/sr.ipc"


class Publisher:
    """A PUB socket that binds to ``address``, or connects with ``?connect=1``.

    ``&stream=NAME`` names the stream in the header ("sr" without it). ``&curve_secret=FILE`` encrypts with the key
    pair of a certificate as `clesr keys` writes it; who connects also needs
    ``&curve_server=FILE``, the public certificate of the other side. ``&curve_clients=FOLDER`` lets only those read
    whose public certificates are in it. What others on the network may read is told.

    A subscriber that is too slow misses messages until it has caught up; ``behind`` counts how often one
    fell behind (how many it missed only the numbers in its headers tell). The
    others get all. Raises UsageError for an address of another form, SinkError where it cannot be bound.
    """

    policy = Policy.DROP_OLDEST

    def __init__(self, address: str, _options: SinkOptions = DEFAULTS) -> None:
        self.name = shown(address).partition("?")[0]
        self.sent = self.behind = 0
        endpoint, options = parse_address(address)
        self._stream = options.get("stream", "sr")
        self._closed = False
        self._listener: UnixListener | None = None
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.PUB)
        self._guard: ThreadAuthenticator | None = None
        with on_error(self.close):
            if "curve_clients" in options:
                self._guard = doorkeeper(self._context, options["curve_clients"], SinkError)
            self._open(endpoint, options)
        _tell_readers(self.name, endpoint, options)

    def _open(self, endpoint: str, options: dict[str, str]) -> None:
        connect = options.get("connect", "0") == "1"
        curve = curve_settings(options, connect=connect, error_of=SinkError)
        for option, value in {zmq.SNDHWM: HIGH_WATER, zmq.LINGER: LINGER_MS, **curve}.items():
            self._socket.set(option, value)
        try:
            if connect:
                self._socket.connect(endpoint)
            else:
                self._listener = bind(self._socket, endpoint)
        except (zmq.ZMQError, OSError, UnicodeError) as error:
            problem = first_line(error) if isinstance(error, UnicodeError) else error.strerror
            raise SinkError(
                f"{self.name} cannot be opened: {problem}; choose another address or port, "
                f"as {FORM}, with an address of this machine or * for all of them"
            ) from error

    def write(self, result: Result) -> None:
        image = result.image
        header = {
            "version": VERSION,
            "shape": list(image.shape),
            "dtype": str(image.dtype),
            "number": result.frame.number,
            "time_ns": result.frame.time_ns,
            "stream": self._stream,
            "scale": result.scale,
            "model": "bicubic" if result.outcome is Outcome.FAILED else result.model,
            "damaged": result.frame.damaged,
        }
        # Nobody changes a result's pixels, so ZeroMQ may send them from where they lie.
        pixels = np.ascontiguousarray(image, image.dtype.newbyteorder("<"))
        with told_as(SinkError, f"{self.name} broke: {WHY}", zmq.ZMQError):
            self._send([json.dumps(header).encode(), pixels])

    def _send(self, parts: list[Any]) -> None:
        """Without XPUB_NODROP ZeroMQ does not tell of drops; with it, one full subscriber stops all. So a
        message that is refused with it goes out again without it, to those who have room; ZeroMQ then
        passes over the full one until it has read."""
        self._socket.get(zmq.EVENTS)  # learns at once who has read; ``send`` alone looks once a millisecond
        self._socket.set(zmq.XPUB_NODROP, 1)
        try:
            self._socket.send_multipart(parts, zmq.DONTWAIT, copy=False)
        except zmq.Again:
            self.behind += 1
            self._socket.set(zmq.XPUB_NODROP, 0)
            self._socket.send_multipart(parts, zmq.DONTWAIT, copy=False)
        self.sent += 1

    def close(self) -> str | None:
        if not self._closed:
            self._closed = True
            if self._guard is not None:
                self._guard.stop()
            self._context.destroy(linger=LINGER_MS)
            if self._listener is not None:
                self._listener.forget()
        missed = f"; {self.behind} times a subscriber was too slow and missed some" if self.behind else ""
        return f"{self.name}: {self.sent} messages sent{missed}"


def bind(socket: zmq.Socket[bytes], endpoint: str) -> UnixListener | None:
    """Bind ``socket``; what is to be forgotten when it is closed, where that has a name in the file system. Raises
    OSError and zmq.ZMQError."""
    listener, name = None, endpoint.removeprefix("ipc://")
    if endpoint.startswith("ipc://") and name[0] not in "@*":  # ZeroMQ itself would delete whatever is there
        listener = UnixListener(name, WAITING)
        socket.set(zmq.USE_FD, listener.socket.detach())  # ZeroMQ's from now on
    with on_error(listener.forget if listener is not None else lambda: None):
        socket.bind(endpoint)
    return listener


def parse_address(address: str, known: Sequence[str] = OPTIONS) -> tuple[str, dict[str, str]]:
    """ZeroMQ's own endpoint, and the options after the question mark, which must be ``known``. Raises UsageError."""
    endpoint, options = zmq_endpoint(address, FORM, known, r"[0-9]+|\*")
    choice(address, "connect", options.get("connect", "0"), ("0", "1"))
    if "curve_server" in options and ("curve_secret" not in options or options.get("connect") != "1"):
        raise UsageError(f"{address}: curve_server is for who connects; give connect=1 and curve_secret too")
    if "curve_clients" in options and ("curve_secret" not in options or options.get("connect") == "1"):
        raise UsageError(f"{address}: curve_clients is for who binds; give curve_secret, and no connect=1")
    if "curve_secret" in options and options.get("connect") == "1" and "curve_server" not in options:
        raise UsageError(
            "curve_secret with connect=1 also needs curve_server, the other side's public key file"
        )
    return endpoint, options


def _tell_readers(name: str, endpoint: str, options: dict[str, str]) -> None:
    """One line where others than this machine and those that were allowed can read."""
    host = endpoint.removeprefix("tcp://").rpartition(":")[0]
    if endpoint.startswith("ipc://") or is_loopback(host) or "curve_clients" in options:
        return
    if "curve_secret" not in options:
        log.warning(
            f"{name} is not encrypted: whoever is on the network may read it; curve_secret=FILE encrypts"
        )
    elif options.get("connect") != "1":
        log.warning(f"{name}: whoever has its public key may read it; curve_clients=FOLDER says who")
