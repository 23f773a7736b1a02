"""The end of the live path: a sink behind its queue, on a thread of its own, so that it can harm nobody else."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import SinkError, first_line
from clesr.pipeline.frame import Result
from clesr.pipeline.frame_queue import Closed, FrameQueue, Policy
from clesr.pipeline.messages import SafeLogger, stream_thread
from clesr.pipeline.sink import LiveSink, Sink, SkippingSink, StatusSink, SteppingSink
from clesr.pipeline.status import SinkState, SinkStatus, State, Status
from clesr.pipeline.watchdog import CallTimer, Part, calls_of, left_behind

log = SafeLogger(logging.getLogger(__name__))
RESULTS = 4  # results that may wait for a sink that takes all
CALM_S = 10.0  # after a sink has caught up, in which it may not keep the engine waiting
BROKEN_S = 0.25  # between two times that one that broke may say so
REFRESH_S = 0.04  # between two refreshes of what a person looks at, where no result comes
SEEN_NS = 16_000_000  # between two refreshes that a person can tell apart
STATUS_NS = 100_000_000  # for which a status holds: to make one costs the engine's cores more than to refresh

T = TypeVar("T")


class Host(Protocol):
    """The run that a sink belongs to; called on the sink's thread."""

    def status(self) -> Status: ...

    def stop(self) -> None:
        """The user wants to end."""

    def broke(self, worker: SinkWorker) -> None:
        """The sink takes nothing more; ``worker.error`` says why."""


