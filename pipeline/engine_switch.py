"""Another engine for a running stream: opened beside the present one, tried, and in its place from one frame on.

any thread: request -> thread of its own: open, try, offer -> source thread: take, for the frame that comes
-> engine thread: settle, when the first image is there or the old engine goes on -> own thread: close what is left
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from clesr.engines.common.errors import UsageError, first_line
from clesr.engines.engine import Engine
from clesr.engines.models.registry import SCALES
from clesr.engines.results import check_size
from clesr.pipeline.frame import Image
from clesr.pipeline.live_engine import LiveEngine, OpenEngine
from clesr.pipeline.messages import SafeLogger, stream_thread
from clesr.pipeline.watchdog import left_behind

LOOK_S = 0.1  # between two looks at an engine that is being opened at the end

log = SafeLogger(logging.getLogger(__name__))
STATED = ("model", "engine", "device", "precision", "threads")  # by a session, of how an engine was chosen


@runtime_checkable
class SwitchingOpener(Protocol):
    """An OpenEngine that knows what was asked for, and can be had for something else: EngineOpener."""

    @property
    def given(self) -> Mapping[str, Any]:
        """Settings, ``scale`` and ``model`` among them."""

    def switched(self, scale: int, model: str) -> OpenEngine:
        """The same for another scale and model."""

    def __call__(self, shape: tuple[int, int], /) -> Engine: ...


@dataclass(frozen=True, slots=True)
class EngineAim:
    """An engine that is in use, or wanted: of ``opener``, for ``scale`` and ``model``, "" where nobody says which."""

    opener: OpenEngine
    scale: int
    model: str = ""

    @staticmethod
    def of(opener: OpenEngine, scale: int) -> EngineAim:
        if isinstance(opener, SwitchingOpener):
            return EngineAim(opener, opener.given["scale"], opener.given["model"])
        return EngineAim(opener, scale)

    def but(self, scale: int | None, model: str | None) -> EngineAim:
        """The same with another scale or model. Raises UsageError where the opener has no other."""
        if not isinstance(self.opener, SwitchingOpener):
            raise UsageError(
                "the engines of this run come from a function of its own, which has no other scale or model; "
                "give the function that opens the new one"
            )
        return EngineAim(self.opener, scale or self.scale, model or self.model)

    def open_engine(self) -> OpenEngine:
        """What opens it; raises what an unknown model raises."""
        opener = self.opener
        if not isinstance(opener, SwitchingOpener) or EngineAim.of(opener, self.scale) == self:
            return opener
        return opener.switched(self.scale, self.model)

    def __str__(self) -> str:
        return f"x{self.scale} {self.model}".rstrip()


@dataclass(eq=False, slots=True)
class EngineChoice:
    """An engine that is to take over a stream: ``live`` has it, open and tried. ``taken`` once a frame was captured for
    it. The engine thread then calls ``settle`` once, with what is to be closed and why the engine did not take
    over, empty where it did."""

    aim: EngineAim
    live: LiveEngine
    settle: Callable[[EngineChoice, LiveEngine | None, str], None]
    taken: bool = False
    settled: bool = False
    left: LiveEngine | None = None


class EngineSwitch:
    """The engine of one stream, and the one that is to take its place; at most one is opened at a time.

    ``make`` makes what keeps an engine of an opener for a scale, ``newest`` gives the LR image that came last and its
    shape (H, W), both None where that is not known. ``choice`` is the engine for which the next frame is captured,
    None for that with which the run began; ``words`` say what is being switched to, ``error`` why the last switch
    came to nothing; both may be empty.
    """

    def __init__(
        self,
        first: EngineAim,
        make: Callable[[OpenEngine, int], LiveEngine],
        newest: Callable[[], tuple[Image | None, tuple[int, int] | None]],
    ) -> None:
        self.choice: EngineChoice | None = None
        self.words = self.error = ""
        self.first_scale = first.scale
        self._make, self._newest = make, newest
        self._aim = self._now = first
        self._confirmed: EngineChoice | None = None  # what has made an image
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = self._hung = False

    def request(self, scale: int | None, model: str | None, opener: OpenEngine | None) -> None:
        """Any thread: what is not given stays as it was asked for last. Replaces a request that waits. Raises
        UsageError for what cannot work."""
        with self._changed:
            if self._closed:
                raise UsageError("the run has ended, and with it its engine")
            last = self._aim
            aim = EngineAim.of(opener, scale or last.scale) if opener else last.but(scale, model)
            if aim.scale not in SCALES:
                raise UsageError(f"scale {aim.scale} is not one of {', '.join(map(str, SCALES))}")
            _, shape = self._newest()
            if shape is not None:
                check_size(shape, aim.scale)
            self.error = ""
            self._aim = self._now if aim == self._now else aim
            self._changed.notify_all()
            if self._aim is self._now:
                return
            self.words = f"{aim}: opening"
            if self._thread is None:
                self._thread = stream_thread("clesr switch", self._work)
                self._thread.start()

    def take(self, shape: tuple[int, int]) -> EngineChoice | None:
        """Source thread: the engine that makes the image of a frame of LR ``shape`` (H, W), and of those after it."""
        with self._changed:
            choice = self.choice
            if choice is None or choice.taken:
                return choice
            try:
                check_size(shape, choice.aim.scale)
            except UsageError as error:
                self._settle(choice, choice.live, str(error))
            else:
                choice.taken = True
            return self.choice

    def close(self, seconds: float, look: Callable[[], None] = lambda: None, *, hung: bool = False) -> None:
        """The engine thread has ended, or is ``hung``: free what was opened and not taken over, and give up after so
        many seconds; ``look`` is called while that takes time."""
        with self._changed:
            self._closed, self._hung, thread = True, hung, self._thread
            self._changed.notify_all()
        if thread is not None:
            for _ in range(round(seconds / LOOK_S)):
                thread.join(LOOK_S)
                if not thread.is_alive():
                    break
                look()
            if thread.is_alive():
                left_behind.append(thread)
                log.warning(f"{self._aim} is still being opened after {seconds:.0f} s and is given up")
        self.choice = self._confirmed = None  # which know this, as do those that gave ``newest`` and ``make``
        self._newest = lambda: (None, None)

    def _work(self) -> None:
        while (aim := self._next()) is not None:
            if (choice := self._opened(aim)) is not None:
                left = self._hand_over(choice)
                if left is not None:
                    _close(left)

    def _next(self) -> EngineAim | None:
        with self._changed:
            if self._closed or self._aim is self._now:
                self._thread, self.words = None, ""
                return None
            self.words = f"{self._aim}: opening"
            return self._aim

    def _opened(self, aim: EngineAim) -> EngineChoice | None:
        """The engine ``aim``, open and tried on the last image, where that goes."""
        live: LiveEngine | None = None
        try:
            opener = aim.open_engine()
            live = self._make(opener, aim.scale)
            lr, shape = self._newest()
            if shape is not None:
                live.open(shape)
            if lr is not None:
                live.prove(lr)
            given = opener.given if isinstance(opener, SwitchingOpener) else {}
            live.settings = {name: given.get(name) for name in STATED}
            return EngineChoice(aim, live, self._settle)
        except BaseException as error:  # noqa: BLE001 - whatever an engine raises, the present one goes on
            if live is not None:
                _close(live)
            with self._changed:
                self._came_to_nothing(aim, first_line(error))
            return None

    def _hand_over(self, choice: EngineChoice) -> LiveEngine | None:
        """Offer ``choice`` to the source thread, and wait for what comes of it; what is then to be closed."""
        with self._changed:
            if self._aim is not choice.aim or self._closed:
                return choice.live
            self.choice, self.words = choice, f"{choice.aim}: ready, it begins with the next frame"
            self._changed.wait_for(
                lambda: choice.settled or self._closed or (not choice.taken and self._aim is not choice.aim)
            )
            self.words = "" if self._aim in (choice.aim, self._now) else self.words
            if choice.settled:
                left, choice.left = choice.left, None
                return left
            self.choice = self._confirmed
            return None if choice.taken and self._hung else choice.live

    def _settle(self, choice: EngineChoice, left: LiveEngine | None, failure: str) -> None:
        with self._changed:
            choice.settled, choice.left = True, left
            if failure:
                self.choice = self._confirmed
                self._came_to_nothing(choice.aim, failure)
            else:
                self._confirmed, self._now = choice, choice.aim
                log.info(f"switched to {choice.live.info}")
            self._changed.notify_all()

    def _came_to_nothing(self, aim: EngineAim, why: str) -> None:
        """``aim`` is given up for the present engine, unless another is wanted by now."""
        if self._aim is aim:
            self._aim = self._now
            self.error = f"{aim} does not take over, {self._now} goes on: {why}"
            log.warning(self.error)


def _close(live: LiveEngine) -> None:
    try:
        live.close()
    except BaseException as error:  # noqa: BLE001 - it is out of use: the stream goes on
        log.warning(f"the engine that is out of use cannot be closed: {first_line(error)}")
