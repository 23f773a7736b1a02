"""The engine of a running stream: opened for each size, replaced when it fails."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from clesr.engines.common.clock import Clock
from clesr.engines.common.errors import EngineError, first_line
from clesr.engines.common.resample import quantise, resize
from clesr.engines.engine import Engine, EngineInfo, SelfChecking
from clesr.engines.guidance import guide
from clesr.engines.memory import free_memory
from clesr.engines.results import check_size, collect_checked, reprojected_checked, run_frame, submit
from clesr.pipeline.engine_opening import (
    EngineOpening,
    OpenedEngine,
    OpenEngine,
    close_engine,
    open_with_check,
)
from clesr.pipeline.fidelity import FidelityCheck, no_upscaled_image
from clesr.pipeline.frame import Fidelity, Image, Outcome, PreparedFrame, Result, Times
from clesr.pipeline.messages import SafeLogger

log = SafeLogger(logging.getLogger(__name__))
__all__ = ["LiveEngine", "OpenEngine"]
RETRY_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # before it is opened again, by failures in a row
WORKED_S = 0.5  # of work after which a failure is no longer one in a row
BEGIN_S = 20.0  # before a live stream begins without an engine, which is still being opened
CHANGE_S = 0.5  # before it goes on without one, where frames have another size
OPENING = "the engine is still being opened"
GIVEN_S = 1.0  # for an engine that is being opened when nobody wants it any more

EngineImage = tuple[Image, Sequence[Image]]
"""An image of an engine, and what it degraded of it by itself."""


class LiveEngine:
    """Turns prepared frames into results in order, whatever the engine does. Used by one thread.

    A change of size opens an engine for the new size. A frame on which the engine raises, or of which it makes
    something that is no SR image of it (engines/results.py), becomes a FAILED result with the bicubic image, and the
    engine is opened again: for the next frame the first time, later after growing waits during which frames go on as
    FAILED. Where the stream is ``hurried``, as live ones are, engines are opened on a thread of their own, and frames
    go on as FAILED where that takes long, or the stream is not ``alone`` and others would wait for it, too.
    ``restarts`` counts how often one was open again. ``failure`` is why the engine is out of service, else None;
    ``info`` is what the last engine that started said of itself, ``depth`` how many frames it takes at a time.
    ``settings`` are those of the run that were switched to with it. Every image of the engine is checked against the
    measured one, and with ``consistent`` corrected by it (pipeline/fidelity.py); what earlier frames of its stream
    showed is in it before that, where the stream has a ``temporal``.

    A KeyboardInterrupt goes through; ``drain`` then gives a FAILED result for each frame that was taken.
    """

    def __init__(
        self,
        open_engine: OpenEngine,
        scale: int,
        clock: Clock,
        *,
        consistent: bool = False,
        hurried: bool = False,
    ) -> None:
        self.open_engine, self.scale, self.clock = open_engine, scale, clock
        self.consistent, self.hurried = consistent, hurried
        self.settings: Mapping[str, Any] = {}
        self.alone = True
        self.engine: Engine | None = None
        self.info: EngineInfo | None = None
        self.failure: str | None = None
        self.restarts = 0
        self._check: FidelityCheck | None = None
        self._checking: SelfChecking | None = None  # the engine, where it has done a part of the check
        self._shape, self.depth = (0, 0), 1
        self._in_flight: deque[PreparedFrame] = deque()
        self._ready: deque[Result] = deque()
        self._opening: EngineOpening | None = None
        self._failures = 0  # in a row
        self._away = False  # since it failed, until it has made an image
        self._worked_ns: int | None = None  # when it made its first image
        self._made: EngineImage | BaseException | None = None  # of the oldest in flight, by ``await_image``
        self._retry_ns = clock.now_ns()
        self._interrupted = False

    def open(self, shape: tuple[int, int]) -> None:
        """Open an engine for LR ``shape`` (H, W) in place of the present one; raises what that raises."""
        self.close()
        check_size(shape, self.scale)
        self._use(self._opened(shape))

    def begin(self, shape: tuple[int, int], waited_s: float = 0.0) -> None:
        """As ``open``, where none is open; a ``hurried`` stream waits for it at most ``BEGIN_S``, of which ``waited_s``
        are over."""
        if self.engine is not None or self._opening is not None:
            return
        if self.hurried:
            check_size(shape, self.scale)
            self._open_beside(shape, max(0.0, BEGIN_S - waited_s))
        else:
            self.open(shape)

    def prove(self, lr: Image) -> None:
        """Have the engine, open for images like ``lr`` (H, W), make an image of it that nobody gets, which also warms
        it up. Raises what the engine raises, and EngineError where that is no up-scaled image of ``lr``. Nothing may be
        in flight."""
        engine = self._open_engine
        image = run_frame(engine, lr, guide(lr) if engine.info.levels else None)
        _, found = FidelityCheck(engine.info.lr_shape, self.scale)(lr, image)
        if wrong := no_upscaled_image(lr, found):
            raise EngineError(f"the {engine.info.engine} engine gave {wrong}")

    def attempt(self, prepared: PreparedFrame) -> Result:
        """The result of ``prepared``, with nothing else in flight; an engine is opened where none is open for its size.
        Raises whatever goes wrong, also where a ``hurried`` stream would have to wait for that: then nothing but
        ``fail`` and ``close`` may follow."""
        shape = (prepared.lr.shape[0], prepared.lr.shape[1])
        if self.engine is None or self._shape != shape:
            if self.hurried:
                raise EngineError(f"frames are {shape[1]}x{shape[0]} now, which was not known; switch again")
            self.open(shape)
        prepared.submitted_ns = self.clock.now_ns()
        self._hand_over(self._open_engine, prepared)
        return self._upscaled(prepared)

    def fail(self, prepared: PreparedFrame, why: str) -> Result:
        """The bicubic image of ``prepared``, for which there is no other: ``why`` in a line."""
        self._fail(EngineError(why))
        self.failure = why
        return self._fallback(prepared)

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

    def await_image(self) -> None:
        """Have the engine make the image of the oldest frame in flight, so that it can be given the next one before
        this image is looked at. Raises KeyboardInterrupt alone."""
        if self._ready or self._made is not None or not self._in_flight:
            return
        try:
            self._made = self._image_of(self._in_flight[0])
        except KeyboardInterrupt:
            self._interrupted = True
            raise
        except BaseException as error:  # noqa: BLE001 - raised again where it is collected
            self._made = error

    def collect(self) -> Result:
        """The oldest result in flight."""
        if not self._ready:
            self._collect_one()
        return self._ready.popleft()

    def close(self) -> None:
        """Free the engine. Nothing may be in flight."""
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.give_up(GIVEN_S)
        engine = self._take_away()
        if engine is not None:
            close_engine(engine)

    def _take_away(self) -> Engine | None:
        engine, self.engine, self._check, self._checking = self.engine, None, None, None
        return engine

    def _opened(self, shape: tuple[int, int], instead_of: Engine | None = None) -> OpenedEngine:
        if instead_of is not None:
            close_engine(instead_of)
        return open_with_check(self.open_engine, shape, self.scale, consistent=self.consistent)

    def _use(self, opened: OpenedEngine) -> None:
        engine = opened.engine
        self.engine, self._check, self._checking = engine, opened.check, opened.checking
        self.info, self._shape, self.depth = engine.info, opened.shape, engine.depth
        self._worked_ns = None
        height, width = opened.shape
        log.debug(f"opened for {width}x{height} pixels: {engine.info}")

    def _reopen(self, shape: tuple[int, int]) -> None:
        """Have an engine for LR ``shape``, where that goes now."""
        try:
            if self._opening is not None and not self._take_opened(shape):
                return
            if self.failure and self.clock.now_ns() < self._retry_ns:
                return
            if self.hurried:
                self._open_beside(shape, CHANGE_S if self.alone and not self.failure else 0.0)
                return
            self.open(shape)
            self._is_open()
        except Exception as error:  # noqa: BLE001 - closing or opening a broken engine may raise anything
            self._fail(error, opening=True)

    def _open_beside(self, shape: tuple[int, int], seconds: float) -> None:
        """Open an engine for LR ``shape`` on a thread of its own, and use it where it is open within ``seconds``; else
        frames go on without. Raises what opening raises by then."""
        self._opening = EngineOpening(partial(self._opened, shape, self._take_away()))
        if self._opening.wait(seconds):
            self._take_opened(shape)
        elif not self.failure:
            self.failure = OPENING
            after = f" after {seconds:.3g} s" if seconds else ""
            log.warning(f"{OPENING}{after}; bicubic images, marked, until it is there")

    def _take_opened(self, shape: tuple[int, int]) -> bool:
        """Use the engine that was being opened, where it is open by now; whether one for ``shape`` must be opened all
        the same. Raises what opening raised."""
        opening = self._opening
        if opening is None or not opening.done:
            return False
        self._opening = None
        self._use(opening.result())
        self._is_open()
        return self._shape != shape

    def _is_open(self) -> None:
        if self.failure == OPENING:
            log.warning("the engine is open")
        elif self.failure:
            self.restarts += 1
        self.failure = None

    def _start(self, prepared: PreparedFrame) -> bool:
        """Hand ``prepared`` to the engine; whether that went."""
        if self.failure or self.engine is None or self._interrupted:
            return False
        self._in_flight.append(prepared)
        started = False
        try:
            self._hand_over(self.engine, prepared)
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

    def _hand_over(self, engine: Engine, prepared: PreparedFrame) -> None:
        if engine.info.levels and prepared.guide is not None:
            prepared.told = prepared.guide(prepared.frame, prepared.lr)
        submit(engine, prepared.lr, prepared.told.guidance if prepared.told else None)

    @property
    def _open_engine(self) -> Engine:
        assert self.engine is not None
        return self.engine

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
        self._made = None

    def _upscaled(self, prepared: PreparedFrame) -> Result:
        """What the engine makes of ``prepared``, the oldest in flight; raises what is wrong with it."""
        engine, check = self._open_engine, self._check
        assert check is not None
        made, self._made = self._made, None
        if isinstance(made, BaseException):
            raise made
        image, reprojected = made or self._image_of(prepared)
        name, frames, noise = engine.info.engine, None, 0.0
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
        if not self.failure:
            self._works()
        return self._result(prepared, image, Outcome.UPSCALED, found, frames)

    def _works(self) -> None:
        """It made an image, and nothing in flight before that failed."""
        if self._worked_ns is None:
            self._worked_ns = self.clock.now_ns()
        if self._away:
            self._away = False
            log.warning("the engine is back")

    def _image_of(self, prepared: PreparedFrame) -> EngineImage:
        """The engine's image of ``prepared``, the oldest in flight; raises what is wrong with it."""
        engine = self._open_engine
        image = collect_checked(engine, prepared.lr, self.scale)
        if self._checking is None:
            return image, ()
        return image, reprojected_checked(self._checking, prepared.lr, engine.info.engine)

    def _take(self) -> list[Result]:
        results = list(self._ready)
        self._ready.clear()
        return results

    def _fail(self, error: BaseException, *, opening: bool = False) -> None:
        """Take the engine out of service: it is opened again before a later frame. What it still had in flight is part
        of the same failure; that it could not be opened is another."""
        if self.failure and not opening:
            return
        words, now = first_line(error), self.clock.now_ns()
        if self._worked_ns is not None and now - self._worked_ns >= WORKED_S * 1e9:
            self._failures = 0
        self._worked_ns = None
        wait = RETRY_S[min(self._failures, len(RETRY_S) - 1)]
        if not self.failure:
            log.warning(f"the engine failed ({words}); bicubic images, marked, until it is back")
        elif self._failures < len(RETRY_S):
            when = f"in {wait:g} s" if wait else "at once"
            log.warning(f"the engine cannot be opened ({words}); tried again {when}")
        self._failures += 1
        self._retry_ns = now + int(wait * 1e9)
        self.failure, self._away = words, True

    def _fallback(self, prepared: PreparedFrame) -> Result:
        try:
            bicubic = self._bicubic(prepared.lr)
        except MemoryError:  # as the engine's error may have been: what it left is freed
            free_memory()
            bicubic = self._bicubic(prepared.lr)
        if prepared.temporal is not None:
            prepared.temporal.reset()
        return self._result(prepared, bicubic, Outcome.FAILED)

    def _bicubic(self, lr: Image) -> Image:
        height, width = (n * self.scale for n in lr.shape)
        return quantise(resize(lr, height, width), lr.dtype)

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
            cores=prepared.cores,
            told=told,
            frames=frames,
            reason=reason,
            corner=prepared.corner,
            engine=self.info,
            settings=self.settings,
        )