class SinkWorker:
    """A sink with its queue, which sets ``wake`` at every change, and what became of the results sent to it.

    Whatever the sink raises is kept as ``error``: it takes nothing more, and is closed at the end like the others.
    ``takes`` and ``put`` are of the engine thread, the other public methods of the main one.

    ``full_s``, where given, is how long a sink without room may keep the engine waiting; after that it misses what it
    has no room for, which is counted, until it has caught up. One that is behind again and again keeps nobody waiting.
    """

    def __init__(
        self,
        sink: Sink,
        wake: threading.Event | None = None,
        *,
        clock: Clock = SYSTEM,
        full_s: float | None = None,
    ) -> None:
        self.sink = sink
        size = 1 if sink.policy is Policy.DROP_OLDEST else RESULTS
        self.queue: FrameQueue[Result] = FrameQueue(size, sink.policy, wake)
        self.timer = CallTimer(clock)
        self.written = self.skipped = self.missed = self.errors = 0
        self.error: BaseException | None = None
        self._said = ""  # by the first error
        self.report: str | None = None
        self.fed = threading.Event()  # no more results are written
        self._clock, self._full_s = clock, full_s
        self._full_since_ns: int | None = None
        self._calm_ns: int | None = None  # from when on it may keep the engine waiting again
        self._behind = False
        self._stepped: tuple[int, int] | None = None  # steps of the sink, and when they were seen first
        self._live = sink if isinstance(sink, LiveSink) else None
        self._refreshed_ns: int | None = None
        self._status: tuple[int, Status] | None = None  # that refreshes are told of, and until when
        self._captured_ns: int | None = None  # when the newest result was that the sink has
        self._closing, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def takes(self, in_flight: int) -> bool:
        """Whether one result more than ``in_flight`` can be offered without waiting."""
        if self._behind or self.queue.room > in_flight:
            return True
        if self._full_s is None:
            return False
        now = self._clock.now_ns()
        if self._full_since_ns is None:
            self._full_since_ns = now
        calm = self._calm_ns is None or now >= self._calm_ns
        if calm and now - self._full_since_ns < self._full_s * 1e9:
            return False
        self._behind = True
        log.warning(f"{self.sink.name} is too slow: results are missing from it from here on")
        return True

    def put(self, result: Result) -> None:
        """Hand ``result`` over; what does not find room is counted as skipped."""
        self._full_since_ns = None
        if self._behind and not len(self.queue):
            self._behind = False
            self._calm_ns = self._clock.now_ns() + int(CALM_S * 1e9)
            log.warning(f"{self.sink.name} takes results again; {self.missed} are missing so far")
        if self._behind and self.queue.room < 1:
            self.missed += 1
            self._skip(result)
            return
        try:
            if self.queue.put(result) is not None:
                self.skipped += 1
        except Closed:
            self._skip(result)

    def _skip(self, result: Result) -> None:
        self.skipped += 1
        if isinstance(self.sink, SkippingSink):
            self.sink.skip(result)

    def start(self, host: Host) -> None:
        """Begin to feed the sink."""
        self._begin(self._run, host)

    def close(self) -> None:
        """Let the sink be closed once it has what came for it; returns at once."""
        self.queue.close()
        self._closing.set()
        if self._thread is None:
            self.fed.set()
            self._begin(self._close)

    def wait_closed(self, timeout: float) -> bool:
        closed = self._closed.wait(timeout)
        if closed and self._thread is not None and self._thread not in left_behind:
            self._thread.join()
        return closed

    def part(self, name: str) -> Part:
        """What has to answer while its thread runs."""
        return Part(name, self.timer, lambda: self.alive, *calls_of(name))

    @property
    def alive(self) -> bool:
        """Whether its thread runs and was not given up."""
        return self._thread is not None and self._thread.is_alive() and not self._closed.is_set()

    @property
    def idle_s(self) -> float:
        """Seconds in the present call in which the sink has not come on, as far as it says that. Main thread."""
        busy_s = self.timer.busy_s
        if not isinstance(self.sink, SteppingSink):
            return busy_s
        now, steps = self._clock.now_ns(), self.sink.steps
        if self._stepped is None or self._stepped[0] != steps:
            self._stepped = steps, now
        return min(busy_s, (now - self._stepped[1]) / 1e9)

    def status(self, *, silent: bool) -> SinkStatus:
        """Where the sink stands; ``silent`` where it does not come back from a call. Any thread."""
        if self.errors:
            state = SinkState.BROKEN
        elif silent:
            state = SinkState.SILENT
        else:
            state = SinkState.BEHIND if self._behind else SinkState.WORKING
        return SinkStatus(state, self.written, self.skipped, self.errors, self._said)

    def give_up(self) -> None:
        """The sink does not come back from a call: nobody waits for it any more."""
        assert self._thread is not None
        left_behind.append(self._thread)
        message = f"{self.sink.name} has not answered for {self.timer.busy_s:.0f} s and is given up"
        self._fail(SinkError(message))
        log.warning(message)
        self.queue.close()
        self.skipped += 1 + len(self.queue.drain())
        self.fed.set()
        self._closed.set()

    def _fail(self, error: BaseException) -> None:
        self.errors += 1
        if self.error is None:
            self.error, self._said = error, first_line(error)

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        self._thread = stream_thread(f"clesr {self.sink.name}", work, *arguments)
        self._thread.start()

    def _run(self, host: Host) -> None:
        live = self._live
        try:
            while self.error is None and self._feed():
                if live is not None and self.error is None and self._is_due():
                    self._refresh(live, host)
            if self.error is not None:
                host.broke(self)
            self.fed.set()
            while live is not None and self.error is None and not self._closing.wait(REFRESH_S):
                self._refresh(live, host)
            while live is not None and not self._closing.wait(BROKEN_S):
                self._show_once(live, host)
            self._closing.wait()
            if live is not None:
                self._show_once(live, host)  # what closing of the recording said is seen, too
        finally:
            self.fed.set()
            self._close()

    def _feed(self) -> bool:
        """Write the next result; False when no more will come."""
        try:
            result = self.queue.get(None if self._live is None else REFRESH_S)
        except Closed:
            return False
        if result is not None:
            self._call(self.sink.write, result)
            self.written += self.error is None
            self._captured_ns = result.times.captured
            if self._status is not None and self._status[1].stalled:
                self._status = None  # that has ended by now
            if self.error is not None:
                self.skipped += 1 + len(self.queue.drain())
                self.queue.close()
        return True

    def _is_due(self) -> bool:
        """Whether the last refresh is so long ago that another can be seen."""
        return self._refreshed_ns is None or self._clock.now_ns() - self._refreshed_ns >= SEEN_NS

    def _refresh(self, live: LiveSink, host: Host) -> None:
        now = self._refreshed_ns = self._clock.now_ns()
        if self._status is None or now >= self._status[0]:
            self._status = now + STATUS_NS, host.status()
        status = self._status[1]
        if self._captured_ns is not None:
            status = replace(status, age_ns=now - self._captured_ns)
        going = self._call(live.refresh, status)
        if self.error is not None:
            self.skipped += len(self.queue.drain())
            self.queue.close()
        elif not going:
            host.stop()

    def _show_once(self, live: LiveSink, host: Host) -> None:
        """The status alone, where that can be shown. Errors count no more."""
        self.timer.since_ns = self._clock.now_ns()
        try:
            status = host.status()
            if self.error is not None:
                status = replace(status, state=State.FAILED, message=self._said)
            if isinstance(live, StatusSink):
                live.tell(status)
            elif self.error is None:
                live.refresh(status)
        except BaseException as error:  # noqa: BLE001 - the sink broke before, or the run is over
            log.debug(f"{self.sink.name} cannot show the status: {first_line(error)}")
        finally:
            self.timer.since_ns = None

    def _close(self) -> None:
        self.report = self._call(self.sink.close)
        log.debug(f"{self.sink.name} closed, {self.written} results written")
        if self.missed:
            missing = f"{self.missed} results are missing, which it could not take in time"
            self.report = f"{self.report or self.sink.name}; {missing}"
        self._closed.set()

    def _call(self, work: Callable[..., T], *arguments: Any) -> T | None:
        """What ``work`` of the sink gives; None where it raises, whatever that is."""
        self.timer.since_ns = self._clock.now_ns()
        try:
            return work(*arguments)
        except BaseException as error:  # noqa: BLE001 - kept, and raised on the main thread after the others are closed
            self._fail(error)
            return None
        finally:
            self.timer.since_ns = None


def by_name(workers: Sequence[SinkWorker]) -> dict[str, SinkWorker]:
    """``workers`` by the names of their sinks, of which those that come again are numbered."""
    found: dict[str, SinkWorker] = {}
    seen = Counter[str]()
    for worker in workers:
        name = worker.sink.name
        seen[name] += 1
        found[f"{name} ({seen[name]})" if seen[name] > 1 else name] = worker
    return found
