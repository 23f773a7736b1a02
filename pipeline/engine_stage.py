"""The engine thread: prepared frames of one or several streams into engines, results back to their streams."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import EngineError
from clesr.engines.engine import EngineInfo
from clesr.pipeline.frame import Result
from clesr.pipeline.frame_queue import Closed, FrameQueue, Policy
from clesr.pipeline.sink_worker import SinkWorker
from clesr.pipeline.upscaler import Job, Upscaler
from clesr.pipeline.watchdog import Pulse, left_behind

JOBS = 2  # prepared frames of a stream that may wait for the engine
IDLE_S = 0.1  # longest wait for a frame


@dataclass(eq=False, slots=True)
class Shared:
    """An upscaler, the LR shape it is open for, the streams that use it, and those of the frames in flight."""

    upscaler: Upscaler
    shape: tuple[int, int]
    lanes: set[EngineClient] = field(default_factory=set)
    owners: deque[tuple[int, EngineClient]] = field(
        default_factory=deque
    )  # with the count at which they were submitted


@dataclass(eq=False, slots=True)
class EngineClient:
    """A stream as the engine thread sees it. ``emit`` takes each result, ``ended`` the frames that no engine
    took and what broke the engine thread; both are called on the engine thread."""

    jobs: FrameQueue[Job]
    workers: Sequence[SinkWorker]
    emit: Callable[[Result], None]
    ended: Callable[[Sequence[Job], BaseException | None], None]
    shared: Shared | None = None
    taken: deque[Job] = field(default_factory=deque)  # out of the mailbox, without a result so far
    aborted: bool = False
    abandoned: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)  # over the end of a taken job
    info: EngineInfo | None = None  # of the engine that it had last
    closing_error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def has_room(self) -> bool:
        """Whether one more result could go to every outlet without waiting, those in flight included."""
        ready = [
            worker.takes(len(self.taken)) for worker in self.workers
        ]  # all are asked: each measures how long
        return all(ready)


class EngineThread:
    """Streams that take turns at engines: one engine for each LR shape, at most ``depth`` frames in flight in each.

    Turns go round the streams that have a frame and room for its result, so that neither a fast stream nor a
    slow disk holds up the others. A stream whose frames change size moves to the engine of the new size. Results of
    a stream come in order. An engine is closed when its last stream has ended. ``upscaler`` makes what keeps one.
    """

    def __init__(self, upscaler: Callable[[], Upscaler], clock: Clock = SYSTEM) -> None:
        self.pulse = Pulse(clock)  # in a call of an engine
        self.wake = threading.Event()  # set when a frame comes, a sink took one, a stream ends
        self._upscaler = upscaler
        self._lanes: deque[EngineClient] = deque()  # next turn first
        self._shared: list[Shared] = []
        self._submitted = 0
        self._thread: threading.Thread | None = None

    def join(
        self,
        policy: Policy,
        workers: Sequence[SinkWorker],
        emit: Callable[[Result], None],
        ended: Callable[[Sequence[Job], BaseException | None], None],
    ) -> EngineClient:
        """A place for one more stream, whose waiting frames are kept by ``policy``. Before ``start``."""
        client = EngineClient(FrameQueue(JOBS, policy, self.wake), workers, emit, ended)
        self._lanes.append(client)
        return client

    def open(self, client: EngineClient, shape: tuple[int, int]) -> None:
        """Open the engine for LR ``shape`` (H, W), unless another stream has; raises what that raises. Before
        ``start``."""
        upscaler = self._place(client, shape).upscaler
        if upscaler.engine is None:
            upscaler.open(shape)

    def start(self) -> None:
        """Begin to take turns; may be called once for each stream."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="clesr engine", daemon=True)
            thread.start()
            self._thread = thread

    def abort(self, client: EngineClient) -> None:
        """End ``lane`` now: frames that wait go to ``ended``, those in flight are finished."""
        client.aborted = True
        self.wake.set()

    def finish(self, client: EngineClient) -> None:
        """No more frames of ``lane`` can be put; ``lane.done`` is set when all have come through."""
        client.jobs.close()
        if self._thread is None and not client.done.is_set():
            self._end(client, None)

    def abandon(self, client: EngineClient) -> None:
        """An engine does not return: end ``lane`` without it. What it was given goes to ``ended``."""
        with client.lock:
            if client.done.is_set():
                return
            client.abandoned = client.aborted = True
            taken = list(client.taken)
        if self._thread is not None:
            left_behind.append(self._thread)
        client.jobs.close()
        error = EngineError(f"the engine has not answered for {self.pulse.busy_s:.0f} s and is given up")
        client.ended([*taken, *client.jobs.drain()], error)
        client.done.set()

    def close(self, client: EngineClient) -> None:
        """After ``lane.done``: raises what the closing of its engine raised. What ``lane`` calls is let go."""
        if self._thread is not None and not self._lanes and not client.abandoned:
            self._thread.join()
        client.emit, client.ended = (lambda _result: None), (lambda _stale, _error: None)
        if client.closing_error is not None:
            raise client.closing_error

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while self._lanes:
                self._turn()
        except BaseException as broken:  # noqa: BLE001 - raised again on the main thread, by each stream
            error = broken
        for client in list(self._lanes):
            self._end(client, error)

    def _turn(self) -> None:
        self.wake.clear()
        client = self._next()
        shared: Shared | None = None
        if client is not None:
            try:
                if client.aborted:
                    raise Closed
                job = client.jobs.get(0)
            except Closed:
                self._end(client, None)
                return
            if job is not None:
                client.taken.append(job)
                shared = self._submit(client, job)
        if shared is None:
            shared = min((s for s in self._shared if s.owners), key=lambda s: s.owners[0][0], default=None)
            if shared is None:
                self.wake.wait(IDLE_S)
                return
        elif not shared.upscaler.full:
            return
        with self.pulse:
            result = shared.upscaler.collect()
        self._emit(shared, [result])

    def _next(self) -> EngineClient | None:
        """The stream whose turn it is; it goes behind the others."""
        for client in self._lanes:
            if client.aborted or (client.jobs.ready and client.has_room):
                self._lanes.remove(client)
                self._lanes.append(client)
                return client
        return None

    def _submit(self, client: EngineClient, job: Job) -> Shared:
        shared = self._place(client, (job.lr.shape[0], job.lr.shape[1]))
        with self.pulse:
            results = shared.upscaler.submit(job)
        self._submitted += 1
        shared.owners.append((self._submitted, client))
        self._emit(shared, results)
        return shared

    def _emit(self, shared: Shared, results: list[Result]) -> None:
        for result in results:
            _, client = shared.owners.popleft()
            with client.lock:
                if not client.abandoned:
                    client.taken.popleft()
                    client.emit(result)

    def _drain(self, shared: Shared) -> None:
        with self.pulse:
            results = shared.upscaler.drain()
        self._emit(shared, results)

    def _place(self, client: EngineClient, shape: tuple[int, int]) -> Shared:
        """Where ``lane`` finds an engine for ``shape``."""
        present = client.shared
        if present is not None and present.shape == shape:
            return present
        if present is not None:
            self._drain(present)
        place = next((shared for shared in self._shared if shared.shape == shape), None)
        if place is None and present is not None and len(present.lanes) == 1:
            present.shape = shape  # nobody else needs the old size: the upscaler opens its engine anew
            return present
        if place is None:
            place = Shared(self._upscaler(), shape)
            self._shared.append(place)
        self._leave(client)
        place.lanes.add(client)
        client.shared = place
        return place

    def _leave(self, client: EngineClient) -> None:
        shared, client.shared = client.shared, None
        if shared is not None:
            client.info = shared.upscaler.info
            shared.lanes.discard(client)
            if not shared.lanes:
                self._shared.remove(shared)
                try:
                    with self.pulse:
                        shared.upscaler.close()
                except BaseException as closing:  # noqa: BLE001 - raised on the main thread after everything is closed
                    client.closing_error = closing

    def _end(self, client: EngineClient, error: BaseException | None) -> None:
        client.jobs.close()
        try:
            if client.shared is not None:
                self._drain(client.shared)
        except BaseException as broken:  # noqa: BLE001 - as in _run
            error = error or broken
        self._leave(client)
        self._lanes.remove(client)
        with client.lock:
            if not client.abandoned:
                client.ended([*client.taken, *client.jobs.drain()], error)
                client.taken.clear()
                client.done.set()
