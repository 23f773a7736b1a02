"""The control socket: every action by one JSON request and one JSON reply over ZeroMQ (docs/control.md)."""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any

import msgspec
import zmq
from msgspec import Meta
from zmq.auth.thread import ThreadAuthenticator

from clesr.engines.common.addresses import is_loopback
from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import (
    ClesrError,
    SinkError,
    SourceError,
    UsageError,
    first_line,
    on_error,
    printable,
)
from clesr.engines.common.numbers import shortened
from clesr.engines.common.parsing import check_depth, convert, parse_json
from clesr.engines.common.text import shown
from clesr.pipeline.controls import Controls
from clesr.pipeline.curve import curve_settings, doorkeeper
from clesr.pipeline.messages import SafeLogger, stream_thread
from clesr.pipeline.operator.plain import plain
from clesr.pipeline.sinks.zeromq import parse_address
from clesr.pipeline.sources.zeromq.peer import Peer
from clesr.pipeline.sources.zeromq.peer_pool import PeerPool
from clesr.pipeline.status import Status

log = SafeLogger(logging.getLogger(__name__))
MOST_BYTES = 64 << 10  # of a request
REFUSED_BYTES = 1 << 20  # of a message, in one part or many, that is refused in words; more is cut off
WAITING = 32  # requests that may wait, and that are done side by side
LOOK_MS = 100  # longest wait before it is looked whether the socket was closed
SOON_MS = 5  # and whether a request that is being done has its answer
CLOSE_S = 1.0  # for the answer that is being made
LEAVE_NS = 50_000_000  # and for those that are on their way
OPTIONS = ("curve_secret", "curve_clients")
FORM = "zmq+tcp://127.0.0.1:5557 or zmq+ipc://PATH"

ControlledStream = tuple[Controls[Any], Callable[[], Status]]
"""What can be done with a stream, and how it stands."""


class ControlRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked: one of ``action``, ``actions`` and ``status``, of ``stream`` where there are several."""

    action: Annotated[str, Meta(max_length=100)] | None = None
    arguments: dict[str, Any] = {}
    actions: bool = False
    status: bool = False
    stream: Annotated[str, Meta(max_length=1000)] | None = None


class DescribedArgument(msgspec.Struct):
    """What is shown of an argument of an action."""

    name: str


class DescribedAction(msgspec.Struct):
    """What is shown of an action."""

    name: str
    key: str
    help: str
    arguments: list[DescribedArgument]


class ControlReply(msgspec.Struct):
    """What is answered, as far as its form is relied on."""

    ok: bool
    actions: list[DescribedAction] = []


class ControlSocket:
    """Answers at ``address`` as a REP socket does, on a thread of its own once it is to ``serve``. What may wait for a
    disk or a device is done on others: requests that wait for nothing are answered meanwhile.

    ``?curve_secret=FILE&curve_clients=FOLDER`` encrypts and lets in only those whose public keys are in the folder: any
    address but this machine's own needs both. Raises UsageError for an address of another form, SinkError where it
    cannot be bound.
    """

    def __init__(self, address: str) -> None:
        self.name = shown(address).partition("?")[0]
        endpoint, options = parse_address(address, OPTIONS)
        host = endpoint.removeprefix("tcp://").rpartition(":")[0]
        if not (endpoint.startswith("ipc://") or is_loopback(host) or set(options) == set(OPTIONS)):
            raise UsageError(
                f"{self.name} can be reached from other machines; give 127.0.0.1, or keys: "
                "?curve_secret=FILE&curve_clients=FOLDER (`clesr keys` makes them)"
            )
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._streams: Mapping[str, ControlledStream] = {}
        self._requests: list[threading.Thread] = []  # that are being done
        self._answers: deque[tuple[Peer, list[bytes]]] = deque()  # to them, with where they go
        self._guard: ThreadAuthenticator | None = None
        self._peers: PeerPool | None = None
        self._context = zmq.Context(io_threads=1)
        with on_error(self.close):
            if "curve_clients" in options:
                self._guard = doorkeeper(self._context, options["curve_clients"], SinkError)
            settings: dict[int, int | bytes] = {
                zmq.LINGER: 0,
                zmq.MAXMSGSIZE: REFUSED_BYTES,
                zmq.RCVHWM: WAITING,
                zmq.SNDHWM: WAITING,
                **curve_settings(options, connect=False, error_of=SinkError),
            }
            try:
                self._peers = PeerPool(
                    self._context, zmq.ROUTER, settings, endpoint, listen=True, most=REFUSED_BYTES
                )
            except (SourceError, ValueError) as error:
                raise SinkError(
                    f"{self.name} cannot be opened: {first_line(error)}; choose another address or port, as {FORM}"
                ) from error

    def serve(self, streams: Mapping[str, ControlledStream]) -> None:
        """Answer from now on, for the streams of these names."""
        self._streams = streams
        self._thread = stream_thread("clesr control", self._work)
        self._thread.start()
        log.info(f"orders are taken at {self.name}")

    def close(self) -> None:
        """Answer no more. An action that goes on is not waited for."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)
        if self._guard is not None:
            self._guard.stop()
            self._guard = None
        if self._thread is None or not self._thread.is_alive():
            if self._peers is not None:
                self._peers.close()
            self._context.destroy(linger=0)

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                self._pass_on(SOON_MS if self._requests else LOOK_MS)
            for each in self._requests:
                each.join(CLOSE_S / 2 / len(self._requests))
            until_ns = SYSTEM.now_ns() + LEAVE_NS
            while SYSTEM.now_ns() < until_ns:
                self._pass_on(SOON_MS)
        except zmq.ZMQError as error:
            log.error(f"{self.name} broke: {error}")

    def _pass_on(self, nap_ms: int) -> None:
        """Take requests in, and send what is answered, for so long at most."""
        assert self._peers is not None
        self._peers.wait(self._take, lambda reason: log.debug(f"{self.name}: refused {reason}"), nap_ms)
        self._send_answers()

    def _send_answers(self) -> None:
        self._requests = [each for each in self._requests if each.is_alive()]
        while self._answers:
            peer, parts = self._answers.popleft()
            if not peer.closed:
                with suppress(zmq.Again):  # whoever asked does not read
                    peer.messages.send_multipart(parts, zmq.DONTWAIT)

    def _take(self, frames: list[zmq.Frame], peer: Peer) -> bool:
        """Answer the request of ``peer``: whose it is, an empty part, and what was sent. Whether it was one."""
        parts = [frame.bytes for frame in frames]
        if b"" not in parts:
            return False  # sent by no REQ socket, nor as one sends
        begin = parts.index(b"") + 1
        whose, request = parts[:begin], b"".join(parts[begin:])
        if not self._waits(request):
            self._answer(peer, whose, request)
        elif len(self._requests) < WAITING:
            self._requests.append(stream_thread("clesr request", self._answer, peer, whose, request))
            self._requests[-1].start()
        else:
            told = {"ok": False, "error": f"{WAITING} requests are still at work; try again later"}
            self._answers.append((peer, [*whose, json.dumps(told).encode()]))
        return True

    def _answer(self, peer: Peer, whose: list[bytes], request: bytes) -> None:
        self._answers.append((peer, [*whose, self.answer(request)]))

    def _waits(self, request: bytes) -> bool:
        """Whether it may wait for a disk or a device. What is wrong with it the answer says."""
        try:
            asked = _parsed(request)
            return asked.action is not None and self._of(asked)[0].waits(asked.action)
        except UsageError:
            return False

    def answer(self, request: bytes) -> bytes:
        """The reply to ``request``, whatever that is."""
        try:
            told = {"ok": True, **plain(self._told(request))}
        except Exception as error:  # noqa: BLE001 - whatever an action raises is an answer
            said = first_line(error) if isinstance(error, ClesrError) else f"it failed: {first_line(error)}"
            told = {"ok": False, "error": printable(said)}
        return json.dumps(told).encode()

    def _told(self, request: bytes) -> Mapping[str, Any]:
        asked = _parsed(request)
        controls, status = self._of(asked)
        if asked.actions:
            return {"actions": controls.describe(), "streams": list(self._streams)}
        if asked.status:
            return {"status": status(), "view": controls.view}
        told = controls.call(asked.action or "", asked.arguments, by=self.name)
        if told.get("asking"):
            raise UsageError(told["asking"])
        return {name: value for name, value in told.items() if name != "ok"}

    def _of(self, asked: ControlRequest) -> ControlledStream:
        stream = asked.stream
        if stream is None and (len(self._streams) == 1 or asked.action == "quit"):  # which ends all of them
            return next(iter(self._streams.values()))
        if stream is not None and stream in self._streams:
            return self._streams[stream]
        which = "say which stream" if stream is None else f"{shortened(stream)} is no stream"
        raise UsageError(f"{which}; there are {', '.join(self._streams)}")


