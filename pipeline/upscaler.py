"""The engine of a running stream: opened for each size, replaced when it fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from clesr.engines import Engine, EngineInfo
from clesr.engines.base import SelfChecking
from clesr.engines.resample import quantise, resize
from clesr.pipeline.clock import Clock
from clesr.pipeline.fidelity import FidelityCheck
from clesr.pipeline.frame import Fidelity, Frame, Image, Outcome, Result, Times

RETRY_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # waits before the engine is opened again, by failures in a row

EngineFactory = Callable[[tuple[int, int]], Engine]


@dataclass(slots=True)
class Job:
    """A prepared frame on its way through the engine."""

    frame: Frame
    lr: Image
    prepared_ns: int
    submitted_ns: int = 0


class Upscaler:
    """Turns jobs into results in order, whatever the engine does. Used by one thread.

    A change of size opens an engine for the new size. A frame on which the engine raises becomes a FAILED
    result with the bicubic image, and the engine is opened again: for the next frame the first time,
    later after growing waits during which frames go on as FAILED. ``failure`` is why the engine is
    out of service, else None; ``info`` is what the last engine that started said of itself. Every image of the
    engine is checked against the measured one, and with ``consistent`` corrected by it (pipeline/fidelity.py).
    """

    def __init__(
        self,
        factory: EngineFactory,
        scale: int,
        clock: Clock,
        tell: Callable[[str], None],
        *,
        consistent: bool = False,
    ) -> None:
        self.factory, self.scale, self.clock, self.tell = factory, scale, clock, tell
        self.consistent = consistent
        self._check: FidelityCheck | None = None
        self.engine: Engine | None = None
        self.info: EngineInfo | None = None
        self.failure: str | None = None
        self._in_flight: deque[Job] = deque()
        self._failures = 0
        self._retry_ns = clock.now_ns()

    def open(self, shape: tuple[int, int]) -> None:
        """Open an engine for LR ``shape`` (H, W) in place of the present one; raises what that raises."""
        self.close()
        self.engine = self.factory(shape)
        self.info = self.engine.info
        self._check = FidelityCheck(shape, self.scale, self.info.limit_db, consistent=self.consistent)
        if self.consistent and isinstance(self.engine, SelfChecking):
            self.engine.correct()

    @property
    def waiting(self) -> int:
        """Jobs submitted, not yet collected."""
        return len(self._in_flight)

    @property
    def full(self) -> bool:
        return self.engine is not None and len(self._in_flight) >= self.engine.depth

    def submit(self, job: Job) -> list[Result]:
        """Start ``job``. Returns the results that had to come first or came at once, oldest first."""
        finished = []
        shape = (job.lr.shape[0], job.lr.shape[1])
        if self.failure or self.engine is None or self.engine.info.lr_shape != shape:
            finished = self.drain()
            self._reopen(shape)
        job.submitted_ns = self.clock.now_ns()
        if self.engine is not None and not self.failure:
            try:
                self.engine.submit(job.lr)
            except Exception as error:  # noqa: BLE001 - whatever an engine raises, the stream goes on
                self._fail(error)
            else:
                self._in_flight.append(job)
                return finished
        return [*finished, *self.drain(), self._fallback(job)]

    def drain(self) -> list[Result]:
        """Collect everything in flight, oldest first."""
        return [self.collect() for _ in range(len(self._in_flight))]

    def collect(self) -> Result:
        """The oldest result in flight."""
        job = self._in_flight.popleft()
        assert self.engine is not None
        try:
            image = self.engine.collect()
        except Exception as error:  # noqa: BLE001 - whatever an engine raises, the stream goes on
            self._fail(error)
            return self._fallback(job)
        if self._failures and not self.failure:
            self._failures = 0
            self.tell("the engine is back")
        assert self._check is not None
        again = self.engine.again if isinstance(self.engine, SelfChecking) else ()
        image, check = self._check(job.lr, image, again)
        return self._result(job, image, Outcome.UPSCALED, check)

    def close(self) -> None:
        """Free the engine. Nothing may be in flight."""
        if self.engine is not None:
            engine, self.engine = self.engine, None
            engine.close()

    def _reopen(self, shape: tuple[int, int]) -> None:
        if self.failure and self.clock.now_ns() < self._retry_ns:
            return
        try:
            self.open(shape)
        except Exception as error:  # noqa: BLE001 - closing or opening a broken engine may raise anything
            self._fail(error)
        else:
            self.failure = None

    def _fail(self, error: Exception) -> None:
        """Take the engine out of service: it is opened again before a later frame."""
        if not self.failure:
            self.tell(f"the engine failed ({error}); bicubic images, marked, until it is back")
        wait = RETRY_S[min(self._failures, len(RETRY_S) - 1)]
        self._failures += 1
        self._retry_ns = self.clock.now_ns() + int(wait * 1e9)
        self.failure = str(error) or type(error).__name__

    def _fallback(self, job: Job) -> Result:
        height, width = (n * self.scale for n in job.lr.shape)
        bicubic = quantise(resize(job.lr, height, width), job.lr.dtype)
        return self._result(job, bicubic, Outcome.FAILED)

    def _result(self, job: Job, image: Image, outcome: Outcome, check: Fidelity | None = None) -> Result:
        times = Times(job.frame.time_ns, job.prepared_ns, job.submitted_ns, self.clock.now_ns())
        model = self.info.model if self.info else ""
        fidelity = check.db if check else None
        return Result(job.frame, job.lr, image, outcome, self.scale, times, model, fidelity, check)
