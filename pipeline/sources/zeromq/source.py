"""Frames from other programs by ZeroMQ (``docs/wire-format.md``)."""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing

import zmq

from clesr.engines.common.addresses import choice, is_loopback, zmq_endpoint
from clesr.engines.common.errors import SourceError, UsageError
from clesr.engines.common.parsing import one_line
from clesr.engines.common.text import shown
from clesr.pipeline.curve import curve_settings, doorkeeper
from clesr.pipeline.frame import Corrupt, Frame, Outage
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.rate_limiter import RateLimiter
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.receiving import Receiver
from clesr.pipeline.sources.registry import DEFAULTS, SourceOptions
from clesr.pipeline.sources.zeromq.message import Refused, max_pixels, parse_message
from clesr.pipeline.sources.zeromq.peer import Peer
from clesr.pipeline.sources.zeromq.peer_pool import PeerPool
from clesr.pipeline.sources.zeromq.senders import TakenStream

log = SafeLogger(logging.getLogger(__name__))
FORM = "zmq+tcp://host:port or zmq+ipc:///path"
OPTIONS = ("socket", "bind", "topic", "stream", "curve_secret", "curve_server", "curve_clients")
HIGH_WATER = 8  # messages of each peer that wait in ZeroMQ for a reader that is late, where they are small
WAITING = 1  # frames that wait behind it
_BESIDE = 64  # bytes that encryption may add to a part
MAX_GAP = 1_000_000  # a larger step in a sender's numbers is a new count, not lost frames


class ZmqSource(Receiver[Frame | Corrupt | Outage]):
    """Frames that a SUB or PULL socket receives at ``zmq+tcp://host:port`` or ``zmq+ipc:///path``, live.

    | option | default | meaning |
    |---|---|---|
    | socket | sub | ``sub`` receives from PUB, ``pull`` from PUSH |
    | bind | 0 | 1 waits for senders at the address (``tcp://*:port``), 0 connects to one |
    | topic | none | messages have three parts, the first beginning with this text (``sub`` only) |
    | stream | the first | takes messages whose header has this ``stream``; those of others are passed over |
    | curve_secret | none | our CURVE certificate with secret key; needed with ``bind=1`` |
    | curve_server | none | the sender's CURVE certificate; encrypts where we connect |
    | curve_clients | all | folder of the certificates that may send to us, with ``bind=1`` |

    ``time_ns`` is the arrival by ``options.clock``: a sender's clock is another machine's. The sender's number is kept,
    so that a gap shows, and its word that a frame is ``damaged``. Where the number falls back, or steps ahead by more
    than a million, the sender has begun anew and numbers go on from the last one. A message that is not of the
    documented form is Corrupt.
    Where several senders or streams come, one is taken: ``TakenStream`` says which, and what becomes of the others.

    Raises UsageError for an address or option that cannot work, SourceError where it cannot be opened.
    """

    def __init__(self, address: str, options: SourceOptions = DEFAULTS) -> None:
        super().__init__(WAITING, Policy.BLOCK)
        self.info = SourceInfo(address, live=True)
        endpoint, asked = parse_address(address)
        self._clock, self._topic, self._stream = options.clock, "topic" in asked, asked.get("stream")
        self._numbers = Renumbered()
        self._taken = TakenStream(place := shown(address).partition("?")[0])
        self._anew = RateLimiter(log.warning, options.clock)
        with ExitStack() as opened:
            self._peers = _open_peers(endpoint, asked, opened)
            self._opened = opened.pop_all()
        remote = endpoint.startswith("tcp://") and not is_loopback(endpoint[6:].rpartition(":")[0])
        if remote and not {"curve_secret", "curve_server"} & asked.keys():
            log.warning(
                f"{place} is not encrypted: whoever is on the network may read it, or send in its place"
            )
        self._start("clesr-zeromq", self._receive)

    def read(self, timeout: float) -> Frame | Corrupt | Outage | None:
        return self._next(timeout)

    def _receive(self) -> None:
        with self._opened:
            try:
                while not self._closing.is_set():
                    self._peers.wait(self._give, self._refuse)
            finally:
                self._anew.rest()
                self._taken.tell()

    def _give(self, parts: list[zmq.Frame], sender: Peer) -> bool:
        """One message of ``sender``; whether it held a frame."""
        now = self._clock.now_ns()
        try:
            header, image = parse_message([part.buffer for part in parts], topic=self._topic)
        except Refused as reason:
            self._refuse(str(reason))
            return False
        if self._stream not in (None, header.stream) or not self._taken.admits(header.stream, sender, now):
            return True
        number = self._numbers.of(header.number)
        if self._numbers.before is not None:
            self._anew(
                f"{self.info.address}: the sender's numbers went from {self._numbers.before} to {header.number}: it "
                "began anew, and what it captured in between is not known; or two senders use the same stream name"
            )
            self._box.put(Outage("its sender began anew"))
        self._box.put(Frame(image, number, now, damaged=header.damaged is True))
        return True

    def _refuse(self, reason: str) -> None:
        self._box.put(Corrupt(self._numbers.next(), self._clock.now_ns(), f"refused {reason}"))


