"""The end of the live path: a sink behind its mailbox."""

from __future__ import annotations

import threading

from clesr.pipeline.frame import Result
from clesr.pipeline.mailbox import Closed, Mailbox, Policy
from clesr.pipeline.sinks.base import Sink

RESULTS = 4  # results that may wait for a sink that takes all


class Outlet:
    """A sink with its mailbox, which sets ``wake`` at every change, and what became of the results sent to it."""

    def __init__(self, sink: Sink, wake: threading.Event | None = None) -> None:
        self.sink = sink
        self.box: Mailbox[Result] = Mailbox(1 if sink.policy is Policy.NEWEST else RESULTS, sink.policy, wake)
        self.written = 0
        self.skipped = 0
        self.error: Exception | None = None
        self.report: str | None = None

    def offer(self, result: Result) -> None:
        try:
            if self.box.put(result) is not None:
                self.skipped += 1
        except Closed:
            self.skipped += 1

    def write(self, result: Result) -> None:
        """Give ``result`` to the sink; a sink that raises takes nothing more."""
        try:
            self.sink.write(result)
            self.written += 1
        except Exception as error:  # noqa: BLE001 - kept, and raised on the main thread after the others are closed
            self.error = error
            self.skipped += 1 + len(self.box.drain())
            self.box.close()

    def close(self) -> None:
        try:
            self.report = self.sink.close()
        except Exception as error:  # noqa: BLE001 - as above
            self.error = self.error or error
