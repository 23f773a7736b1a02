"""How a run ends although parts of it may never return: what has had its time is named and given up."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable, Sequence

from clesr.engines.common.clock import Clock
from clesr.engines.common.errors import ClesrError, RecordingError, SinkError, SourceError, chain, first_line
from clesr.pipeline.capture import READ_S
from clesr.pipeline.sink import Sink
from clesr.pipeline.sink_worker import SinkWorker
from clesr.pipeline.source import Source
from clesr.pipeline.watchdog import CallTimer, Timeouts, left_behind


class Ending:
    """When reading of ``source`` was to ``stop``, whether the run was aborted, and how long each part gets after that.
    ``recorder`` is the sink that comes before the others. ``errors`` are what broke but for sinks, in order."""

    def __init__(
        self,
        source: Source,
        workers: Sequence[SinkWorker],
        recorder: Sink | None,
        *,
        timeouts: Timeouts,
        clock: Clock,
    ) -> None:
        self.stop = threading.Event()
        self.errors: list[BaseException] = []
        self.aborted = self.source_given_up = False
        self._source, self._workers, self._recorder = source, workers, recorder
        self._timeouts, self._clock = timeouts, clock
        self._since_ns = 0

    def begin(self) -> None:
        """Any thread: take no more frames."""
        if not self.stop.is_set():
            self._since_ns = self._clock.now_ns()
            self.stop.set()

    def abort(self) -> None:
        """Any thread: do not wait for long any more."""
        self.begin()
        if not self.aborted:
            self._since_ns = self._clock.now_ns()
            self.aborted = True

    def engine_is_due(self, timer: CallTimer) -> bool:
        """Whether the engine, of whose calls ``timer`` is, has had its time. For a recorded source it may be as slow as
        it likes, unless the run was aborted."""
        if self.aborted:
            return self._since() >= self._timeouts.abort
        ending = self.stop.is_set() and self._source.info.live
        return ending and min(self._since(), timer.busy_s) >= self._timeouts.close

    def reading(self, thread: threading.Thread | None) -> bool:
        """Whether the source's ``thread`` may still bring frames."""
        return thread is not None and thread.is_alive() and not self.source_given_up

    def check_source(self, thread: threading.Thread | None) -> None:
        """Raises SourceError where ``thread`` should long have stopped reading: it is given up."""
        limit = self._timeouts.abort if self.aborted else self._timeouts.close
        if thread is not None and self.stop.is_set() and self.reading(thread) and self._since() >= limit:
            self.source_given_up = True
            left_behind.append(thread)
            address = self._source.info.address
            raise SourceError(f"{address} has not answered for {self._since():.0f} s and is given up")

    def check(self, worker: SinkWorker) -> bool:
        """Give ``worker`` up where its sink does not come back from a call; whether it was."""
        timeouts, recorder = self._timeouts, worker.sink is self._recorder
        if self.aborted:
            limit = timeouts.abort_recorder if recorder else timeouts.abort
        else:
            limit = timeouts.recorder if recorder else timeouts.close
        idle_s = worker.timer.busy_s if self.aborted else worker.idle_s
        due = worker.alive and idle_s > limit
        if due:
            worker.give_up()
        return due

    def close_recorder(self) -> None:
        """Let the recording be closed once it has what came for it; returns at once."""
        for worker in self._workers:
            if worker.sink is self._recorder:
                worker.close()

    def close_sinks(self, look: Callable[[], None]) -> None:
        """Close all sinks, the recording first; ``look`` is called while that takes time."""
        recorders = [worker for worker in self._workers if worker.sink is self._recorder]
        for together in (recorders, [worker for worker in self._workers if worker not in recorders]):
            for worker in together:
                worker.close()
            for worker in together:
                while not worker.wait_closed(READ_S) and not self.check(worker):
                    look()

    def close_source(self, look: Callable[[], None]) -> None:
        """Raises what the source raises; SourceError where it does not return. ``look`` is called while that takes
        time."""
        errors: list[Exception] = []

        def close() -> None:
            try:
                self._source.close()
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)

        thread = threading.Thread(target=close, name="clesr closing", daemon=True)
        began_ns = self._clock.now_ns()
        thread.start()
        while thread.is_alive():
            thread.join(READ_S)
            look()
            limit = self._timeouts.abort if self.aborted else self._timeouts.close
            if thread.is_alive() and (self._clock.now_ns() - began_ns) / 1e9 > limit:
                left_behind.append(thread)
                raise SourceError(f"{self._source.info.address} cannot be closed: it does not answer")
        for error in errors:
            raise error

    def rescue(self, seconds: float) -> None:
        """Any thread: close the sinks, the recording first, waiting at most ``seconds`` for each."""
        for worker in sorted(self._workers, key=lambda worker: worker.sink is not self._recorder):
            worker.close()
            worker.wait_closed(seconds)

    @property
    def broken(self) -> list[BaseException]:
        """All that broke, the ``errors`` and what sinks raised; that of the recorder is the last."""
        return [*self.errors, *(worker.error for worker in self._workers if worker.error is not None)]

    @property
    def first_error(self) -> BaseException:
        """What broke first, by a name that says where; a RecordingError where nothing but the recording did. Only where
        something broke."""
        first = self.broken[0]
        if self.errors or isinstance(first, RecordingError):
            return first
        sink = next(worker.sink for worker in self._workers if worker.error is first)
        if sink is self._recorder:
            named: ClesrError = RecordingError(f"the recording failed: {first_line(first)}")
        elif isinstance(first, OSError) and not isinstance(first, ClesrError):
            named = SinkError(f"writing to {sink.name} failed: {first}")
        else:
            return first
        named.__cause__ = first
        return named

    def forget_errors(self) -> None:
        """They are the caller's now."""
        self.errors.clear()
        for worker in self._workers:
            worker.error = None

    def _since(self) -> float:
        return (self._clock.now_ns() - self._since_ns) / 1e9


def let_go(errors: Iterable[BaseException]) -> None:
    """Tracebacks keep what the functions in them worked on: an error that is kept would keep its run alive."""
    for error in errors:
        for one in chain(error):
            traceback.clear_frames(one.__traceback__)