def _parsed(request: bytes) -> ControlRequest:
    """Raises UsageError."""
    if len(request) > MOST_BYTES:
        raise UsageError(f"the request has {len(request)} bytes; at most {MOST_BYTES} are read")
    try:
        asked = parse_json(request, ControlRequest)
        check_depth(asked.arguments)
    except ValueError as error:
        raise UsageError(f"the request is not understood: {error}") from None
    if (asked.action is not None) + asked.actions + asked.status != 1:
        raise UsageError("the request needs one of action, actions and status")
    return asked


def ask(address: str, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """What is answered to ``request`` at the control socket ``address`` within so many ``seconds``.
    ``?curve_secret=FILE&curve_server=FILE`` are one's own keys and the other side's public one.

    Raises UsageError for an address of another form, ClesrError where nothing is answered.
    """
    endpoint, options = parse_address(f"{address}{'&' if '?' in address else '?'}connect=1")
    name = shown(address).partition("?")[0]
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        curve = curve_settings(options, connect=True, error_of=SinkError)
        for option, value in {zmq.LINGER: 0, **curve}.items():
            socket.set(option, value)
        try:
            socket.connect(endpoint)
            socket.send(json.dumps(request).encode(), zmq.DONTWAIT)
            answered = socket.poll(round(seconds * 1000))
            reply = socket.recv() if answered else b""
        except (zmq.ZMQError, UnicodeError) as error:
            raise ClesrError(f"{name} cannot be reached: {first_line(error)}") from error
    if not answered:
        raise ClesrError(
            f"{name} has not answered within {seconds:g} s; is clesr-live running with --control {name}, "
            "and not at its end?"
        )
    try:
        told = parse_json(reply, dict[str, Any])
        check_depth(told)
        convert(told, ControlReply)
        return told
    except ValueError as error:
        raise ClesrError(f"what answers at {name} is no clesr: {error}") from None
