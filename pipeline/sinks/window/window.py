"""The window on this machine's screen: shows the newest result, and lets the operator act by keys and mouse.

It is drawn by a process of its own, which gets what to draw as a message in memory that both see."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import SinkError, first_line, on_error
from clesr.engines.common.image import Pixels
from clesr.pipeline.controls import Controls
from clesr.pipeline.display.layout import MAP_SHARE, Box, Layout
from clesr.pipeline.display.pace import DrawingPace, share_of
from clesr.pipeline.display.view_state import ViewState
from clesr.pipeline.frame import Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.sinks.placement import WindowPlacement
from clesr.pipeline.sinks.registry import DEFAULTS, SinkOptions
from clesr.pipeline.sinks.window.connection import CLOSE_S, WindowProcess, WindowProgress
from clesr.pipeline.sinks.window.keys import key_name
from clesr.pipeline.sinks.window.mouse import LEFT_DOWN, Mouse, Pointer, Seen
from clesr.pipeline.sinks.window.scene import Scene
from clesr.pipeline.status import Status, is_old

ACKNOWLEDGE, RECORD = "acknowledge", "record"
OF_AN_IMAGE = ("freeze", "note", "still")  # actions on the frame whose number they are given
BY = "window"  # who presses the keys
QUIT_KEYS = ("q", "esc")
REDRAW_NS = 100_000_000  # between two drawings while nothing changes: the age does
SAID_NS = 5_000_000_000  # for which the answer to an action is shown
MAP_NS = 500_000_000  # between two looks at the map
ANSWER_S = 10.0  # without progress of one drawing, before the window is given up


class DisplayWindow:
    """Shows the newest result as ``controls`` say, under the head-up display. Keys and mouse call the actions of
    ``controls``; without them ``q``, Esc or closing the window stops the run, and ``f`` switches the ``overlay`` of
    where the image disagrees with what was measured.

    As large as the image, with pixels as oblong as ``options.pixel_aspect`` says, or as fits the screen, until the
    user resizes it; another scale leaves its size. ``place`` is for one of several windows, which stand in a grid: a
    key is for the window that has it, but the end of one run is that of all; closing a window ends only its own.

    It is drawn by a process of its own (``process``), which gets the newest image whenever it has drawn the one
    before; no call here waits for it. Raises SinkError where there is no screen, and from ``refresh`` when that
    process has died, or has got no time on a core for ``answer_s`` seconds of a drawing, or used as many for it.
    """

    name = "window"
    policy = Policy.DROP_OLDEST

    def __init__(
        self,
        _address: str = name,
        options: SinkOptions = DEFAULTS,
        *,
        clock: Clock = SYSTEM,
        answer_s: float = ANSWER_S,
    ) -> None:
        place = options.place or WindowPlacement()
        self.shown = 0
        self.shape: tuple[int, int] | None = None  # (H, W) of the window's inside, once it is drawn
        self.answer_s = answer_s
        self._controls: Controls[Any] | None = None
        self._view = ViewState(overlay=options.overlay is not None)
        self._aspect, self._clock = float(options.pixel_aspect), clock
        self._keyboard, self._index = place.keyboard, place.index
        self._newest: Result | None = None
        self._fresh = self._closed = False
        self._drawing: bool | None = None  # whether what is being drawn is new; None: nothing is being drawn
        self._sent: Scene | None = None
        self._sent_ns: int | None = None
        self._pace = DrawingPace(clock, share=share_of(options.live))
        self._said, self._said_ns = "", 0
        self._looked: tuple[int, Pixels] | None = None  # the map, and when it was looked at
        self._layout: Layout | None = None
        self._alarm: Box | None = None
        self._alarm_shown, self._recording_shown = "", False
        self._number_shown: int | None = None
        self._mouse = Mouse(self._act)
        self._process = place.opened or WindowProcess(place.title, place.index, place.count)
        self._progress = WindowProgress(lambda: self._process.used_s)
        with on_error(self._process.end):
            self._process.wait_ready()
            self._early = self._process.heard()  # keys too, which wait for who can do what they mean

    @property
    def controls(self) -> Controls[Any] | None:
        """The actions on the stream, and how it is seen."""
        return self._controls

    @controls.setter
    def controls(self, controls: Controls[Any] | None) -> None:
        if controls is not None and self._view.overlay:
            controls.change(overlay=True)
        self._controls = controls

    @property
    def view(self) -> ViewState:
        return self._controls.view if self._controls is not None else self._view

    @property
    def pid(self) -> int:
        """The process that draws."""
        return self._process.pid

    @property
    def complaints(self) -> str:
        """The last that the process wrote on its standard error."""
        return self._process.complaints

    def write(self, result: Result) -> None:
        self._newest, self._fresh = result, True

    def refresh(self, status: Status) -> bool:
        self._listen()
        (self._keyboard.recorded.add if status.recording else self._keyboard.recorded.discard)(self._index)
        if self._closed:
            return False
        now = self._clock.now_ns()
        waited_ns = now - self._sent_ns if self._sent_ns is not None else REDRAW_NS
        due = waited_ns >= REDRAW_NS and not self._pace.rest_s()
        if self._drawing is None and (self._is_new(status) or due):
            self._send(status, now)
        elif self._drawing is not None and self._progress.hangs(now, self.answer_s):
            self._process.fail(f"the window has not answered for {self.answer_s:.0f} s")
        return not (self._keyboard.ended or self._closed)

    def close(self) -> str | None:
        if not self._process.ended:
            with contextlib.suppress(SinkError):
                if self._drawing is not None and self._process.answers_within(CLOSE_S / 2):
                    self._listen()
            self._process.end()
        self._keyboard.recorded.discard(self._index)
        return f"window: {self.shown} results shown"

    def _is_new(self, status: Status) -> bool:
        """Whether something other than figures has changed since the last drawing."""
        sent, view = self._sent, self.view
        if sent is None or view != sent.view or self._mouse.marked != sent.dragged:
            return True
        before, soon = sent.status, self._clock.now_ns() - (self._sent_ns or 0) < REDRAW_NS
        return (
            (self._fresh and not self._pace.rest_s() and not view.frozen)
            or (is_old(before) != is_old(status) and not soon)
            or (before.state, before.alarm, before.stalled) != (status.state, status.alarm, status.stalled)
        )

    def _send(self, status: Status, now: int) -> None:
        controls = self._controls
        view, held = controls.seen if controls is not None else (self._view, None)
        result = self._newest
        age_ns = None
        if view.frozen and held is not None:
            result = held
            age_ns = now - result.frame.time_ns
        if view.said != self._said:
            self._said, self._said_ns = view.said, now
        elif view.said and now - self._said_ns > SAID_NS and controls is not None:
            controls.change(said="")
            self._said, view = "", replace(view, said="")
        actions = tuple(controls.describe()) if controls is not None and (view.help or status.alarm) else ()
        marked, joined = self._mouse.marked, self._map(view, now)
        unrecorded = bool(self._keyboard.recorded) and not status.recording
        self._sent = Scene(
            result, status, view, age_ns, self._aspect, actions, marked, joined, unrecorded, now
        )
        if not self._process.show(self._sent):
            self._listen()  # its last word may be that the user has closed the window
        self._drawing, self._sent_ns = self._fresh and not view.frozen, now
        self._progress.begin(now)
        self._fresh = False

    def _map(self, view: ViewState, now: int) -> Pixels | None:
        """The map of the frames so far, looked at now and then; None where it is not to be seen."""
        controls = self._controls
        if controls is None or controls.map is None or not view.mosaic or self.shape is None:
            self._looked = None
            return None
        if self._looked is None or now - self._looked[0] >= MAP_NS:
            height, width = self.shape
            self._looked = now, controls.map(max(1, round(MAP_SHARE * width)), height)
        return self._looked[1]

    def _listen(self) -> None:
        """Take in what the process says."""
        early, self._early = self._early, []
        for said in (*early, *self._process.heard()):
            if "key" in said and (not said["repeated"] or self._goes_on(key_name(said["key"]))):
                self._press(key_name(said["key"]))
            if "mouse" in said:
                self._point(Pointer(*said["mouse"]))
            if "shape" in said:
                self._take_drawn(said)
            self._closed |= "closed" in said

    def _take_drawn(self, said: dict[str, Any]) -> None:
        height, width = said["shape"]
        self.shape = height, width
        layout, alarm = said["layout"], said["alarm"]
        self._layout = (
            Layout(Box(*layout[0]), Box(*layout[1]), tuple(layout[2]), layout[3]) if layout else None
        )
        self._alarm = Box(*alarm) if alarm else None
        if self._sent is not None:
            self._alarm_shown = self._sent.status.alarm if alarm else ""
            self._recording_shown = self._sent.status.recording
            self._number_shown = self._sent.result.frame.number if self._sent.result is not None else None
        self.shown += bool(self._drawing)
        self._drawing = None
        self._pace.drew(said["took_s"])

    def _goes_on(self, key: str) -> bool:
        """Whether ``key`` does its action again and again while it is held."""
        controls = self._controls
        name = controls.meant_by(key) if controls is not None else None
        return controls is not None and name is not None and controls.actions[name].repeats

    def _press(self, key: str) -> None:
        """What the user wants by ``key``: a recording ends where one was seen, and else begins; the image that was seen
        is held, written, or what a note is of."""
        controls = self._controls
        if controls is None:
            if key.lower() in QUIT_KEYS:
                self._keyboard.end()
            elif key.lower() == "f":
                self._view = ViewState(overlay=not self._view.overlay)
            return
        if key == "esc":
            key = self._escape(controls)
        name = controls.meant_by(key)
        if name == ACKNOWLEDGE:
            self._act(ACKNOWLEDGE)
        else:
            controls.press(key, self._meant(controls, name), by=BY)

    def _meant(self, controls: Controls[Any], name: str | None) -> dict[str, object]:
        """The arguments of the action ``name`` that what was seen tells."""
        if name == RECORD:
            return {"to": "stop" if self._recording_shown else "start"}
        if name not in OF_AN_IMAGE or self._number_shown is None:
            return {}
        takes = any(argument.name == "number" for argument in controls.actions[name].arguments)
        return {"number": self._number_shown} if takes else {}

    def _escape(self, controls: Controls[Any]) -> str:
        """Leave what covers the image, the question first; else the key that Esc stands for."""
        view = controls.view
        for field, left in (("asking", ""), ("help", False), ("full_screen", False)):
            if getattr(view, field):
                controls.change(**{field: left})
                return ""
        return next((key for key, action in controls.keys.items() if action == "quit"), "esc")

    def _point(self, at: Pointer) -> None:
        result = self._sent.result if self._sent is not None else None
        if self._controls is not None and result is not None and self._layout is not None:
            self._mouse.take(at, Seen(result, self._layout, self._alarm, self.view))
        elif at.event == LEFT_DOWN and self._alarm is not None and self._alarm.contains(at.x, at.y):
            self._act(ACKNOWLEDGE)  # an alarm needs no image

    def _act(self, action: str, *values: object) -> None:
        """Do ``action`` with its arguments in their order; what goes wrong is said in the view. What is acknowledged is
        the alarm that was seen, whatever came since."""
        controls = self._controls
        if controls is None or action not in controls.actions:
            return
        if action == ACKNOWLEDGE:
            if not self._alarm_shown:
                controls.change(said="there is no alarm")
                return
            values = (self._alarm_shown,)
        names = [argument.name for argument in controls.actions[action].arguments]
        try:
            controls.call(action, dict(zip(names, values, strict=False)), by=BY)
        except Exception as error:  # noqa: BLE001 - the mouse must not end the view
            controls.change(said=f"{action}: {first_line(error)}")
