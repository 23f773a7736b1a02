"""What every sink promises."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from clesr.pipeline.frame import Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.status import Status


class Sink(Protocol):
    """Takes results, on one thread of its own. ``policy`` says whether it may miss some.

    Opened without knowing sizes: the first result tells. A later result may have another size.
    """

    name: str
    policy: Policy

    def write(self, result: Result) -> None:
        """Take one result. Raises SinkError where the sink is broken (full disk, gone folder)."""

    def close(self) -> str | None:
        """Finish what was begun, so that it can be opened; what was written, in one line for the summary.
        May be called twice."""


@runtime_checkable
class LiveSink(Sink, Protocol):
    """A sink that a person looks at: also told the time when no frame comes."""

    def refresh(self, status: Status) -> bool:
        """Called after each result, and every 40 ms, on the sink's thread; shows ``status``, which is made ten times
        a second, but with the present age of the newest result, over that, and handles the user's keys. False when the
        user wants to stop."""


@runtime_checkable
class StatusSink(LiveSink, Protocol):
    """A view that can show the status alone."""

    def tell(self, status: Status) -> None:
        """Called in place of ``refresh`` once something of the sink raised, four times a second, with a ``status`` that
        says FAILED and why; and at the end of the run. What this raises is passed over."""


@runtime_checkable
class SkippingSink(Sink, Protocol):
    """A sink that is told of the results that it will not get."""

    def skip(self, result: Result) -> None:
        """``result`` does not come: it could not be taken in time, or the run was aborted. Engine thread."""


@runtime_checkable
class SteppingSink(Sink, Protocol):
    """A sink in which much may wait at the end of a run: while that becomes less, it is waited for."""

    @property
    def steps(self) -> int:
        """How much was done so far; another number where it has come on. Any thread."""
