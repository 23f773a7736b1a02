"""Whose frames are taken where several senders reach one address: numbers belong to one stream of one sender."""

from __future__ import annotations

import logging
from typing import Protocol

from clesr.engines.common.numbers import shortened
from clesr.pipeline.messages import SafeLogger

SILENT_NS = 10_000_000_000  # after which another sender may go on with the stream
MOST_NAMED = 16  # senders that are refused by name; of more only the sum is kept

log = SafeLogger(logging.getLogger(__name__))


class Sender(Protocol):
    """Who sends: ``name`` is its address, ``closed`` says that its connection is gone."""

    name: str
    closed: bool


class TakenStream:
    """The first stream that comes, from the sender that it comes from. Frames of others are refused: each sender of
    them is named once, and all are counted.

    Another sender goes on with the stream where the first has gone or was silent for ``SILENT_NS``. A stream of another
    name never takes its place, for it may be another patient's. One thread.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._stream: str | None = None
        self._sender: Sender | None = None
        self._heard_ns = 0
        self._refused: dict[str, int] = {}
        self._unnamed = 0

    @property
    def refused(self) -> int:
        """Frames of others."""
        return sum(self._refused.values()) + self._unnamed

    def admits(self, stream: str, sender: Sender, now: int) -> bool:
        """Whether a frame of ``stream`` that came from ``sender`` at ``now`` belongs to the stream that is taken."""
        if self._sender is None or (stream == self._stream and self._may_replace(sender, now)):
            if self._sender not in (None, sender):
                log.warning(f"{self._address}: {_named(stream)} now comes from {sender.name}")
            self._stream, self._sender = stream, sender
        if sender is self._sender and stream == self._stream:
            self._heard_ns = now
            return True
        self._refuse(stream, sender)
        return False

    def _may_replace(self, sender: Sender, now: int) -> bool:
        assert self._sender is not None
        return sender is self._sender or self._sender.closed or now - self._heard_ns > SILENT_NS

    def _refuse(self, stream: str, sender: Sender) -> None:
        assert self._sender is not None
        who = f"{_named(stream)} from {sender.name}"
        if who in self._refused:
            self._refused[who] += 1
        elif len(self._refused) < MOST_NAMED:
            self._refused[who] = 1
            other = stream != self._stream
            advice = "say which with ?stream=NAME, or" if other else "stop one of them, or"
            log.warning(
                f"{self._address}: {who} is refused, because {_named(self._stream or '')} from {self._sender.name} "
                f"came first; {advice} give each an address of its own"
            )
        else:
            self._unnamed += 1

    def tell(self) -> None:
        """What was refused, in one line."""
        if self.refused:
            parts = [f"{count} of {who}" for who, count in self._refused.items()]
            parts += [f"{self._unnamed} of others"] if self._unnamed else []
            log.warning(
                f"{self._address}: {self.refused} frames of other senders were refused: {', '.join(parts)}"
            )


def _named(stream: str) -> str:
    return f"stream {shortened(stream)}" if stream else "a stream without a name"