class Renumbered:
    """A sender's numbers, made to rise when it begins anew."""

    def __init__(self) -> None:
        self._last = -1
        self._shift: int | None = None  # None before the first good number
        self._sent = 0  # the sender's last number
        self.before: int | None = None
        """The sender's number before that of the last frame, where it began anew with that."""

    def of(self, number: int) -> int:
        """The number of the frame that its sender calls ``number``."""
        self.before = None
        if self._shift is None:
            self._shift = 0 if self._last < 0 else self._last + 1 - number
        elif not 0 < number + self._shift - self._last <= MAX_GAP:
            self._shift = self._last + 1 - number
            self.before = self._sent
        self._last, self._sent = number + self._shift, number
        return self._last

    def next(self) -> int:
        """The number of a message that has none to trust."""
        self._last += 1
        return self._last


def parse_address(address: str) -> tuple[str, dict[str, str]]:
    """ZeroMQ's endpoint, and the options. Raises UsageError."""
    endpoint, options = zmq_endpoint(address, FORM, OPTIONS)
    choice(address, "socket", options.get("socket", "sub"), ("sub", "pull"))
    bind = choice(address, "bind", options.get("bind", "0"), ("0", "1")) == "1"
    secret, server, clients = (name in options for name in ("curve_secret", "curve_server", "curve_clients"))
    if options.get("socket") == "pull" and "topic" in options:
        problem = "PULL sockets have no topics; leave topic out, or use socket=sub"
    elif endpoint.startswith("tcp://*:") and not bind:
        problem = "* is no machine to connect to; name the sender's, or wait for senders with bind=1"
    elif bind and server:
        problem = "curve_server is for who connects; with bind=1 give curve_secret"
    elif clients and not (bind and secret):
        problem = "curve_clients needs bind=1 and curve_secret"
    elif secret and not (bind or server):
        problem = "curve_secret without bind=1 also needs curve_server, the sender's key"
    else:
        return endpoint, options
    raise UsageError(f"{one_line(shown(address))}: {problem}")


def _open_peers(endpoint: str, options: dict[str, str], opened: ExitStack) -> PeerPool:
    """The peers at ``endpoint``; what is to be closed goes into ``opened``."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    opened.callback(context.destroy, linger=0)
    listen = options.get("bind") == "1"
    if "curve_clients" in options:
        opened.callback(doorkeeper(context, options["curve_clients"], SourceError).stop)
    kind, most = zmq.PULL if options.get("socket") == "pull" else zmq.SUB, max_pixels()
    settings: dict[int, int | bytes] = {
        zmq.LINGER: 0,
        zmq.RCVHWM: HIGH_WATER,
        zmq.MAXMSGSIZE: most + _BESIDE,
        **curve_settings(options, connect=not listen, error_of=SourceError),
    }
    if kind == zmq.SUB:
        settings[zmq.SUBSCRIBE] = options.get("topic", "").encode()
    return opened.enter_context(
        closing(PeerPool(context, kind, settings, endpoint, listen=listen, most=most))
    )
