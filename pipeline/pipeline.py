"""The live path at work: threads, states, outcomes.

    source thread: read, prepare -> queue -> engine thread: submit, collect -> a queue and a thread for each sink

The main thread waits in ``run``, says what does not answer, and gives up at the end what never does;
``run_together`` does so for several pipelines at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import ClesrError, SinkError, SourceError, first_line
from clesr.engines.engine import EngineInfo
from clesr.pipeline.capture import READ_S, CaptureStage, Limits
from clesr.pipeline.ending import Ending, let_go
from clesr.pipeline.engine_stage import EngineStage
from clesr.pipeline.frame import Outcome, PreparedFrame, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.live_engine import LiveEngine, OpenEngine
from clesr.pipeline.messages import SafeLogger, naming, stream_name, stream_thread
from clesr.pipeline.observer import FrameObserver, FrameRecorder
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.sink import Sink
from clesr.pipeline.sink_worker import SinkWorker
from clesr.pipeline.source import Source
from clesr.pipeline.stats import RunStats
from clesr.pipeline.status import State, Status, Summary
from clesr.pipeline.watchdog import Part, Timeouts, Watchdog

log = SafeLogger(logging.getLogger(__name__))
__all__ = ["Limits", "Pipeline", "run_together"]


class Pipeline:
    """One source through one engine to any number of sinks.

    ``factory`` opens an engine for an LR shape, or is an EngineStage that several pipelines share. Recorded
    sources lose nothing: a slow engine makes them wait. Of live ones the newest frames are taken and the others
    counted as stale. ``recorder`` sees every captured frame before anything else does, and takes the results as a
    sink. ``on_end`` is called before the sinks are closed when everything of a recorded source came through,
    without a stop or an error. ``consistent`` corrects images by what was measured; an EngineStage has a setting of
    its own. ``timeouts`` say how long other parts may be silent.
    """

    def __init__(
        self,
        source: Source,
        factory: OpenEngine | EngineStage,
        sinks: Sequence[Sink],
        *,
        scale: int,
        prepare: Prepare | None = None,
        consistent: bool = False,
        recorder: FrameRecorder | None = None,
        limits: Limits | None = None,
        clock: Clock = SYSTEM,
        on_end: Callable[[], None] = lambda: None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.source, self.scale = source, scale
        self.prepare = prepare or Prepare()
        self.clock, self.on_end, self.stream = clock, on_end, stream_name.get()
        self.stats = RunStats(source.info, clock)
        self.ledger = self.stats.ledger
        if not isinstance(factory, EngineStage):
            factory = EngineStage(partial(LiveEngine, factory, scale, clock, consistent=consistent), clock)
        self._engine = factory
        self.recorder = recorder
        self._observers: tuple[FrameObserver, ...] = (self.stats, recorder) if recorder else (self.stats,)
        self._timeouts, self._limits = timeouts or Timeouts(), limits or Limits()
        live = source.info.live
        full_s = self._timeouts.full if live else None
        self._workers = [
            SinkWorker(sink, factory.wake, clock=clock, full_s=full_s)
            for sink in (*sinks, *([recorder] if recorder else []))
        ]
        policy = Policy.DROP_OLDEST if live else Policy.BLOCK
        self._client = factory.join(policy, self._workers, self._emit, self._computed)
        self._source_thread: threading.Thread | None = None
        self._errors: list[BaseException] = []
        self._state = State.STARTING
        self._start_ns, self._finished = clock.now_ns(), False
        self._ending = Ending(source, self._workers, recorder, timeouts=self._timeouts, clock=clock)
        idle = self.stats.monitor.idle
        self._capture = CaptureStage(
            source,
            self.prepare,
            scale,
            self._client.queue,
            observers=self._observers,
            idle=idle,
            limits=self._limits,
            clock=clock,
            stop=self._ending.stop,
        )
        self._watchdog = Watchdog(self._timeouts)
        self._silent = ""  # what is to be said of the engine now
        self._described: tuple[EngineInfo | None, str] = None, ""
        address = source.info.address
        self._engine_part = Part(factory.timer, "the engine has not answered", "the engine answers again")
        self._source_part = Part(
            idle, f"no frame has come from {address}", f"frames come from {address} again"
        )
        self._sink_parts = [
            Part(worker.timer, f"{worker.sink.name} has not answered", f"{worker.sink.name} answers again")
            for worker in self._workers
        ]

    def run(self) -> Summary:
        """Run to the end of the source, a limit, or ``stop``; the sinks are closed when this returns.

        Raises the first error of a worker, after everything captured before it was written and every sink closed;
        ``summary`` then still tells what became of the frames.
        """
        run_together([self])
        error = self.error
        if error is None:
            return self.summary()
        self._errors.clear()  # the caller's now: its traceback has the caller's frame, and so this run
        for worker in self._workers:
            worker.error = None
        try:
            raise error
        finally:
            del self, error

    def open(self) -> None:
        """Open the engine for the size that the source states. What breaks ends the run, as in all that follows."""
        with self._keeping_errors():
            if self.source.info.shape is not None:
                self._engine.open(self._client, self.prepare.shape(self.source.info.shape))

    def start(self) -> None:
        """Start the threads."""
        with self._keeping_errors():
            if self._errors:
                return
            if self._state is State.STARTING:
                self._state = State.RUNNING
            self._start_ns = self.clock.now_ns()
            log.debug(f"reading {self.source.info.address} begins")
            source = stream_thread("clesr source", self._read, self._start_ns)
            self._engine.start()
            for worker in self._workers:
                worker.start(self)
            source.start()
            self._source_thread = source

    @property
    def started(self) -> bool:
        """Whether it reads frames, or has ended."""
        return self._source_thread is not None or self._finished

    @property
    def busy(self) -> bool:
        """Whether frames may still come through."""
        if self._source_thread is None:
            return False
        reading = self._ending.reading(self._source_thread)
        return reading or not self._client.done.is_set() or not all(o.fed.is_set() for o in self._workers)

    def wait(self) -> None:
        """Return when everything has come through, or after a while."""
        thread = self._source_thread
        if thread is not None and self._ending.reading(thread):
            thread.join(READ_S)
        if not self._ending.reading(thread):
            self._client.done.wait(READ_S)
            for worker in self._workers:
                worker.fed.wait(READ_S)

    def look(self) -> None:
        """Main thread, again and again: say which part does not answer, give up those that have had their time."""
        self._watchdog.look(self._watched())
        self._silent = self._watchdog.message(self._engine_part)
        late = self.stats.late()
        if late:
            self._capture.notes.add(late)
        seconds, now = self._limits.seconds, self.clock.now_ns()
        if seconds is not None and now - self._start_ns >= (seconds + self._timeouts.told) * 1e9:
            self.stop()  # the source thread, which does so by itself, does not answer
        try:
            self._ending.check_source(self._source_thread)
        except SourceError as error:
            log.error(str(error))
            self._errors.append(error)
            self._client.queue.close()
        if self._ending.engine_is_due:
            self._engine.abandon(self._client)
        if self._client.done.is_set():
            for worker in self._workers:
                self._ending.check(worker)

    def finish(self) -> None:
        """End all threads and close everything."""
        if self._finished:
            return
        self._finished = True
        self._ending.begin()
        self._engine.finish(self._client)
        while self.busy:
            self.wait()
            self.look()
        self._close()

    def stop(self) -> None:
        """Drain: take no more frames, finish those captured. Any thread, also in a signal handler."""
        if self._state in (State.STARTING, State.RUNNING, State.DEGRADED):
            self._state = State.DRAINING
        self._ending.begin()

    def abort(self) -> None:
        """Stop at once: frames that wait for the engine end as stale, and what does not answer is given up."""
        self.stop()
        self._ending.abort()
        self._engine.abort(self._client)
        for worker in self._workers:
            worker.queue.close()

    def rescue(self, seconds: float) -> None:
        """The last resort before the process is ended, for any thread, where not even ``run`` returns after ``abort``:
        close the recording with what it has, then the sinks, waiting at most ``seconds`` for each."""
        self.abort()
        self._ending.rescue(seconds)

    def start_recording(self, folder: Path, *, or_next: bool = False) -> None:
        """Record into the new ``folder`` from the next frame on. Any thread, also in a signal handler.
        ``or_next``: where something is in it, into ``NAME-2`` and so on.

        That frame's image rests on no earlier one, which the recording would not contain. Raises ValueError where the
        run was made without a recorder.
        """
        if self.recorder is None:
            raise ValueError("this run has no recorder; give one to Pipeline")
        self.recorder.start(folder, or_next=or_next)
        self._capture.alone = True

    def stop_recording(self) -> None:
        """End the recording; the run goes on. Any thread, also in a signal handler."""
        if self.recorder is not None:
            self.recorder.stop()

    def status(self) -> Status:
        info, failure = self._engine_state()
        silent = self._silent
        if info is not self._described[0]:
            self._described = info, str(info or "")
        return Status(
            state=State.DEGRADED if silent and self._state is State.RUNNING else self._state,
            source=self.source.info.address,
            engine=self._described[1],
            model=info.model if info else "",
            **self.stats.status(self.clock.now_ns()),
            recording=self.recorder is not None and self.recorder.recording,
            message=failure or silent,
            alarm=f"RECORDING ENDED: {self.recorder.alarm}" if self.recorder and self.recorder.alarm else "",
        )

    def summary(self) -> Summary:
        """What the run has come to so far."""
        info, _ = self._engine_state()
        return Summary(
            source=self.source.info.address,
            captured=self.ledger.captured,
            outcomes=self.ledger.outcomes,
            fps=self.stats.rate.overall(),
            latency_ms=self.stats.latency.percentiles(),
            engine=str(info or ""),
            model=info.model if info else "",
            scale=self.scale,
            state=self._state,
            seconds=self.stats.monitor.span_s,
            outputs=tuple(worker.report for worker in self._workers if worker.report),
            notes=tuple(self._capture.notes.first),
            sinks={
                worker.sink.name: {"written": worker.written, "skipped": worker.skipped}
                for worker in self._workers
            },
            fidelity=self.stats.fidelities.summary(),
        )

    def _read(self, start_ns: int) -> None:
        """Source thread."""
        try:
            self._capture.run(start_ns)
        except OSError as error:
            broken = SourceError(f"{self.source.info.address} broke: {error.strerror or first_line(error)}")
            broken.__cause__ = error
            self._errors.append(broken)
        except BaseException as error:  # noqa: BLE001 - raised again on the main thread
            self._errors.append(error)
        self._ending.begin()

    def _emit(self, result: Result) -> None:
        """Engine thread: tell of ``result`` and hand it to the sinks."""
        info, failure = self._engine_state()
        for observer in self._observers:
            observer.settle_result(result, info)
        if self._state in (State.RUNNING, State.DEGRADED):
            self._state = State.DEGRADED if failure else State.RUNNING
        for worker in self._workers:
            worker.put(result)

    def _computed(self, stale: Sequence[PreparedFrame], error: BaseException | None) -> None:
        """The last result has come; ``stale`` frames were given up. Engine thread, or the main thread where that one
        does not answer."""
        for prepared in stale:
            self._capture.settle(prepared.frame, Outcome.STALE, prepared=prepared)
        if error is not None:
            self._errors.append(error)
            self._ending.begin()
        for worker in self._workers:
            worker.queue.close()

    def broke(self, worker: SinkWorker) -> None:
        """A sink takes nothing more: the others go on, unless nobody is left who would miss the results."""
        needing = [o for o in self._workers if o.error is None and o.sink.name != "null"]
        going = ""
        if self.recorder is not None and not self.recorder.armed:
            needing = [o for o in needing if o.sink is not self.recorder]
        elif worker.sink is not self.recorder and self.recorder is not None and self.recorder.recording:
            going = "; the recording goes on"
        log.error(f"{worker.sink.name} broke: {first_line(worker.error or SinkError('no reason'))}{going}")
        if not needing:
            self.stop()

    @contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        """What breaks on the main thread drains the run and is raised when everything is closed."""
        try:
            yield
        except BaseException as error:
            self._errors.append(error)
            self._ending.begin()
            self._client.queue.close()
            if isinstance(error, KeyboardInterrupt):
                raise  # it ends other runs too

    def _engine_state(self) -> tuple[EngineInfo | None, str | None]:
        """What the engine said of itself, and why it is out of service; None where it is not known, or works."""
        shared = self._client.shared
        return (shared.live.info, shared.live.failure) if shared else (self._client.info, None)

    def _watched(self) -> list[Part]:
        """What has to answer now."""
        sinks = [part for worker, part in zip(self._workers, self._sink_parts, strict=True) if worker.alive]
        if self._client.done.is_set():
            return sinks
        return [self._engine_part, *([] if self._ending.stop.is_set() else [self._source_part]), *sinks]

    def _close(self) -> None:
        """Close everything, whatever is broken, the recording first; the first error stays the one that is raised."""
        if self._capture.ended and not self._errors and not any(worker.error for worker in self._workers):
            self.on_end()
        self._ending.close_sinks(lambda: self._watchdog.look(self._watched()))
        for close in (partial(self._engine.close, self._client), self._ending.close_source):
            try:
                close()
            except Exception as error:  # noqa: BLE001 - raised after everything is closed
                self._errors.append(error)
        self._state = State.FAILED if self._errors or any(o.error for o in self._workers) else State.STOPPED
        log.debug(f"{self.source.info.address}: {self._state} after {self.ledger.captured} frames")
        let_go([*self._errors, *(worker.error for worker in self._workers)])

    @property
    def error(self) -> BaseException | None:
        """After ``finish``: what broke first. A RuntimeError where the ledger does not balance."""
        errors = [*self._errors, *(worker.error for worker in self._workers if worker.error)]
        if not errors:
            try:
                self.ledger.check()
            except RuntimeError as unbalanced:
                return unbalanced
            return None
        first = errors[0]
        if not isinstance(first, OSError) or isinstance(first, ClesrError) or self._errors:
            return first
        named = SinkError(f"writing failed: {first}")
        named.__cause__ = first
        return named


def run_together(
    pipelines: Sequence[Pipeline], on_finish: Callable[[Pipeline], None] = lambda _pipeline: None
) -> None:
    """Run ``pipelines`` side by side to their ends; each is closed as soon as it has ended, whatever becomes of the
    others, and goes to ``on_finish``. ``Pipeline.error`` then says what broke.
    """
    running = list(pipelines)
    try:
        for pipeline in running:
            pipeline.open()
        for pipeline in running:
            with naming(pipeline.stream):
                pipeline.start()
        while running:
            for pipeline in list(running):
                with naming(pipeline.stream):
                    pipeline.look()
                    if not pipeline.busy:
                        running.remove(pipeline)
                        pipeline.finish()
                        on_finish(pipeline)
            for pipeline in running:
                pipeline.wait()
    finally:
        for pipeline in running:
            with naming(pipeline.stream):
                pipeline.finish()
