"""The engine thread: prepared frames of one or several streams into engines, results back to their streams."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import EngineError, UsageError, first_line
from clesr.engines.engine import EngineInfo
from clesr.engines.results import check_size
from clesr.pipeline.engine_switch import EngineChoice
from clesr.pipeline.frame import PreparedFrame, Result
from clesr.pipeline.frame_queue import Closed, FrameQueue, Policy
from clesr.pipeline.live_engine import LiveEngine, OpenEngine
from clesr.pipeline.messages import naming, stream_name, stream_thread
from clesr.pipeline.sink_worker import SinkWorker
from clesr.pipeline.watchdog import CallTimer, left_behind

WAITING = 2  # prepared frames of a stream that may wait for the engine
IDLE_S = 0.1  # longest wait for a frame

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class SharedEngine:
    """A live engine, the LR shape it is open for, the streams that use it, and those of the frames in flight, with the
    count at which they were submitted. ``choice`` is what a stream was switched to, None for what all can have;
    ``restarts`` are those that its streams were told of."""

    live: LiveEngine
    shape: tuple[int, int]
    choice: EngineChoice | None = None
    clients: set[EngineClient] = field(default_factory=set)
    owners: deque[tuple[int, EngineClient]] = field(default_factory=deque)
    restarts: int = 0


@dataclass(eq=False, slots=True)
class EngineClient:
    """A stream as the engine thread sees it. ``emit`` takes each result, ``ended`` the frames that no engine
    took and what broke the engine thread; both are called on the engine thread. ``restarts`` counts how often an
    engine that it uses was open again after a failure."""

    queue: FrameQueue[PreparedFrame]
    workers: Sequence[SinkWorker]
    emit: Callable[[Result], None]
    ended: Callable[[Sequence[PreparedFrame], BaseException | None], None]
    shared: SharedEngine | None = None
    choice: EngineChoice | None = None  # the engine that it was switched to
    refused: EngineChoice | None = None  # the last that failed on its first frame
    taken: deque[PreparedFrame] = field(default_factory=deque)  # out of the queue, without a result so far
    aborted: bool = False
    abandoned: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)  # over the end of a taken prepared
    info: EngineInfo | None = None  # of the engine that it had last
    closing_error: BaseException | None = None
    restarts: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    def take(self) -> PreparedFrame | None:
        """The next frame, which is ``taken`` from now on; None where there is none. Raises Closed at the end."""
        with self.lock:
            if self.aborted:
                raise Closed
            prepared = self.queue.get(0)
            if prepared is not None:
                self.taken.append(prepared)
            return prepared

    @property
    def has_room(self) -> bool:
        """Whether one more result could go to every sink without waiting, those in flight included."""
        taken = len(self.taken)
        full = [worker for worker in self.workers if worker.queue.room <= taken]
        ready = [worker.takes(taken) for worker in full]  # all are asked: each measures how long
        return all(ready)


class EngineStage:
    """Streams that take turns at engines: one engine for each LR shape, at most ``depth`` frames in flight in each.

    Turns go round the streams that have a frame and room for its result, so that neither a fast stream nor a
    slow disk holds up the others. A stream whose frames change size moves to the engine of the new size, for which the
    others do not wait; one engine that is nobody's then stays for the next size. Results of a stream come in order. An
    engine is closed when its last stream has ended. ``make_engine`` makes what keeps one.

    A stream that is switched to another engine (engine_switch.py) has that one for itself; the others stay where they
    are.
    """

    def __init__(self, make_engine: Callable[[], LiveEngine], clock: Clock = SYSTEM) -> None:
        self.timer = CallTimer(clock)  # in a call of an engine
        self.wake = threading.Event()  # set when a frame comes, a sink took one, a stream ends
        self._make_engine, self._clock, self._stream = make_engine, clock, stream_name.get()
        self._clients: deque[EngineClient] = deque()  # next turn first
        self._shared: list[SharedEngine] = []
        self._submitted = 0
        self._thread: threading.Thread | None = None

    def join(
        self,
        policy: Policy,
        workers: Sequence[SinkWorker],
        emit: Callable[[Result], None],
        ended: Callable[[Sequence[PreparedFrame], BaseException | None], None],
    ) -> EngineClient:
        """A place for one more stream, whose waiting frames are kept by ``policy``. Before ``start``."""
        client = EngineClient(FrameQueue(WAITING, policy, self.wake), workers, emit, ended)
        self._clients.append(client)
        return client

    def open(self, client: EngineClient, shape: tuple[int, int], waited_s: float = 0.0) -> None:
        """Begin to open the engine for LR ``shape`` (H, W), unless another stream has; ``waited_s`` is that of
        ``LiveEngine.begin``. Raises what that raises. Before ``start``."""
        self._place(client, shape).live.begin(shape, waited_s)

    def start(self) -> None:
        """Begin to take turns; may be called once for each stream."""
        if self._thread is None:
            with naming(self._stream):
                thread = stream_thread("clesr engine", self._run)
            thread.start()
            self._thread = thread

    @property
    def opener(self) -> OpenEngine:
        """What opens the engines with which streams begin."""
        return self._make_engine().open_engine

    def make_other(self, open_engine: OpenEngine, scale: int) -> LiveEngine:
        """What keeps an engine of ``open_engine`` for ``scale``, in all else as those with which streams begin."""
        like = self._make_engine()
        return LiveEngine(open_engine, scale, like.clock, consistent=like.consistent, hurried=like.hurried)

    def abort(self, client: EngineClient) -> None:
        """End ``client`` now: frames that wait go to ``ended``, those in flight are finished."""
        client.aborted = True
        self.wake.set()

    def finish(self, client: EngineClient) -> None:
        """No more frames of ``client`` can be put; ``client.done`` is set when all have come through."""
        client.queue.close()
        if self._thread is None and not client.done.is_set():
            self._end(client, None)

    def abandon(self, client: EngineClient) -> None:
        """An engine does not return: end ``client`` without it. What it was given goes to ``ended``."""
        with client.lock:
            if client.done.is_set():
                return
            client.abandoned = client.aborted = True
            taken = list(client.taken)
        if self._thread is not None:
            left_behind.append(self._thread)
        client.queue.close()
        error = EngineError(f"the engine has not answered for {self.timer.busy_s:.0f} s and is given up")
        client.ended([*taken, *client.queue.drain()], error)
        client.done.set()

    def close(self, client: EngineClient) -> None:
        """After ``client.done``: raises what the closing of its engine raised. What ``client`` calls is let go."""
        if self._thread is not None and not self._clients and not client.abandoned:
            self._thread.join()
        client.emit, client.ended = (lambda _result: None), (lambda _stale, _error: None)
        if client.closing_error is not None:
            raise client.closing_error

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while self._clients:
                self._turn()
        except BaseException as broken:  # noqa: BLE001 - raised again on the main thread, by each stream
            error = broken
        for client in list(self._clients):
            self._end(client, error)

    def _turn(self) -> None:
        self.wake.clear()
        client = self._next()
        shared: SharedEngine | None = None
        if client is not None:
            self._catch_up(client)
            try:
                prepared = client.take()
            except Closed:
                self._end(client, None)
                return
            if prepared is not None:
                shared = self._submit(client, prepared)
        if shared is None:
            shared = min((s for s in self._shared if s.owners), key=lambda s: s.owners[0][0], default=None)
            if shared is None:
                self._rest()
                return
        elif len(shared.owners) < shared.live.depth:
            return
        self._emit(shared, [self._call(shared.live.collect)])

    def _rest(self) -> None:
        """The engine has nothing to do."""
        for client in self._clients:
            client.queue.size = WAITING
        self.wake.wait(IDLE_S)

    def _catch_up(self, client: EngineClient) -> None:
        """Let the engine finish what it has before a live stream's next frame is taken, so that none grows old in the
        engine's own queue; while more come than it can take, only the newest waits. Where several streams take turns,
        that would hold up the others."""
        queue = client.queue
        alone = queue.policy is Policy.DROP_OLDEST and len(self._clients) == 1 and not client.aborted
        if alone and client.shared is not None and client.shared.owners:
            self._call(client.shared.live.await_image)
            queue.size = 1 if len(queue) >= WAITING else queue.size

    def _call(self, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """A call of an engine, which may never return."""
        self.timer.since_ns = self._clock.now_ns()
        try:
            return work(*arguments, **options)
        finally:
            self.timer.since_ns = None

    def _next(self) -> EngineClient | None:
        """The stream whose turn it is; it goes behind the others."""
        for client in self._clients:
            if client.aborted or (client.queue.ready and client.has_room):
                self._clients.remove(client)
                self._clients.append(client)
                return client
        return None

    def _submit(self, client: EngineClient, prepared: PreparedFrame) -> SharedEngine | None:
        shape, choice = (prepared.lr.shape[0], prepared.lr.shape[1]), prepared.choice
        if isinstance(choice, EngineChoice) and self._took_over(client, prepared, choice):
            return client.shared
        shared = self._place(client, shape)
        shared.live.alone = len(self._clients) == 1
        results = self._call(shared.live.submit, prepared)
        for each in shared.clients:
            each.restarts += shared.live.restarts - shared.restarts
        shared.restarts = shared.live.restarts
        self._submitted += 1
        shared.owners.append((self._submitted, client))
        self._emit(shared, results)
        return shared

    def _took_over(self, client: EngineClient, prepared: PreparedFrame, choice: EngineChoice) -> bool:
        """Whether ``prepared``, for ``choice``, has its result, after all before it. The first such frame decides: the
        new engine takes over, or the present one goes on, for this frame too. Where the frame is too large for that
        one, its image is a bicubic one."""
        if choice is client.choice:
            return False
        shape, why = (prepared.lr.shape[0], prepared.lr.shape[1]), ""
        if client.shared is not None:
            self._emit(client.shared, self._call(client.shared.live.drain))
        if choice is not client.refused:
            try:
                result = self._call(choice.live.attempt, prepared)
            except KeyboardInterrupt:
                raise
            except BaseException as broken:  # noqa: BLE001 - whatever an engine raises, the stream goes on
                why, client.refused, prepared.told = first_line(broken), choice, None
                choice.settle(choice, choice.live, why)
            else:
                left = self._detach(client)
                client.choice, client.shared = choice, SharedEngine(choice.live, shape, choice, {client})
                self._shared.append(client.shared)
                choice.settle(choice, left, "")
                self._give(client, result)
                return True
        live = client.shared.live if client.shared is not None else self._make_engine()
        try:
            check_size(shape, live.scale)
        except UsageError as too_large:
            self._give(client, choice.live.fail(prepared, why or first_line(too_large)))
            return True
        return False

    def _emit(self, shared: SharedEngine, results: list[Result]) -> None:
        for result in results:
            _, client = shared.owners.popleft()
            self._give(client, result)

    def _give(self, client: EngineClient, result: Result) -> None:
        """``client`` gets the ``result`` of its oldest frame that was taken."""
        with client.lock:
            if not client.abandoned:
                client.taken.popleft()
                client.emit(result)

    def _place(self, client: EngineClient, shape: tuple[int, int]) -> SharedEngine:
        """Where ``client`` finds an engine for ``shape``."""
        present = client.shared
        if present is not None and present.shape == shape:
            return present
        if present is not None:
            self._emit(present, self._call(present.live.drain))
        alike = (shared for shared in self._shared if shared.choice is client.choice)
        place = next((shared for shared in alike if shared.shape == shape), None)
        if place is None and present is not None and len(present.clients) == 1:
            present.shape = shape  # nobody else needs the old size: the upscaler opens its engine anew
            return present
        left = self._left
        if place is None and left is not None:
            place, left.shape = left, shape
        if place is None:
            place = SharedEngine(self._make_engine(), shape)
            self._shared.append(place)
        self._leave(client, keep=present is not None and present.choice is None and left in (None, place))
        place.clients.add(client)
        client.shared = place
        return place

    @property
    def _left(self) -> SharedEngine | None:
        """The engine that a stream has left for another size, and nobody uses."""
        return next((shared for shared in self._shared if not shared.clients), None)

    def _leave(self, client: EngineClient, *, keep: bool = False) -> None:
        live = self._detach(client, keep=keep)
        if live is not None:
            self._close_engine(client, live)

    def _close_engine(self, client: EngineClient, live: LiveEngine) -> None:
        try:
            self._call(live.close)
        except BaseException as closing:  # noqa: BLE001 - raised on the main thread after everything is closed
            client.closing_error = closing

    def _detach(self, client: EngineClient, *, keep: bool = False) -> LiveEngine | None:
        """Take ``client`` from its engine; that engine, where it is nobody's now, unless it is to be kept."""
        shared, client.shared = client.shared, None
        if shared is None:
            return None
        client.info = shared.live.info
        shared.clients.discard(client)
        if shared.clients or keep:
            return None
        self._shared.remove(shared)
        return shared.live

    def _end(self, client: EngineClient, error: BaseException | None) -> None:
        client.queue.close()
        try:
            if client.shared is not None:
                self._emit(client.shared, self._call(client.shared.live.drain))
        except BaseException as broken:  # noqa: BLE001 - as in _run
            error = error or broken
        self._leave(client)
        self._clients.remove(client)
        if not self._clients and (left := self._left) is not None:
            self._shared.remove(left)
            self._close_engine(client, left.live)
        with client.lock:
            if not client.abandoned:
                client.ended([*client.taken, *client.queue.drain()], error)
                client.taken.clear()
                client.done.set()
