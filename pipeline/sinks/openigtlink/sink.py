"""Results to 3D Slicer and other OpenIGTLink programs (docs/openigtlink.md)."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

from clesr.engines.common.addresses import check_names, is_loopback, split_options
from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import WHY, MissingDependencyError, SinkError, UsageError, told_as
from clesr.engines.common.text import shown
from clesr.pipeline.frame import Outcome, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.sinks.openigtlink.broadcast import Broadcast
from clesr.pipeline.sinks.registry import DEFAULTS, SinkOptions

if TYPE_CHECKING:
    from pyigtl import ImageMessage

log = SafeLogger(logging.getLogger(__name__))
PORT = 18944  # OpenIGTLink's own
OPTIONS = ("connect", "name", "header", "pixel_um")
FORM = "igtl://*:18944 or igtl://127.0.0.1:18944"
NAME_BYTES = 20


class SlicerSink:
    """IMAGE messages to every program that connects to ``address``, or with ``?connect=1`` to the one that waits there.

    ``&name=NAME`` is the device's name ("clesr" without it), ``&header=1`` leaves out what OpenIGTLink 1 and 2 do not
    know, ``&pixel_um=`` goes before that of ``options``: the width of a captured pixel in micrometres; without it an SR
    pixel counts as 1 mm.
    Time stamps are those of capture, as UTC. Each program gets the newest image as fast as it reads; what it misses is
    counted, and it holds up nobody.

    Raises UsageError for an address of another form, SinkError where it cannot be opened,
    MissingDependencyError where pyigtl is not installed.
    """

    policy = Policy.DROP_OLDEST

    def __init__(self, address: str, options: SinkOptions = DEFAULTS, *, clock: Clock = SYSTEM) -> None:
        self.name = shown(address).partition("?")[0]
        host, port, asked = _parse(address)
        needed = f"{self.name} needs pyigtl ({WHY}); run: pip install 'clesr[slicer]'"
        with told_as(MissingDependencyError, needed, ImportError):
            from pyigtl import ImageMessage
        self._message: type[ImageMessage] = ImageMessage
        self._device, self._header = asked.get("name", "clesr"), int(asked.get("header", "2"))
        self._pixel_um = float(asked["pixel_um"]) if "pixel_um" in asked else options.pixel_um
        self._aspect = float(options.pixel_aspect)
        self._epoch = datetime.now(UTC).timestamp() - clock.now_ns() / 1e9  # UTC at monotonic 0
        words = (
            f"{self.name} cannot be opened: {WHY}; choose another port or an address of this machine, as {FORM}, "
            "or add ?connect=1 where the other program waits for connections"
        )
        with told_as(SinkError, words):
            self._broadcast = Broadcast(host, port, connect=asked.get("connect") == "1")

        if not is_loopback(host):
            log.warning(
                f"{self.name} is not encrypted, as OpenIGTLink is not: whoever is on the network may read it"
            )

    @property
    def port(self) -> int:
        """The port that others connect to; 0 in the address takes a free one."""
        return self._broadcast.port

    @property
    def clients(self) -> int:
        """How many programs are connected."""
        return self._broadcast.clients

    def write(self, result: Result) -> None:
        if self.clients:  # nobody there: nothing to pack
            self._broadcast.send(self._pack(result))

    def close(self) -> str | None:
        sent, missed = self._broadcast.close()
        lagging = f"; {missed} skipped by programs that were too slow" if missed else ""
        return f"{self.name}: {sent} images sent to {self._broadcast.served} programs{lagging}"

    def _pack(self, result: Result) -> bytes:
        image = np.ascontiguousarray(result.image, result.image.dtype.newbyteorder("<"))
        side = self._pixel_um / 1000 / result.scale if self._pixel_um else 1.0
        message = self._message(
            image[np.newaxis],
            ijk_to_world_matrix=np.diag([side, side / self._aspect, side, 1.0]),
            timestamp=self._epoch + result.frame.time_ns / 1e9,
            device_name=self._device,
        )
        message.header_version = self._header
        if self._header > 1:
            model = "bicubic" if result.outcome is Outcome.FAILED else result.model
            message.metadata = {
                "Number": str(result.frame.number),
                "Scale": str(result.scale),
                "Model": model.encode("ascii", "replace").decode(),
                "Damaged": "yes" if result.frame.damaged else "no",
                "Warning": "not for diagnosis",
            }
        return bytes(message.pack())


def _parse(address: str) -> tuple[str, int, dict[str, str]]:
    base, options = split_options(address)
    try:
        parts = urlsplit(base)
        host, port = parts.hostname or "", PORT if parts.port is None else parts.port
    except ValueError:
        host, port, parts = "", 0, urlsplit("igtl:")
    if not host or parts.path or parts.username:
        raise UsageError(f"{address} is no OpenIGTLink address; write it as {FORM}")
    check_names(address, options, OPTIONS)
    if options.get("connect", "0") not in ("0", "1") or options.get("header", "2") not in ("1", "2"):
        raise UsageError(f"{address}: connect is 0 or 1, header is 1 or 2")
    if options.get("connect") == "1" and host == "*":
        raise UsageError(f"{address}: connect=1 needs the name of a machine in place of *")
    if not re.fullmatch(r"(?=.*[1-9])\d{1,6}(\.\d{1,6})?", options.get("pixel_um", "1")):
        raise UsageError(
            f"{address}: pixel_um is a number of micrometres such as 0.83, not {options['pixel_um']!r}"
        )
    name = options.get("name", "clesr")
    if not name or not name.isascii() or not name.isprintable() or len(name) > NAME_BYTES:
        raise UsageError(f"{address}: name is 1 to {NAME_BYTES} ASCII characters, not {name!r}")
    return host, port, options
