"""What an operator can do to a running stream: actions, which keys, the browser and the control socket all call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import ClesrError, UsageError, first_line
from clesr.engines.common.image import Pixels
from clesr.engines.common.numbers import shortened
from clesr.pipeline.controls.action import REQUIRED, Action, assign_keys
from clesr.pipeline.display.view_state import ViewState
from clesr.pipeline.frame import Result
from clesr.pipeline.messages import naming, stream_name, stream_thread

S = TypeVar("S")
WAIT_S = 5.0  # for an action that waits for a disk or a device
PRESS_S = 0.25  # of that, where a key stands for it: the view must go on
ASKING_NS = 5_000_000_000  # for which a question is open
SURE = "sure"  # the argument that answers a question


class Controls(Generic[S]):
    """The actions on one ``subject``, and how the operator sees it. Any thread.

    ``keys`` gives actions other keys: ``{action: key}``, an empty one for none. ``shown`` is set by an action that
    freezes the view: the result to be shown in place of the newest. ``map``, where frames are joined into one, makes a
    picture of it of a width and height. What an action does on a thread of its own is
    waited for, for ``wait_s`` seconds; it then goes on, the view and the quick actions with it.
    """

    def __init__(
        self,
        subject: S,
        actions: Iterable[Action[S]],
        keys: Mapping[str, str] | None = None,
        *,
        clock: Clock = SYSTEM,
        wait_s: float = WAIT_S,
    ) -> None:
        self.subject, self.wait_s = subject, wait_s
        self.actions = {action.name: action for action in actions}
        self.keys = assign_keys(self.actions.values(), keys or {})
        self.shown: Result | None = None
        self.map: Callable[[int, int], Pixels] | None = None
        self._clock, self._stream = clock, stream_name.get()
        self._view = ViewState()
        self._asked: tuple[str, object] | None = None  # the last action, and by whom
        self._asked_ns = 0
        self._lock = threading.RLock()  # of the view
        self._turn = threading.Lock()  # of the one action that may wait
        self._turns = {name: threading.Lock() for name, action in self.actions.items() if action.long}
        self._going: tuple[str, threading.Thread] | None = None  # in its turn
        self._closed = False

    @property
    def view(self) -> ViewState:
        view = self._view
        if view.asking and self._clock.now_ns() - self._asked_ns > ASKING_NS:
            return self.change(asking="")
        return view

    @property
    def seen(self) -> tuple[ViewState, Result | None]:
        """The view, and what is shown in place of the newest result, of one moment."""
        with self._lock:
            return self.view, self.shown

    def close(self) -> None:
        """Nothing can be done any more; what was shown is let go of."""
        self._closed, self.shown, self.map = True, None, None
        self.subject = None  # type: ignore[assignment]  # which knows this: a circle that only gc would free

    def change(self, **fields: Any) -> ViewState:
        """Change ``fields`` of the view; what it is then."""
        with self._lock:
            self._view = replace(self._view, **fields)
            return self._view

    def call(
        self, name: str, arguments: Mapping[str, object] | None = None, by: object = None
    ) -> dict[str, Any]:
        """Do the action ``name``; ``by`` says who calls: a question is answered by who was asked, by the same action
        while that asks the same. Raises UsageError
        where there is none of that name, or with other arguments, what the action raises, and ClesrError where it does
        not end in time, or another one goes on."""
        return self._call(name, arguments or {}, by, self.wait_s)

    def waits(self, name: str) -> bool:
        """Whether the action ``name`` may wait for a disk or a device; False also where there is none."""
        action = self.actions.get(name)
        return action is not None and not action.quick

    def meant_by(self, key: str) -> str | None:
        """The action that ``key`` stands for; a capital letter that stands for none is the small one."""
        return self.keys.get(key, self.keys.get(key.lower()))

    def press(self, key: str, arguments: Mapping[str, object] | None = None, *, by: object = None) -> bool:
        """Do what ``key`` stands for, with ``arguments`` and ``by`` whom as for ``call``; whether it stands for
        anything. What goes wrong is said in the view."""
        name = self.meant_by(key)
        if name is None:
            return False
        try:
            self._call(name, arguments or {}, by, min(PRESS_S, self.wait_s))
        except Exception as error:  # noqa: BLE001 - a key must not end the view
            self.change(said=f"{name}: {first_line(error)}", asking="")
        return True

    def _call(self, name: str, arguments: Mapping[str, object], by: object, wait_s: float) -> dict[str, Any]:
        action = self.actions.get(name)
        if action is None:
            raise UsageError(f"{shortened(name)} is no action; there are {', '.join(self.actions)}")
        checked = action.checked(arguments)
        if self._closed:
            raise ClesrError(f"the run has ended, and {name} with it")
        if missing := self._missing(action):
            raise UsageError(missing)
        seen = (action.seen(self.subject, **checked),) if action.seen is not None else ()
        do = partial(self._do, partial(action.call, self.subject, *seen, **checked), (name, by))
        if action.quick:
            with self._lock:
                return do()
        going = self._going
        if going is not None and going[1] is threading.current_thread():
            return do()  # a part of the one that goes on
        return self._wait(action, do, wait_s)

    def _missing(self, action: Action[S]) -> str:
        """What this run lacks for ``action``; the reason where that cannot be told."""
        subject = self.subject  # none after the end
        if action.missing is None or subject is None:
            return ""
        try:
            return action.missing(subject)
        except Exception as error:  # noqa: BLE001 - it must not end the views, which all ask
            return first_line(error)

    def _do(self, call: partial[Mapping[str, Any] | None], asked: tuple[str, object]) -> dict[str, Any]:
        with naming(self._stream):
            told = dict(call() or {})
            question = told.get("asking")
            if SURE in call.keywords and question and (question, asked) == (self.view.asking, self._asked):
                told = dict(call(**{SURE: True}) or {})
        with self._lock:
            self._asked, self._asked_ns = asked, self._clock.now_ns()
            self.change(said=told.get("said", ""), asking=told.get("asking", ""))
        return told

    def _wait(self, action: Action[S], do: Callable[[], dict[str, Any]], wait_s: float) -> dict[str, Any]:
        """``do`` what ``action`` does, on a thread of its own."""
        if not self._turn_of(action).acquire(timeout=wait_s):
            going = action.name if action.long else self._going[0] if self._going else "another action"
            raise ClesrError(f"{action.name} was not begun: {going} has not ended yet; try again later")
        done: Future[dict[str, Any]] = Future()
        thread = stream_thread("clesr action", self._work, action, do, done)
        if not action.long:
            self._going = action.name, thread
        try:
            thread.start()
        except BaseException:
            self._end_turn(action)
            raise
        try:
            return done.result(wait_s)
        except TimeoutError:
            if done.cancel():
                raise ClesrError(
                    f"{action.name} has not ended within {wait_s:g} s; it goes on, and says so when it has"
                ) from None
            return done.result()  # it ended just now, or raised a TimeoutError of its own

    def _work(
        self, action: Action[S], do: Callable[[], dict[str, Any]], done: Future[dict[str, Any]]
    ) -> None:
        told: dict[str, Any] = {}
        failure: BaseException | None = None
        try:
            told = do()
        except BaseException as error:  # noqa: BLE001 - told to whoever called, or in the view
            failure = error
        self._end_turn(action)
        waited = done.set_running_or_notify_cancel()  # False where nobody waits any more
        if not waited and failure is not None:
            self.change(said=f"{action.name}: {first_line(failure)}", asking="")
        elif failure is not None:
            done.set_exception(failure)
        elif waited:
            done.set_result(told)

    def _turn_of(self, action: Action[S]) -> threading.Lock:
        return self._turns.get(action.name, self._turn)

    def _end_turn(self, action: Action[S]) -> None:
        if not action.long:
            self._going = None
        self._turn_of(action).release()

    def describe(self) -> list[dict[str, Any]]:
        """The actions as JSON, for help and pages."""
        keys = {action: key for key, action in self.keys.items()}
        return [
            {
                "name": action.name,
                "help": action.help,
                "group": action.group,
                "key": keys.get(action.name, ""),
                "repeats": action.repeats,
                "missing": self._missing(action),
                "arguments": [
                    {
                        "name": argument.name,
                        "kind": argument.kind.__name__,
                        "help": argument.help,
                        "required": argument.default is REQUIRED,
                        "default": None if argument.default is REQUIRED else argument.default,
                        "choices": list(argument.choices),
                        "minimum": argument.minimum,
                        "maximum": argument.maximum,
                    }
                    for argument in action.arguments
                ],
            }
            for action in self.actions.values()
        ]


@runtime_checkable
class Controlled(Protocol):
    """A sink with which a person can do something."""

    controls: Controls[Any] | None
