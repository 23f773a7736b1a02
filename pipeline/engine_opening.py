"""An engine opened for a stream, with the check of its images; also on a thread of its own, while frames go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from clesr.engines.common.errors import EngineError, first_line, on_error
from clesr.engines.engine import CheckingOnRequest, Engine, SelfChecking, SelfCorrecting
from clesr.engines.memory import trim_memory
from clesr.engines.results import check_opened
from clesr.pipeline.fidelity import FidelityCheck
from clesr.pipeline.messages import SafeLogger, stream_thread
from clesr.pipeline.watchdog import left_behind

log = SafeLogger(logging.getLogger(__name__))

OpenEngine = Callable[[tuple[int, int]], Engine]
"""Opens an engine for an LR shape (H, W): an ``EngineOpener`` (engines/opener.py), or what stands in for one."""


@dataclass(frozen=True, slots=True)
class OpenedEngine:
    """An engine for an LR ``shape`` (H, W) and the ``check`` of its images, a part of which ``checking`` does, where
    that is given: the engine itself."""

    engine: Engine
    shape: tuple[int, int]
    check: FidelityCheck
    checking: SelfChecking | None


def open_with_check(
    open_engine: OpenEngine, shape: tuple[int, int], scale: int, *, consistent: bool
) -> OpenedEngine:
    """An engine for LR ``shape`` (H, W) and ``scale``, which corrects its images where it can and that is wanted.
    Raises what opening raises, EngineError where the engine is not what it says."""
    with _no_exit("opened"):
        engine = open_engine(shape)
        with on_error(engine.close):
            check_opened(engine, shape, scale)
            check = FidelityCheck(shape, scale, engine.info.limit_db, consistent=consistent)
            if isinstance(engine, CheckingOnRequest):
                engine.check()
            checking = engine if isinstance(engine, SelfChecking) else None
            if consistent and isinstance(engine, SelfCorrecting):
                engine.correct()
    return OpenedEngine(engine, shape, check, checking)


def close_engine(engine: Engine) -> None:
    """Free ``engine``; raises what that raises."""
    with _no_exit("closed"):
        engine.close()
    trim_memory()


class EngineOpening:
    """``work``, which opens an engine, on a thread of its own. ``result`` is for when it is ``done``."""

    def __init__(self, work: Callable[[], OpenedEngine]) -> None:
        self._opened: OpenedEngine | None = None
        self._error: Exception | None = None
        self._unwanted = False
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = stream_thread("clesr engine opening", self._run, work)
        self._thread.start()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def wait(self, seconds: float) -> bool:
        """Whether it is ``done`` within ``seconds``."""
        return self._done.wait(seconds)

    def result(self) -> OpenedEngine:
        """The engine, which is the caller's now; raises what opening it raised."""
        if self._error is not None:
            raise self._error
        opened, self._opened = self._opened, None
        assert opened is not None
        return opened

    def give_up(self, seconds: float) -> None:
        """Nobody wants the engine any more: it is closed where it is there, or when it comes. Waits for that at most so
        long."""
        with self._lock:
            self._unwanted = True
            opened, self._opened = self._opened, None
        if opened is not None:
            close_engine(opened.engine)
        self._thread.join(seconds)
        if self._thread.is_alive():
            left_behind.append(self._thread)
            log.warning(f"the engine is still being opened after {seconds:.0f} s and is given up")

    def _run(self, work: Callable[[], OpenedEngine]) -> None:
        try:
            opened: OpenedEngine | None = work()
        except BaseException as error:  # noqa: BLE001 - whatever an engine raises, the stream goes on
            self._error = error if isinstance(error, Exception) else EngineError(first_line(error))
            self._error.__traceback__ = None  # whose frames hold what holds this
        else:
            with self._lock:
                if not self._unwanted:
                    self._opened, opened = opened, None
            if opened is not None:
                with suppress(Exception):
                    close_engine(opened.engine)
        trim_memory()
        self._done.set()


@contextmanager
def _no_exit(what: str) -> Iterator[None]:
    """An engine that raises SystemExit while it is ``what`` does not end the program: EngineError instead."""
    try:
        yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise EngineError(f"the engine raised {type(error).__name__} when it was {what}") from error
