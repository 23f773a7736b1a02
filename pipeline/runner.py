"""The live path at work: threads, states, outcomes.

    source thread: read, prepare -> mailbox -> engine thread: submit, collect -> one mailbox and thread a sink

The main thread waits in ``run`` and serves the sinks that a person looks at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clesr.pipeline.clock import SYSTEM, Clock
from clesr.pipeline.errors import ClesrError, EndOfSource, SinkError
from clesr.pipeline.frame import Corrupt, Frame, Outcome, Result
from clesr.pipeline.mailbox import Closed, Mailbox, Policy
from clesr.pipeline.outlet import Outlet
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.sinks.base import LiveSink, Sink
from clesr.pipeline.sources.base import Source
from clesr.pipeline.stats import Latency, Ledger, Rate, State, Status, Summary
from clesr.pipeline.upscaler import EngineFactory, Job, Upscaler

READ_S = 0.1  # longest wait for a frame before the source thread looks whether to stop
REFRESH_S = 0.015  # between two looks of the main thread at its sinks
JOBS = 2  # prepared frames that may wait for the engine
STALL_PERIODS = 2.0  # frame periods without a frame after which the source counts as stalled
LATE_S = 1.0  # seconds behind its own pace after which recorded input is said to be late


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop by itself: after so many captured frames, or seconds since the start. None: never."""

    frames: int | None = None
    seconds: float | None = None


