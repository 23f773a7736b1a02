"""The engine of a running stream: opened for each size, replaced when it fails."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from clesr.engines.common.clock import Clock
from clesr.engines.common.errors import EngineError, first_line, on_error
from clesr.engines.common.resample import quantise, resize
from clesr.engines.engine import CheckingOnRequest, Engine, EngineInfo, SelfChecking, SelfCorrecting
from clesr.engines.results import check_opened, check_size, collect_checked, reprojected_checked, submit
from clesr.pipeline.fidelity import FidelityCheck, no_upscaled_image
from clesr.pipeline.frame import Fidelity, Image, Outcome, PreparedFrame, Result, Times
from clesr.pipeline.messages import SafeLogger

log = SafeLogger(logging.getLogger(__name__))
RETRY_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # waits before the engine is opened again, by failures in a row

OpenEngine = Callable[[tuple[int, int]], Engine]
"""Opens an engine for an LR shape (H, W): an ``EngineOpener`` (engines/opener.py), or what stands in for one."""


class LiveEngine:
    """Turns prepared frames into results in order, whatever the engine does. Used by one thread.

    A change of size opens an engine for the new size. A frame on which the engine raises, or of which it makes
    something that is no SR image of it (engines/results.py), becomes a FAILED result with the bicubic image, and the
    engine is opened again: for the next frame the first time, later after growing waits during which frames go on as
    FAILED. ``failure`` is why the engine is out of service, else None; ``info`` is what the last engine that started
    said of itself, ``depth`` how many frames it takes at a time. Every image of the engine is checked against the
    measured one, and with ``consistent`` corrected by it (pipeline/fidelity.py); what earlier frames of its stream
    showed is in it before that, where the stream has a ``temporal``.

    A KeyboardInterrupt goes through; ``drain`` then gives a FAILED result for each frame that was taken.
    """

    def __init__(
        self, open_engine: OpenEngine, scale: int, clock: Clock, *, consistent: bool = False
    ) -> None:
        self.open_engine, self.scale, self.clock = open_engine, scale, clock
        self.consistent = consistent
        self.engine: Engine | None = None
        self.info: EngineInfo | None = None
        self.failure: str | None = None
        self._check: FidelityCheck | None = None
        self._checking: SelfChecking | None = None  # the engine, where it has done a part of the check
        self._shape, self.depth = (0, 0), 1
        self._in_flight: deque[PreparedFrame] = deque()
        self._ready: deque[Result] = deque()
        self._failures = 0
        self._retry_ns = clock.now_ns()
        self._interrupted = False

    def open(self, shape: tuple[int, int]) -> None:
        """Open an engine for LR ``shape`` (H, W) in place of the present one; raises what that raises."""
        self.close()
        check_size(shape, self.scale)
        with _no_exit("opened"):
            self.engine = self._opened(shape)

    def submit(self, prepared: PreparedFrame) -> list[Result]:
        """Start ``prepared``. Returns the results that had to come first or came at once, oldest first.

        Raises UsageError where its SR image would be too large. ``prepared`` is not taken where this raises.
        """
        shape = (prepared.lr.shape[0], prepared.lr.shape[1])
        if self.failure or self.engine is None or self._shape != shape:
            check_size(shape, self.scale)
            self._collect_all()
            self._reopen(shape)
        prepared.submitted_ns = self.clock.now_ns()
        if not self._start(prepared):
            self._collect_all()
            self._ready.append(self._fallback(prepared))
        return self._take()

    def drain(self) -> list[Result]:
        """Collect everything in flight, oldest first."""
        self._collect_all()
        return self._take()

    def collect(self) -> Result:
        """The oldest result in flight."""
        if not self._ready:
            self._collect_one()
        return self._ready.popleft()

    def close(self) -> None:
        """Free the engine. Nothing may be in flight."""
        engine, self.engine, self._check, self._checking = self.engine, None, None, None
        if engine is not None:
            with _no_exit("closed"):
                engine.close()

    def _opened(self, shape: tuple[int, int]) -> Engine:
        engine = self.open_engine(shape)
        with on_error(engine.close):
            check_opened(engine, shape, self.scale)
            self._check = FidelityCheck(shape, self.scale, engine.info.limit_db, consistent=self.consistent)
            if isinstance(engine, CheckingOnRequest):
                engine.check()
            self._checking = engine if isinstance(engine, SelfChecking) else None
            if self.consistent and isinstance(engine, SelfCorrecting):
                engine.correct()
        self.info, self._shape, self.depth = engine.info, shape, engine.depth
        log.debug(f"opened for {shape[1]}x{shape[0]} pixels: {engine.info}")
        return engine

    def _reopen(self, shape: tuple[int, int]) -> None:
        if self.failure and self.clock.now_ns() < self._retry_ns:
            return
        try:
            self.open(shape)
        except Exception as error:  # noqa: BLE001 - closing or opening a broken engine may raise anything
            self._fail(error)
        else:
            self.failure = None

    def _start(self, prepared: PreparedFrame) -> bool:
        """Hand ``prepared`` to the engine; whether that went."""
        if self.failure or self.engine is None or self._interrupted:
            return False
        self._in_flight.append(prepared)
        started = False
        try:
            if self.engine.info.levels and prepared.guide is not None:
                prepared.told = prepared.guide(prepared.frame, prepared.lr)
            submit(self.engine, prepared.lr, prepared.told.guidance if prepared.told else None)
            started = True
        except KeyboardInterrupt:
            self._interrupted = True
            raise
        except BaseException as error:  # noqa: BLE001 - whatever an engine raises, the stream goes on
            self._fail(error)
        finally:
            if not started:
                self._in_flight.pop()
        return started

    def _collect_all(self) -> None:
        while self._in_flight:
            self._collect_one()

    def _collect_one(self) -> None:
        """Make the oldest frame in flight a result. It stays in flight until that is done."""
        prepared = self._in_flight[0]
        try:
            result = self._fallback(prepared) if self._interrupted else self._upscaled(prepared)
        except KeyboardInterrupt:
            self._interrupted = True
            raise
        except BaseException as error:  # noqa: BLE001 - whatever an engine raises, the stream goes on
            self._fail(error)
            result = self._fallback(prepared)
        self._ready.append(result)
        self._in_flight.popleft()

    def _upscaled(self, prepared: PreparedFrame) -> Result:
        """What the engine makes of ``prepared``, the oldest in flight; raises what is wrong with it."""
        engine, check = self.engine, self._check
        assert engine is not None
        assert check is not None
        image = collect_checked(engine, prepared.lr, self.scale)
        name, frames, noise = engine.info.engine, None, 0.0
        reprojected = reprojected_checked(self._checking, prepared.lr, name) if self._checking else ()
        if prepared.temporal is not None and engine.info.model_hash:  # interpolation is what it always is
            if prepared.alone:
                prepared.temporal.reset()
            trust = prepared.told.guidance.trust if prepared.told else None
            fused = prepared.temporal(prepared.lr, image, prepared.frame.number, trust)
            if fused is not None:
                reprojected = reprojected if fused.image is image else ()
                image, frames, noise = fused
        image, found = check(prepared.lr, image, reprojected, noise)
        if wrong := no_upscaled_image(prepared.lr, found):
            raise EngineError(f"the {name} engine gave {wrong}")
        if self._failures and not self.failure:
            self._failures = 0
            log.warning("the engine is back")
        return self._result(prepared, image, Outcome.UPSCALED, found, frames)

    def _take(self) -> list[Result]:
        results = list(self._ready)
        self._ready.clear()
        return results

    def _fail(self, error: BaseException) -> None:
        """Take the engine out of service: it is opened again before a later frame."""
        words = first_line(error)
        if not self.failure:
            log.warning(f"the engine failed ({words}); bicubic images, marked, until it is back")
        wait = RETRY_S[min(self._failures, len(RETRY_S) - 1)]
        self._failures += 1
        self._retry_ns = self.clock.now_ns() + int(wait * 1e9)
        self.failure = words

    def _fallback(self, prepared: PreparedFrame) -> Result:
        height, width = (n * self.scale for n in prepared.lr.shape)
        bicubic = quantise(resize(prepared.lr, height, width), prepared.lr.dtype)
        if prepared.temporal is not None:
            prepared.temporal.reset()
        return self._result(prepared, bicubic, Outcome.FAILED)

    def _result(
        self,
        prepared: PreparedFrame,
        image: Image,
        outcome: Outcome,
        check: Fidelity | None = None,
        frames: float | None = None,
    ) -> Result:
        times = Times(
            prepared.frame.time_ns, prepared.prepared_ns, prepared.submitted_ns, self.clock.now_ns()
        )
        model = self.info.model if self.info else ""
        fidelity = check.db if check else None
        reason = self.failure or "" if outcome is Outcome.FAILED else ""
        image.flags.writeable = False  # it is ours alone until now
        told = prepared.told if outcome is Outcome.UPSCALED else None
        return Result(
            prepared.frame,
            prepared.lr,
            image,
            outcome,
            self.scale,
            times,
            model,
            fidelity,
            check,
            levels=prepared.levels,
            told=told,
            frames=frames,
            reason=reason,
        )


@contextmanager
def _no_exit(what: str) -> Iterator[None]:
    """An engine that raises SystemExit while it is ``what`` does not end the program: EngineError instead."""
    try:
        yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise EngineError(f"the engine raised {type(error).__name__} when it was {what}") from error
