"""The engine thread: prepared frames of one or several streams into engines, results back to their streams."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from clesr.pipeline.frame import Result
from clesr.pipeline.mailbox import Closed, Mailbox, Policy
from clesr.pipeline.outlet import Outlet
from clesr.pipeline.upscaler import Job, Upscaler

JOBS = 2  # prepared frames of a stream that may wait for the engine
IDLE_S = 0.1  # longest wait for a frame


@dataclass(eq=False, slots=True)
class Shared:
    """An upscaler, the LR shape it is open for, the streams that use it, and those of the frames in flight."""

    upscaler: Upscaler
    shape: tuple[int, int]
    lanes: set[Lane] = field(default_factory=set)
    owners: deque[tuple[int, Lane]] = field(
        default_factory=deque
    )  # with the count at which they were submitted


@dataclass(eq=False, slots=True)
class Lane:
    """A stream as the engine thread sees it. ``emit`` takes each result, ``ended`` the frames that no engine
    took and what broke the engine thread; both are called on the engine thread."""

    jobs: Mailbox[Job]
    outlets: Sequence[Outlet]
    emit: Callable[[Result], None]
    ended: Callable[[Sequence[Job], BaseException | None], None]
    shared: Shared | None = None
    in_flight: int = 0
    at_hand: Job | None = None  # taken out of the mailbox, not yet by an upscaler
    aborted: bool = False
    closing_error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def has_room(self) -> bool:
        """Whether one more result could go to every outlet without waiting, those in flight included."""
        return all(outlet.box.room > self.in_flight for outlet in self.outlets)

    def close(self) -> None:
        """After ``done``: raises what the closing of its engine raised."""
        if self.closing_error is not None:
            raise self.closing_error


class EngineThread:
    """Streams that take turns at engines: one engine for each LR shape, at most ``depth`` frames in flight in each.

    Turns go round the streams that have a frame and room for its result, so that neither a fast stream nor a
    slow disk holds up the others. A stream whose frames change size moves to the engine of the new size. Results of
    a stream come in order. An engine is closed when its last stream has ended. ``upscaler`` makes what keeps one.
    """

    def __init__(self, upscaler: Callable[[], Upscaler]) -> None:
        self.wake = threading.Event()  # set when a frame comes, a sink took one, a stream ends
        self._upscaler = upscaler
        self._lanes: deque[Lane] = deque()  # next turn first
        self._shared: list[Shared] = []
        self._submitted = 0
        self._thread: threading.Thread | None = None

    def join(
        self,
        policy: Policy,
        outlets: Sequence[Outlet],
        emit: Callable[[Result], None],
        ended: Callable[[Sequence[Job], BaseException | None], None],
    ) -> Lane:
        """A place for one more stream, whose waiting frames are kept by ``policy``. Before ``start``."""
        lane = Lane(Mailbox(JOBS, policy, self.wake), outlets, emit, ended)
        self._lanes.append(lane)
        return lane

    def open(self, lane: Lane, shape: tuple[int, int]) -> None:
        """Open the engine for LR ``shape`` (H, W), unless another stream has; raises what that raises. Before
        ``start``."""
        upscaler = self._place(lane, shape).upscaler
        if upscaler.engine is None:
            upscaler.open(shape)

    def start(self) -> None:
        """Begin to take turns; may be called once for each stream."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="clesr engine", daemon=True)
            thread.start()
            self._thread = thread

    def abort(self, lane: Lane) -> None:
        """End ``lane`` now: frames that wait go to ``ended``, those in flight are finished."""
        lane.aborted = True
        self.wake.set()

    def finish(self, lane: Lane) -> None:
        """Return when every frame of ``lane`` has come through; no more can be put."""
        lane.jobs.close()
        if self._thread is None:
            self._end(lane, None)
        lane.done.wait()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while self._lanes:
                self._turn()
        except BaseException as broken:  # noqa: BLE001 - raised again on the main thread, by each stream
            error = broken
        for lane in list(self._lanes):
            self._end(lane, error)

    def _turn(self) -> None:
        self.wake.clear()
        lane = self._next()
        shared: Shared | None = None
        if lane is not None:
            try:
                if lane.aborted:
                    raise Closed
                job = lane.jobs.get(0)
            except Closed:
                self._end(lane, None)
                return
            if job is not None:
                shared = self._submit(lane, job)
        if shared is None:
            shared = min((s for s in self._shared if s.owners), key=lambda s: s.owners[0][0], default=None)
            if shared is None:
                self.wake.wait(IDLE_S)
                return
        elif not shared.upscaler.full:
            return
        self._emit(shared, [shared.upscaler.collect()])

    def _next(self) -> Lane | None:
        """The stream whose turn it is; it goes behind the others."""
        for lane in self._lanes:
            if lane.aborted or (lane.jobs.ready and lane.has_room):
                self._lanes.remove(lane)
                self._lanes.append(lane)
                return lane
        return None

    def _submit(self, lane: Lane, job: Job) -> Shared:
        lane.at_hand = job
        shared = self._place(lane, (job.lr.shape[0], job.lr.shape[1]))
        results = shared.upscaler.submit(job)
        lane.at_hand = None
        lane.in_flight += 1
        self._submitted += 1
        shared.owners.append((self._submitted, lane))
        self._emit(shared, results)
        return shared

    def _emit(self, shared: Shared, results: list[Result]) -> None:
        for result in results:
            _, lane = shared.owners.popleft()
            lane.in_flight -= 1
            lane.emit(result)

    def _place(self, lane: Lane, shape: tuple[int, int]) -> Shared:
        """Where ``lane`` finds an engine for ``shape``."""
        present = lane.shared
        if present is not None and present.shape == shape:
            return present
        if present is not None:
            self._emit(present, present.upscaler.drain())
        place = next((shared for shared in self._shared if shared.shape == shape), None)
        if place is None and present is not None and len(present.lanes) == 1:
            present.shape = shape  # nobody else needs the old size: the upscaler opens its engine anew
            return present
        if place is None:
            place = Shared(self._upscaler(), shape)
            self._shared.append(place)
        self._leave(lane)
        place.lanes.add(lane)
        lane.shared = place
        return place

    def _leave(self, lane: Lane) -> None:
        shared = lane.shared
        if shared is not None:
            shared.lanes.discard(lane)
            if not shared.lanes:
                self._shared.remove(shared)
                try:
                    shared.upscaler.close()
                except BaseException as closing:  # noqa: BLE001 - raised on the main thread after everything is closed
                    lane.closing_error = closing

    def _end(self, lane: Lane, error: BaseException | None) -> None:
        lane.jobs.close()
        try:
            if lane.shared is not None:
                self._emit(lane.shared, lane.shared.upscaler.drain())
        except BaseException as broken:  # noqa: BLE001 - as in _run
            error = error or broken
        self._leave(lane)
        self._lanes.remove(lane)
        at_hand = [lane.at_hand] if lane.at_hand is not None else []
        lane.ended([*at_hand, *lane.jobs.drain()], error)
        lane.done.set()
