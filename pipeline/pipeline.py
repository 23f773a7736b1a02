"""The live path at work: threads, states, outcomes.

    source thread: read, prepare -> queue -> engine thread: submit, collect -> a queue and a thread for each sink

The main thread waits in ``run``, says what does not answer, and gives up at the end what never does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import RecordingError, SinkError, SourceError, UsageError, first_line
from clesr.engines.engine import EngineInfo
from clesr.pipeline.alarms import Alarms
from clesr.pipeline.capture import READ_S, CaptureStage, Limits
from clesr.pipeline.ending import Ending, let_go
from clesr.pipeline.engine_stage import EngineStage
from clesr.pipeline.engine_switch import EngineAim, EngineSwitch
from clesr.pipeline.frame import Image, Outcome, PreparedFrame, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.guide import check_denoise
from clesr.pipeline.live_engine import LiveEngine, OpenEngine
from clesr.pipeline.messages import SafeLogger, naming, stream_name, stream_thread
from clesr.pipeline.observer import FrameObserver, FrameRecorder
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.run_report import RunReport
from clesr.pipeline.sink import LiveSink, Sink
from clesr.pipeline.sink_worker import SinkWorker, by_name
from clesr.pipeline.source import Source
from clesr.pipeline.stats import RunStats
from clesr.pipeline.status import State, Status, Summary
from clesr.pipeline.temporal import StreamFusion
from clesr.pipeline.watchdog import Part, Timeouts, Watchdog, calls_of

log = SafeLogger(logging.getLogger(__name__))
__all__ = ["Limits", "Pipeline"]


class Pipeline:
    """One source through one engine to any number of sinks.

    ``factory`` opens an engine for an LR shape, or is an EngineStage that several pipelines share. Recorded
    sources lose nothing: a slow engine makes them wait. Of live ones the newest frames are taken and the others
    counted as stale. ``recorder`` sees every captured frame before anything else does, and takes the results as a
    sink. ``on_end`` is called before the sinks are closed when everything of a recorded source came through,
    without a stop or an error. ``consistent`` corrects images by what was measured; an EngineStage has a setting of
    its own. ``drop_damaged`` takes frames that build on damaged pictures for corrupt ones. ``timeouts`` say how long
    other parts may be silent. ``pixel_um`` is the width of a captured pixel in micrometres, for scale bars.
    ``prepare`` cuts and stretches frames before the engine gets them, ``limits`` end the run by itself, ``clock`` is
    the one of the source's times. To make a Pipeline opens and raises nothing: ``run`` does.
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
        drop_damaged: bool = False,
        on_end: Callable[[], None] = lambda: None,
        timeouts: Timeouts | None = None,
        pixel_um: float | None = None,
    ) -> None:
        self.source, self.pixel_um = source, pixel_um
        self.prepare = prepare or Prepare()
        self.clock, self.on_end, self.stream = clock, on_end, stream_name.get()
        self.stats = RunStats(source.info, clock)
        self.ledger = self.stats.ledger
        live = source.info.live
        if not isinstance(factory, EngineStage):
            make = partial(LiveEngine, factory, scale, clock, consistent=consistent, hurried=live)
            factory = EngineStage(make, clock)
        self._engine = factory
        self.recorder = recorder
        self.alarms = recorder.alarms if recorder is not None else Alarms()
        self._observers: tuple[FrameObserver, ...] = (self.stats, recorder) if recorder else (self.stats,)
        self._timeouts, self._limits = timeouts or Timeouts(), limits or Limits()
        full_s = self._timeouts.full if live else None
        self._workers = [
            SinkWorker(sink, factory.wake, clock=clock, full_s=full_s)
            for sink in (*sinks, *([recorder] if recorder else []))
        ]
        policy = Policy.DROP_OLDEST if live else Policy.BLOCK
        self._client = factory.join(policy, self._workers, self._emit, self._computed)
        self._source_thread: threading.Thread | None = None
        self._state = State.STARTING
        self._start_ns, self._finished = clock.now_ns(), False
        self._beside: Callable[[], None] = lambda: None
        self._told_broken: set[SinkWorker] = set()
        self._looked_ns = self._start_ns
        self._ending = Ending(source, self._workers, recorder, timeouts=self._timeouts, clock=clock)
        idle = self.stats.monitor.idle
        self._engines = EngineSwitch(
            EngineAim.of(factory.opener, scale), factory.make_other, self._newest_image
        )
        self._capture = CaptureStage(
            source,
            self.prepare,
            self._engines,
            self._client.queue,
            observers=self._observers,
            idle=idle,
            limits=self._limits,
            clock=clock,
            stop=self._ending.stop,
            drop_damaged=drop_damaged,
        )
        self._sinks = by_name(self._workers)
        done = self._client.done
        engine = Part("engine", factory.timer, lambda: not done.is_set(), *calls_of("the engine"))
        sink_parts = (worker.part(name) for name, worker in self._sinks.items())
        self._watchdog = Watchdog([engine, *self._capture.parts(), *sink_parts], self._timeouts)
        self._report = RunReport(
            self._capture, self._client, self._sinks, recorder, self.stats, self.alarms, self._watchdog
        )

    def run(self) -> Summary:
        """Run to the end of the source, a limit, or ``stop``; the sinks are closed when this returns.

        Raises the first error of a worker, after everything captured before it was written and every sink closed;
        ``summary`` then still tells what became of the frames.
        """
        with naming(self.stream):
            try:
                self.open()
                self.start()
                self.look()
                while self.busy:
                    self.wait()
                    self.look()
            finally:
                self.finish()
        error = self.error
        if error is None:
            return self.summary()
        self._ending.forget_errors()  # the caller's now: its traceback has the caller's frame, and so this run
        try:
            raise error
        finally:
            del self, error

    def open(self, waited_s: float = 0.0) -> None:
        """Open the engine for the size that the source states; a live stream has waited for ``waited_s`` seconds by
        now. What breaks ends the run, as in all that follows."""
        with self._keeping_errors():
            if self.source.info.shape is not None:
                self._engine.open(self._client, self.prepare.shape(self.source.info.shape), waited_s)

    def start(self) -> None:
        """Start the threads."""
        with self._keeping_errors():
            if self._ending.errors:
                return
            if self._state is State.STARTING:
                self._state = State.RUNNING
            self._start_ns = self.clock.now_ns()
            log.debug(f"reading {self.source.info.address} begins")
            for observer in self._observers:
                observer.begin()
            source = stream_thread("clesr source", self._read, self._start_ns)
            self._engine.start()
            for worker in self._workers:
                worker.start(self)
            source.start()
            self._source_thread = source

    @property
    def engine_stage(self) -> EngineStage:
        """What its frames go through, together with those of the pipelines that have it in common."""
        return self._engine

    @property
    def started(self) -> bool:
        """Whether it reads frames, or has ended."""
        return self._source_thread is not None or self._finished

    @property
    def ending(self) -> bool:
        """Whether it takes no more frames, or has ended."""
        return self._ending.stop.is_set()

    @property
    def views(self) -> Mapping[str, bool]:
        """The windows and pages that have not broken, by name: whether they answer, so that somebody can see them."""
        views = {name: each for name, each in self._sinks.items() if isinstance(each.sink, LiveSink)}
        silent = self._watchdog.silent
        return {name: name not in silent for name, view in views.items() if view.error is None}

    @property
    def unattended_s(self) -> float:
        """Seconds since the main thread last looked after it, also while it is closed."""
        return (self.clock.now_ns() - self._looked_ns) / 1e9

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
        self._watch()
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
            self._ending.errors.append(error)
            self._client.queue.close()
        if self._ending.engine_is_due(self._engine.timer):
            self._engine.abandon(self._client)
        if self._client.done.is_set():
            for worker in self._workers:
                self._ending.check(worker)

    def close_recording(self) -> None:
        """Where it is not ``busy`` any more: have the recording closed; returns at once."""
        if self._source_thread is not None and not self.busy:
            self._ending.close_recorder()

    def finish(self, beside: Callable[[], None] = lambda: None) -> None:
        """End all threads and close everything; ``beside`` is called again and again while that takes time."""
        if self._finished:
            return
        self._finished, self._beside = True, beside
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

    def start_recording(self, folder: Path, *, or_next: bool = False) -> Future[Path]:
        """Record into the new ``folder`` from the next frame on. Any thread, also in a signal handler.
        ``or_next``: where something is in it, into ``NAME-2`` and so on. Returns at once; the future gets the folder,
        or a SessionError where none can be made.

        That frame's image rests on no earlier one, which the recording would not contain. Raises ValueError where the
        run was made without a recorder, UsageError where it takes no more frames.
        """
        if self.recorder is None:
            raise ValueError("this run has no recorder; give one to Pipeline")
        if self.ending:
            raise UsageError("the run ends, and takes no more frames: nothing can be recorded")
        begun = self.recorder.start(folder, or_next=or_next)
        self._capture.alone = True
        return begun

    def stop_recording(self) -> None:
        """End the recording; the run goes on. Any thread, also in a signal handler."""
        if self.recorder is not None:
            self.recorder.stop()

    def switch(
        self, scale: int | None = None, model: str | None = None, *, open_engine: OpenEngine | None = None
    ) -> None:
        """Go on with another engine: of this ``scale`` (2, 4 or 8) and ``model`` ("auto" too), where they are given, or
        of ``open_engine``, which is for ``scale``. Any thread; returns at once. ::

            pipeline.switch(scale=8)
            pipeline.switch(model="densenet")

        The new engine is opened beside the present one, and must pass its self-test and make a sound image of the last
        frame. Then it has the frames from the next one on. Where any of this fails, its first frame included, the
        present engine goes on; ``status`` says so in ``switch_error``, and meanwhile in ``switching`` what is on its
        way. Later calls replace one that waits, and add to it; one for what is in use takes it back.

        No frame is lost. Results have another size where the scale is another, a recording goes on in ``NAME-2``.
        Of several pipelines at one EngineStage only this one is switched, to an engine of its own.

        Raises UsageError where the images would become too large, the scale is none, or the run has ended; and without
        ``open_engine`` where the run's engines come from a function that has no other scale or model.
        """
        self._engines.request(scale, model, open_engine)

    @property
    def scale(self) -> int:
        """How many times larger in width and height the next image will be."""
        return self._capture.scale

    @property
    def temporal(self) -> bool:
        """Whether earlier frames help, from the next frame on. Any thread may set it."""
        return self.prepare.temporal is not None

    @temporal.setter
    def temporal(self, on: bool) -> None:
        if on != self.temporal:
            hurried = self.source.info.live
            self.prepare.temporal = StreamFusion(hurried=hurried, clock=self.clock) if on else None
            self._state_settings(temporal="auto" if on else "off")

    @property
    def denoise(self) -> float | None:
        """The noise in grey levels that networks are told of, None: as estimated. Any thread may set it, for the frames
        that the engine gets next."""
        return self.prepare.guide.denoise

    @denoise.setter
    def denoise(self, noise: float | None) -> None:
        check_denoise(noise)
        self.prepare.guide.denoise = noise
        self._state_settings(denoise=noise)

    def status(self) -> Status:
        """Where the run stands now: a snapshot. Any thread."""
        return self._report.status(self._state, self.pixel_um)

    @property
    def engine(self) -> EngineInfo | None:
        """What the engine says of itself, None where it is not open yet."""
        return self._report.engine

    def summary(self) -> Summary:
        """What the run has come to so far. Any thread."""
        return self._report.summary(self._state, self._start_ns)

    def _read(self, start_ns: int) -> None:
        """Source thread."""
        try:
            self._capture.run(start_ns)
        except OSError as error:
            broken = SourceError(f"{self.source.info.address} broke: {error.strerror or first_line(error)}")
            broken.__cause__ = error
            self._ending.errors.append(broken)
        except BaseException as error:  # noqa: BLE001 - raised again on the main thread
            self._ending.errors.append(error)
        self._ending.begin()

    def _emit(self, result: Result) -> None:
        """Engine thread: tell of ``result`` and hand it to the sinks."""
        for observer in self._observers:
            observer.settle_result(result)
        if self._state in (State.RUNNING, State.DEGRADED):
            shared = self._client.shared
            self._state = State.DEGRADED if shared and shared.live.failure else State.RUNNING
        for worker in self._workers:
            worker.put(result)

    def _computed(self, stale: Sequence[PreparedFrame], error: BaseException | None) -> None:
        """The last result has come; ``stale`` frames were given up. Engine thread, or the main thread where that one
        does not answer."""
        for prepared in stale:
            self._capture.settle(prepared.frame, Outcome.STALE, prepared=prepared)
        if error is not None:
            self._ending.errors.append(error)
            self._ending.begin()
        for worker in self._workers:
            worker.queue.close()

    def broke(self, worker: SinkWorker) -> None:
        """A sink takes nothing more: the others go on, unless nobody is left who would miss the results."""
        if worker in self._told_broken:
            return
        needing = [o for o in self._workers if o.error is None and o.sink.name != "null"]
        going = ""
        if self.recorder is not None and not self.recorder.armed:
            needing = [o for o in needing if o.sink is not self.recorder]
        elif worker.sink is not self.recorder and self.recorder is not None and self.recorder.recording:
            going = "; the recording goes on"
        words = self._broken_words(worker)
        self._told_broken.add(worker)
        log.error(f"{words}{going}")
        self.alarms.add(f"OUTPUT ENDED: {words}")
        if not needing:
            self.stop()

    def _broken_words(self, worker: SinkWorker) -> str:
        name = next(name for name, each in self._sinks.items() if each is worker)
        return f"{name} broke: {first_line(worker.error or SinkError('no reason'))}"

    @contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        """What breaks on the main thread drains the run and is raised when everything is closed."""
        try:
            yield
        except BaseException as error:
            self._ending.errors.append(error)
            self._ending.begin()
            self._client.queue.close()
            if isinstance(error, KeyboardInterrupt):
                raise  # it ends other runs too

    def _newest_image(self) -> tuple[Image | None, tuple[int, int] | None]:
        """The LR image of the last result, and the shape (H, W) of the next one, as far as they are known."""
        newest = self.stats.newest
        if newest is not None:
            return newest.lr, (newest.lr.shape[0], newest.lr.shape[1])
        stated = self.source.info.shape
        return None, self.prepare.shape(stated) if stated is not None else None

    def _state_settings(self, **settings: object) -> None:
        if self.recorder is not None:
            self.recorder.state(settings)

    def _watch(self) -> None:
        """Main thread, again and again, until everything is closed."""
        self._looked_ns = self.clock.now_ns()
        self._watchdog.look()
        self._beside()

    def _close(self) -> None:
        """Close everything, whatever is broken, the recording first; the first error stays the one that is raised."""
        if self._capture.ended and not self._ending.broken:
            self.on_end()
        self._ending.close_sinks(self._watch)
        limit = self._timeouts.abort if self._ending.aborted else self._timeouts.close
        free = partial(self._engines.close, limit, self._watch, hung=self._client.abandoned)
        close_source = partial(self._ending.close_source, self._watch)
        for close in (partial(self._engine.close, self._client), free, close_source):
            try:
                close()
            except Exception as error:  # noqa: BLE001 - raised after everything is closed
                self._ending.errors.append(error)
        self._state = State.FAILED if self._ending.broken else State.STOPPED
        log.debug(f"{self.source.info.address}: {self._state} after {self.ledger.captured} frames")
        first = self.error  # it is raised; the others that broke while they were closed are told here
        for worker in self._workers:
            if worker.error is None or worker in self._told_broken:
                continue
            self._told_broken.add(worker)
            words = self._broken_words(worker)
            if not isinstance(worker.error, RecordingError):  # of which the recorder has told
                self.alarms.add(f"OUTPUT ENDED: {words}")
            if first is None or worker.error not in (first, first.__cause__):
                log.error(words)
        let_go(self._ending.broken)

    @property
    def ended_by(self) -> BaseException | None:
        """After its end: what ended it, of source, engine and the run itself; None where it came to its end. What
        breaks of outputs and recordings is an alarm of its own."""
        error = self.error
        return error if self._ending.errors or not self._ending.broken else None

    @property
    def error(self) -> BaseException | None:
        """After ``run``: what broke first, a RecordingError where nothing but the recording did; a RuntimeError where
        the ledger does not balance. None where ``run`` has raised it."""
        if self._ending.broken:
            return self._ending.first_error
        try:
            self.ledger.check()
        except RuntimeError as unbalanced:
            return unbalanced
        return None