class Pipeline:
    """One source through one engine to any number of sinks.

    ``factory`` opens an engine for an LR shape. Recorded sources lose nothing: a slow engine makes them
    wait. Of live ones the newest frames are taken and the others counted as stale. ``tell`` gets one-line
    messages for the user, from any thread. ``on_end`` is called before the sinks are closed when everything of a
    recorded source came through, without a stop or an error.
    """

    def __init__(
        self,
        source: Source,
        factory: EngineFactory,
        sinks: Sequence[Sink],
        *,
        scale: int,
        prepare: Prepare | None = None,
        limits: Limits | None = None,
        clock: Clock = SYSTEM,
        tell: Callable[[str], None] = lambda _message: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.source, self.scale = source, scale
        self.prepare = prepare or Prepare()
        self.limits, self.clock, self.tell, self.on_end = limits or Limits(), clock, tell, on_end
        self._ended = False
        self.ledger, self.latency, self.rate = Ledger(), Latency(), Rate()
        self._upscaler = Upscaler(factory, scale, clock, tell)
        self._jobs: Mailbox[Job] = Mailbox(JOBS, Policy.NEWEST if source.info.live else Policy.ALL)
        self._outlets = [Outlet(sink) for sink in sinks]
        self._errors: list[BaseException] = []
        self._state = State.STARTING
        self._stop, self._abort, self._done = threading.Event(), threading.Event(), threading.Event()
        self._newest: Result | None = None
        self._idle_since_ns: int | None = None  # since when the source thread waits for a frame
        self._start_ns = 0
        self._first_ns: int | None = None
        self._last_arrival_ns: int | None = None
        self._interval_ns = 0.0
        self._late_said = False
        self._notes: list[str] = []

    def run(self) -> Summary:
        """Run to the end of the source, a limit, or ``stop``; the sinks are closed when this returns.

        Call on the main thread. Raises the first error of a worker, after everything captured before it was
        written and every sink closed; ``summary`` then still tells what became of the frames.
        """
        threads: list[threading.Thread] = []
        try:
            if self.source.info.shape is not None:
                self._upscaler.open(self.prepare.shape(self.source.info.shape))
            self._state, self._start_ns = State.RUNNING, self.clock.now_ns()
            threads = [self._thread("source", self._read), self._thread("engine", self._compute)]
            live = [outlet for outlet in self._outlets if isinstance(outlet.sink, LiveSink)]
            threads += [self._thread(o.sink.name, self._feed, o) for o in self._outlets if o not in live]
            for thread in threads:
                thread.start()
            self._serve(live, threads)
        except BaseException as error:  # noqa: BLE001 - raised again when everything is closed
            self._errors.append(error)
        finally:
            self._stop.set()
            self._jobs.close()
            for outlet in self._outlets:
                outlet.box.close()
            for thread in threads:
                thread.join()
            self._close()
        self._raise_first()
        self.ledger.check()
        return self.summary()

    def stop(self) -> None:
        """Drain: take no more frames, finish those captured. Any thread, also in a signal handler."""
        if self._state in (State.STARTING, State.RUNNING, State.DEGRADED):
            self._state = State.DRAINING
        self._stop.set()

    def abort(self) -> None:
        """Stop at once: frames that wait for the engine end as stale."""
        self._abort.set()
        self.stop()
        for outlet in self._outlets:
            outlet.box.close()

    def status(self) -> Status:
        now = self.clock.now_ns()
        period = self._source_period_ns()
        idle = now - self._idle_since_ns if self._idle_since_ns is not None else 0
        newest, info = self._newest, self._upscaler.info
        return Status(
            state=self._state,
            source=self.source.info.address,
            engine=str(info or ""),
            model=info.model if info else "",
            captured=self.ledger.captured,
            outcomes=self.ledger.outcomes,
            fps=self.rate.recent(),
            age_ns=now - newest.times.captured if newest else None,
            period_ns=self._shown_period_ns(),
            stalled=bool(period) and idle > STALL_PERIODS * period,
            message=self._upscaler.failure or "",
        )

    def summary(self) -> Summary:
        """What the run has come to so far."""
        info = self._upscaler.info
        span = (self._last_arrival_ns or 0) - (self._first_ns or 0)
        return Summary(
            source=self.source.info.address,
            captured=self.ledger.captured,
            outcomes=self.ledger.outcomes,
            fps=self.rate.overall(),
            latency_ms=self.latency.percentiles(),
            engine=str(info or ""),
            model=info.model if info else "",
            scale=self.scale,
            state=self._state,
            seconds=span / 1e9,
            outputs=tuple(outlet.report for outlet in self._outlets if outlet.report),
            notes=tuple(self._notes),
            sinks={
                outlet.sink.name: {"written": outlet.written, "skipped": outlet.skipped}
                for outlet in self._outlets
            },
        )

    # --- threads

    def _thread(self, name: str, work: Callable[..., None], *arguments: object) -> threading.Thread:
        def guarded() -> None:
            try:
                work(*arguments)
            except BaseException as error:  # noqa: BLE001 - raised again on the main thread
                self._errors.append(error)
                self._stop.set()

        return threading.Thread(target=guarded, name=f"clesr {name}", daemon=True)

    def _read(self) -> None:
        """Source thread: frames into the mailbox until the end, a limit or a stop."""
        expected: int | None = None
        try:
            while not self._stop.is_set() and not self._limit_reached():
                if self._idle_since_ns is None:
                    self._idle_since_ns = self.clock.now_ns()
                item = self.source.read(READ_S)
                if item is None:
                    continue
                self._idle_since_ns = None
                if self.source.info.live and item.time_ns < self._start_ns:
                    continue  # it waited in the driver while the engine was opened
                if expected is not None and item.number > expected:
                    self.ledger.capture(item.number - expected)
                    self.ledger.record(Outcome.LOST, item.number - expected)
                expected = item.number + 1
                self.ledger.capture()
                self._arrive(item)
        except EndOfSource:
            self._ended = True
        finally:
            self._jobs.close()

    def _arrive(self, item: Frame | Corrupt) -> None:
        now = self.clock.now_ns()
        if self._last_arrival_ns is not None:
            interval = now - self._last_arrival_ns
            self._interval_ns += (interval - self._interval_ns) * (0.1 if self._interval_ns else 1.0)
        self._first_ns = now if self._first_ns is None else self._first_ns
        self._last_arrival_ns = now
        if isinstance(item, Corrupt):
            self.ledger.record(Outcome.CORRUPT)
            self.note(f"frame {item.number} of {self.source.info.address} is corrupt: {item.reason}")
            return
        try:
            job = Job(item, self.prepare(item), self.clock.now_ns())
            replaced = self._jobs.put(job)
        except BaseException:
            self.ledger.record(Outcome.STALE)  # captured, but nothing can take it any more
            raise
        if replaced is not None:
            self.ledger.record(Outcome.STALE)

    def _compute(self) -> None:
        """Engine thread: at most ``depth`` frames in flight, results fanned out in order."""
        upscaler = self._upscaler
        try:
            while not self._abort.is_set():
                try:
                    job = self._jobs.get(0 if upscaler.waiting else READ_S)
                except Closed:
                    break
                if job is not None:
                    self._emit(upscaler.submit(job))
                if upscaler.waiting and (job is None or upscaler.full):
                    self._emit([upscaler.collect()])
        finally:
            self._jobs.close()
            self._emit(upscaler.drain())
            self.ledger.record(Outcome.STALE, len(self._jobs.drain()))
            for outlet in self._outlets:
                outlet.box.close()

    def _emit(self, results: list[Result]) -> None:
        for result in results:
            self.ledger.record(result.outcome)
            self.latency.add(result)
            self.rate.add(result.times.collected)
            self._newest = result
            for outlet in self._outlets:
                outlet.offer(result)
            if self._state in (State.RUNNING, State.DEGRADED):
                self._state = State.DEGRADED if self._upscaler.failure else State.RUNNING
            self._say_when_late()

    def _feed(self, outlet: Outlet) -> None:
        """Sink thread: results to the sink until its mailbox is closed and empty."""
        while outlet.error is None:
            try:
                result = outlet.box.get()
            except Closed:
                break
            if result is not None:
                outlet.write(result)
        if outlet.error is not None:
            self._drop(outlet)

    def _serve(self, live: list[Outlet], threads: list[threading.Thread]) -> None:
        """Main thread: refresh the sinks that a person looks at until the workers have ended."""
        while any(thread.is_alive() for thread in threads):
            for outlet in list(live):
                try:
                    result = outlet.box.get(0)
                except Closed:
                    result = None
                if result is not None:
                    outlet.write(result)
                if outlet.error is not None:
                    live.remove(outlet)
                    self._drop(outlet)
                    continue
                sink = outlet.sink
                assert isinstance(sink, LiveSink)
                if not sink.refresh(self.status()):
                    self.stop()
            if live:
                self._done.wait(REFRESH_S)
            else:
                threads[0].join(READ_S)
                for thread in threads[1:]:
                    if not threads[0].is_alive():
                        thread.join(READ_S)

    def _drop(self, outlet: Outlet) -> None:
        """A sink broke: the others go on, unless nobody is left who would miss the results."""
        self.tell(f"{outlet.sink.name} broke: {outlet.error}")
        if all(o.error is not None or o.sink.name == "null" for o in self._outlets):
            self.stop()

    # --- small parts

    def note(self, message: str) -> None:
        """A message that is also repeated in the summary (the first twenty)."""
        self.tell(message)
        if len(self._notes) < 20:
            self._notes.append(message)

    def _limit_reached(self) -> bool:
        frames, seconds = self.limits.frames, self.limits.seconds
        if frames is not None and self.ledger.captured >= frames:
            return True
        return seconds is not None and self.clock.now_ns() - self._start_ns >= seconds * 1e9

    def _source_period_ns(self) -> float:
        """Nanoseconds between two frames of the source, as it says or as they come; 0 where unknown."""
        fps = self.source.info.fps
        return 1e9 / fps if fps else self._interval_ns

    def _shown_period_ns(self) -> int | None:
        """Nanoseconds after which an image on show is due to be replaced: the source's period, or twice the engine's
        where that is slower, because then frames also wait for it."""
        source, recent = self._source_period_ns(), self.rate.recent()
        engine = 1e9 / recent if recent else 0.0
        return int(2 * engine if engine > 1.2 * source else source) or None

    def _say_when_late(self) -> None:
        """Say once that recorded input runs later than its own pace."""
        info, fps = self.source.info, self.rate.recent()
        if self._late_said or info.live or not info.fps or self._first_ns is None:
            return
        behind = (self.clock.now_ns() - self._first_ns) / 1e9 - self.ledger.captured / info.fps
        if behind > LATE_S and fps < 0.98 * info.fps:
            self._late_said = True
            self.note(
                f"this machine does {fps:.1f} frames/s, the recording has {info.fps:.4g}: it plays later "
                "than its own pace, and no frame is lost"
            )

    def _close(self) -> None:
        """Close everything, whatever is broken; the first error stays the one that is raised."""
        if self._ended and not self._errors and not any(outlet.error for outlet in self._outlets):
            self.on_end()
        for close in (*(outlet.close for outlet in self._outlets), self._upscaler.close, self.source.close):
            try:
                close()
            except Exception as error:  # noqa: BLE001 - raised after everything is closed
                self._errors.append(error)
        self._state = State.FAILED if self._errors or any(o.error for o in self._outlets) else State.STOPPED

    def _raise_first(self) -> None:
        errors = [*self._errors, *(outlet.error for outlet in self._outlets if outlet.error)]
        if not errors:
            return
        first = errors[0]
        if isinstance(first, OSError) and not isinstance(first, ClesrError):
            raise SinkError(f"writing failed: {first}") from first
        raise first
