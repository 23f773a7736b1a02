"""The live path at work: threads, states, outcomes.

    source thread: read, prepare -> mailbox -> engine thread: submit, collect -> one mailbox and thread a sink

The main thread waits in ``run`` and serves the sinks that a person looks at; ``run_together`` does so for several
pipelines at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from clesr.engines import EngineInfo
from clesr.pipeline.acquisition import READ_S, Acquisition, Limits
from clesr.pipeline.clock import SYSTEM, Clock
from clesr.pipeline.engine_thread import EngineThread
from clesr.pipeline.errors import ClesrError, SinkError
from clesr.pipeline.frame import Result
from clesr.pipeline.mailbox import Closed, Policy
from clesr.pipeline.outlet import Outlet
from clesr.pipeline.pace import Pace
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.sinks.base import LiveSink, Sink
from clesr.pipeline.sources.base import Source
from clesr.pipeline.stats import Fidelities, Latency, Ledger, Rate, State, Status, Summary
from clesr.pipeline.upscaler import EngineFactory, Job, Upscaler
from clesr.pipeline.watch import Watch

__all__ = ["Limits", "Pipeline", "run_together"]

REFRESH_S = 0.015  # between two looks of the main thread at its sinks


class Pipeline:
    """One source through one engine to any number of sinks.

    ``factory`` opens an engine for an LR shape, or is an EngineThread that several pipelines share. Recorded
    sources lose nothing: a slow engine makes them wait. Of live ones the newest frames are taken and the others
    counted as stale. ``recorder`` sees every captured frame before anything else does, and takes the results as a
    sink. ``tell`` gets one-line messages for the user, from any thread. ``on_end`` is called before the
    sinks are closed when everything of a recorded source came through, without a stop or an error.
    ``consistent`` corrects images by what was measured; an EngineThread has a setting of its own.
    """

    def __init__(
        self,
        source: Source,
        factory: EngineFactory | EngineThread,
        sinks: Sequence[Sink],
        *,
        scale: int,
        prepare: Prepare | None = None,
        consistent: bool = False,
        recorder: Recorder | None = None,
        limits: Limits | None = None,
        clock: Clock = SYSTEM,
        tell: Callable[[str], None] = lambda _message: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.source, self.scale = source, scale
        self.prepare = prepare or Prepare()
        self.clock, self.tell, self.on_end = clock, tell, on_end
        self.ledger, self.latency, self.rate = Ledger(), Latency(), Rate()
        self.fidelities = Fidelities()
        if not isinstance(factory, EngineThread):
            factory = EngineThread(partial(Upscaler, factory, scale, clock, tell, consistent=consistent))
        self._engine = factory
        self.recorder, self._watch = recorder, recorder or Watch()
        sinks = [*sinks, *([recorder] if recorder else [])]
        self._outlets = [Outlet(sink, factory.wake) for sink in sinks]
        policy = Policy.NEWEST if source.info.live else Policy.ALL
        self._lane = factory.join(policy, self._outlets, self._emit, self._computed)
        self._live = [outlet for outlet in self._outlets if isinstance(outlet.sink, LiveSink)]
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._state = State.STARTING
        self._stop, self._finished = threading.Event(), False
        self._newest: Result | None = None
        self._notes: list[str] = []
        self._pace = Pace(source.info, clock)
        self._acquisition = Acquisition(
            source,
            self.prepare,
            self._lane.jobs,
            ledger=self.ledger,
            watch=self._watch,
            pace=self._pace,
            limits=limits or Limits(),
            clock=clock,
            stop=self._stop,
            note=self.note,
        )

    def run(self) -> Summary:
        """Run to the end of the source, a limit, or ``stop``; the sinks are closed when this returns.

        Call on the main thread. Raises the first error of a worker, after everything captured before it was
        written and every sink closed; ``summary`` then still tells what became of the frames.
        """
        run_together([self])
        if self.error is not None:
            raise self.error
        return self.summary()

    def open(self) -> None:
        """Open the engine for the size that the source states. What breaks ends the run, as in all that follows."""
        with self._keeping_errors():
            if self.source.info.shape is not None:
                self._engine.open(self._lane, self.prepare.shape(self.source.info.shape))

    def start(self) -> None:
        """Start the threads."""
        with self._keeping_errors():
            if self._errors:
                return
            self._state = State.RUNNING
            acquire = self._thread("source", self._acquisition.run, self.clock.now_ns())
            self._engine.start()
            feeding = [outlet for outlet in self._outlets if outlet not in self._live]
            threads = [self._thread(outlet.sink.name, self._feed, outlet) for outlet in feeding]
            for thread in [*threads, acquire]:
                thread.start()
                self._threads.append(thread)

    @property
    def busy(self) -> bool:
        """Whether frames may still come through."""
        return bool(self._threads) and (
            not self._lane.done.is_set() or any(thread.is_alive() for thread in self._threads)
        )

    def serve(self) -> bool:
        """On the main thread: let the sinks that a person looks at show the newest result and the status; whether
        there are any."""
        with self._keeping_errors():
            for outlet in list(self._live):
                self._show(outlet)
        return bool(self._live)

    def wait(self) -> None:
        """Return when everything has come through, or after a while."""
        *sinks, source = self._threads
        source.join(READ_S)
        if not source.is_alive():
            self._lane.done.wait(READ_S)
            for thread in sinks:
                thread.join(READ_S)

    def finish(self) -> None:
        """End all threads and close everything."""
        if self._finished:
            return
        self._finished = True
        self._stop.set()
        self._engine.finish(self._lane)
        for thread in self._threads:
            thread.join()
        self._close()

    def stop(self) -> None:
        """Drain: take no more frames, finish those captured. Any thread, also in a signal handler."""
        if self._state in (State.STARTING, State.RUNNING, State.DEGRADED):
            self._state = State.DRAINING
        self._stop.set()

    def abort(self) -> None:
        """Stop at once: frames that wait for the engine end as stale."""
        self.stop()
        self._engine.abort(self._lane)
        for outlet in self._outlets:
            outlet.box.close()

    def start_recording(self, folder: Path) -> None:
        """Record into the new ``folder`` from the next frame on. Any thread, also in a signal handler.

        Raises ValueError where the run was made without a recorder.
        """
        if self.recorder is None:
            raise ValueError("this run has no recorder; give one to Pipeline")
        self.recorder.start(folder)

    def stop_recording(self) -> None:
        """End the recording; the run goes on. Any thread, also in a signal handler."""
        if self.recorder is not None:
            self.recorder.stop()

    def status(self) -> Status:
        now = self.clock.now_ns()
        newest, info, failure = self._newest, *self._engine_state()
        return Status(
            state=self._state,
            source=self.source.info.address,
            engine=str(info or ""),
            model=info.model if info else "",
            captured=self.ledger.captured,
            outcomes=self.ledger.outcomes,
            fps=self.rate.recent(),
            age_ns=now - newest.times.captured if newest else None,
            period_ns=self._pace.shown_period_ns(self.rate.recent()),
            stalled=self._pace.is_stalled(now),
            recording=self.recorder is not None and self.recorder.recording,
            message=failure or "",
        )

    def summary(self) -> Summary:
        """What the run has come to so far."""
        info, _ = self._engine_state()
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
            seconds=self._pace.span_s,
            outputs=tuple(outlet.report for outlet in self._outlets if outlet.report),
            notes=tuple(self._notes),
            sinks={
                outlet.sink.name: {"written": outlet.written, "skipped": outlet.skipped}
                for outlet in self._outlets
            },
            fidelity=self.fidelities.summary(),
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

    def _emit(self, result: Result) -> None:
        """Engine thread: count ``result`` and hand it to the sinks."""
        self.ledger.record(result.outcome)
        self._watch.settle_result(result, self._engine_state()[0])
        self.latency.add(result)
        self.fidelities.add(result)
        self.rate.add(result.times.collected)
        self._newest = result
        if self._state in (State.RUNNING, State.DEGRADED):
            self._state = State.DEGRADED if self._engine_state()[1] else State.RUNNING
        for outlet in self._outlets:
            outlet.offer(result)
        late = self._pace.late(self.ledger.captured, self.rate.recent())
        if late:
            self.note(late)

    def _computed(self, stale: Sequence[Job], error: BaseException | None) -> None:
        """Engine thread: the last result has come; ``stale`` frames were given up."""
        for job in stale:
            self._acquisition.stale(job.frame)
        if error is not None:
            self._errors.append(error)
            self._stop.set()
        for outlet in self._outlets:
            outlet.box.close()

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

    def _show(self, outlet: Outlet) -> None:
        """Main thread: the newest result and the status to a sink that a person looks at."""
        try:
            result = outlet.box.get(0)
        except Closed:
            result = None
        if result is not None:
            outlet.write(result)
        if outlet.error is not None:
            self._live.remove(outlet)
            self._drop(outlet)
            return
        assert isinstance(outlet.sink, LiveSink)
        if not outlet.sink.refresh(self.status()):
            self.stop()

    def _drop(self, outlet: Outlet) -> None:
        """A sink broke: the others go on, unless nobody is left who would miss the results."""
        self.tell(f"{outlet.sink.name} broke: {outlet.error}")
        if all(o.error is not None or o.sink.name == "null" for o in self._outlets):
            self.stop()

    # --- small parts

    @contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        """What breaks on the main thread drains the run and is raised when everything is closed."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - as said
            self._errors.append(error)
            self._stop.set()
            self._lane.jobs.close()
            self._live.clear()

    def _engine_state(self) -> tuple[EngineInfo | None, str | None]:
        """What the engine said of itself, and why it is out of service; None where it is not known, or works."""
        shared = self._lane.shared
        return (shared.upscaler.info, shared.upscaler.failure) if shared else (None, None)

    def note(self, message: str) -> None:
        """A message that is also repeated in the summary (the first twenty)."""
        self.tell(message)
        if len(self._notes) < 20:
            self._notes.append(message)

    def _close(self) -> None:
        """Close everything, whatever is broken; the first error stays the one that is raised."""
        if self._acquisition.ended and not self._errors and not any(outlet.error for outlet in self._outlets):
            self.on_end()
        for close in (*(outlet.close for outlet in self._outlets), self._lane.close, self.source.close):
            try:
                close()
            except Exception as error:  # noqa: BLE001 - raised after everything is closed
                self._errors.append(error)
        self._state = State.FAILED if self._errors or any(o.error for o in self._outlets) else State.STOPPED

    @property
    def error(self) -> BaseException | None:
        """After ``finish``: what broke first. A RuntimeError where the ledger does not balance."""
        errors = [*self._errors, *(outlet.error for outlet in self._outlets if outlet.error)]
        if not errors:
            try:
                self.ledger.check()
            except RuntimeError as unbalanced:
                return unbalanced
            return None
        first = errors[0]
        if not isinstance(first, OSError) or isinstance(first, ClesrError):
            return first
        named = SinkError(f"writing failed: {first}")
        named.__cause__ = first
        return named


def run_together(
    pipelines: Sequence[Pipeline], on_finish: Callable[[Pipeline], None] = lambda _pipeline: None
) -> None:
    """Run ``pipelines`` side by side to their ends; each is closed as soon as it has ended, whatever becomes of the
    others, and goes to ``on_finish``. Call on the main thread. ``Pipeline.error`` then says what broke.
    """
    running = list(pipelines)
    try:
        for pipeline in running:
            pipeline.open()
        for pipeline in running:
            pipeline.start()
        while running:
            live = [pipeline.serve() for pipeline in running]
            for pipeline in [p for p in running if not p.busy]:
                running.remove(pipeline)
                pipeline.finish()
                on_finish(pipeline)
            if any(live):
                time.sleep(REFRESH_S)
                continue
            for pipeline in running:
                pipeline.wait()
    finally:
        for pipeline in running:
            pipeline.finish()
