"""Keys and mouse of a window become actions, and what actions change is drawn: with a process that only listens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest
import window_scenes as scenes
from support import ManualClock
from window_scenes import ALARM, LIVE

from clesr.engines.common.errors import SinkError, UsageError
from clesr.pipeline.controls import Action, Argument, Controls
from clesr.pipeline.display.layout import Box, lay_out
from clesr.pipeline.display.pace import DrawingPace
from clesr.pipeline.display.view_state import Mode, ViewState
from clesr.pipeline.frame import Result
from clesr.pipeline.sinks.placement import Keyboard, WindowPlacement
from clesr.pipeline.sinks.registry import SinkOptions
from clesr.pipeline.sinks.window import window as module
from clesr.pipeline.sinks.window.connection import WindowProcess
from clesr.pipeline.sinks.window.mouse import LEFT_DOWN, LEFT_UP, MOVE, WHEEL
from clesr.pipeline.sinks.window.scene import Scene
from clesr.pipeline.sinks.window.window import DisplayWindow
from clesr.pipeline.status import Status, is_old

SHAPE = (400, 400)
ESC, F1, F10 = 27, 65470, 65479


class Listening:
    """In place of the process that draws: says what it is told to say, and answers to each drawing at once."""

    def __init__(self) -> None:
        self.scenes: list[Scene] = []
        self.said: list[dict[str, Any]] = []
        self.ended = False
        self.pid, self.complaints = 1, ""
        self.draws, self.took_s, self.used_s = True, 0.001, 0.0

    def wait_ready(self) -> None: ...

    def heard(self) -> list[dict[str, Any]]:
        said, self.said = self.said, []
        return said

    def show(self, scene: Scene) -> bool:
        self.scenes.append(scene)
        if self.draws:
            self.answer()
        return True

    def answer(self) -> None:
        result = self.scenes[-1].result
        alarm = [0, 10, 400, 50] if self.scenes[-1].status.alarm else None
        layout = None
        if result is not None:
            laid = lay_out(
                (result.image.shape[0], result.image.shape[1]), Box(0, 0, 400, 400), self.scenes[-1].view
            )
            layout = [list(laid.place), list(laid.crop), list(laid.shape), laid.panes]
        self.said.append({"shape": list(SHAPE), "layout": layout, "alarm": alarm, "took_s": self.took_s})

    def answers_within(self, seconds: float) -> bool:
        return bool(self.said)

    def fail(self, reason: str) -> None:
        raise SinkError(reason)

    def end(self) -> None:
        self.ended = True


class Run:
    """A run in an operator's hands, and what was done to it."""

    def __init__(self) -> None:
        self.done: list[tuple[str, Mapping[str, Any]]] = []
        self.recording = False
        self.controls: Controls[Run] = Controls(self, ACTIONS)


def action(name: str, *arguments: str, key: str = "", **changed: Any) -> Action[Run]:
    def call(run: Run, **given: Any) -> Mapping[str, Any]:
        run.done.append((name, given))
        run.controls.change(**changed)
        return {"said": name}

    made = tuple(Argument(each, float, each, 0.0) for each in arguments)
    return Action(name, f"Does {name}.", call, made, key=key, quick=True)


def _quit(run: Run, sure: bool) -> Mapping[str, Any]:
    if run.recording and not sure:
        return {"asking": "sure?"}
    run.done.append(("quit", {}))
    return {"said": "stopping"}


def _breaks(run: Run) -> Mapping[str, Any]:
    raise UsageError("that cannot be")


def _freeze(run: Run) -> Mapping[str, Any]:
    frozen = not run.controls.view.frozen
    run.controls.shown = scenes.result(400, level=50) if frozen else None
    run.controls.change(frozen=frozen)
    return {}


def _nearer(run: Run) -> Mapping[str, Any]:
    run.done.append(("nearer", {}))
    return {}


def _acknowledge(run: Run, alarm: str) -> Mapping[str, Any]:
    run.done.append(("acknowledge", {"alarm": alarm}))
    return {}


def _view(field: str, name: str) -> Action[Run]:
    def call(run: Run, **given: float) -> Mapping[str, Any]:
        run.done.append((name, given))
        values = tuple(given.values())
        run.controls.change(**{field: values if len(values) > 1 else values[0]})
        return {}

    names = ("x", "y") if field == "centre" else ("value",)
    return Action(name, name, call, tuple(Argument(each, float, each, 1.0) for each in names), quick=True)


_ACKNOWLEDGE: Action[Run] = Action(
    "acknowledge", "Seen.", _acknowledge, (Argument("alarm", str, "which", ""),), key="u", quick=True
)


def _record(run: Run, **given: str) -> Mapping[str, Any]:
    run.done.append(("record", given))
    return {}


_RECORD: Action[Run] = Action(
    "record",
    "Record.",
    _record,
    tuple(Argument(n, str, n, "") for n in ("folder", "to")),
    key="r",
    quick=True,
)
ACTIONS: list[Action[Run]] = [
    Action("freeze", "Hold.", _freeze, key="space", quick=True),
    Action("quit", "End.", _quit, (Argument("sure", bool, "whether", False),), key="q", quick=True),
    Action("broken", "Breaks.", _breaks, key="b", quick=True),
    action("fidelity", key="f", overlay=True),
    Action("nearer", "Nearer.", _nearer, key="+", quick=True, repeats=True),
    action("help", key="f1", help=True),
    action("full-screen", key="x", full_screen=True),
    action("acknowledge", key="a"),
    action("wipe-on", key="w", mode=Mode.WIPE),
    _view("wipe", "wipe"),
    _view("zoom", "zoom"),
    _view("centre", "centre"),
]


class Desk:
    """A window with its listening process and its run."""

    def __init__(
        self,
        keyboard: Keyboard | None = None,
        *,
        controlled: bool = True,
        overlay: bool = False,
        listening: Listening | None = None,
        index: int = 0,
    ) -> None:
        self.process, self.clock, self.run = listening or Listening(), ManualClock(), Run()
        opened = cast(WindowProcess, self.process)
        place = WindowPlacement(index=index, keyboard=keyboard or Keyboard(), opened=opened)
        options = SinkOptions(place=place, overlay="fidelity" if overlay else None)
        self.window = DisplayWindow(options=options, clock=self.clock)
        self.used = 0.0  # percent of the machine's cores
        self.window._pace = DrawingPace(self.clock, lambda: self.used)
        if controlled:
            self.window.controls = self.run.controls

    @property
    def view(self) -> ViewState:
        return self.run.controls.view

    def press(self, code: int | str, *, repeated: bool = False) -> bool:
        key = ord(code) if isinstance(code, str) else code
        self.process.said.append({"key": key, "repeated": repeated})
        return self.window.refresh(LIVE)

    def point(self, event: int, x: int, y: int, flags: int = 0) -> None:
        self.process.said.append({"mouse": [event, x, y, flags]})
        self.window.refresh(LIVE)

    def tick(self) -> bool:
        return self.window.refresh(LIVE)


def test_a_busy_machine_draws_fewer_images_but_follows_the_keys_at_once() -> None:
    desk = Desk()

    def drawn(frames: int) -> int:
        before = len(desk.process.scenes)
        for _ in range(frames):
            desk.clock.advance(0.02)
            desk.window.write(scenes.result(400, level=50))
            desk.tick()
        return len(desk.process.scenes) - before

    assert drawn(50) == 50
    desk.used = 100.0
    drawn(50)  # it looks now and then
    assert 10 < drawn(50) < 30
    before = len(desk.process.scenes)
    desk.press("f")
    assert len(desk.process.scenes) == before + 1
    desk.process.took_s = 0.02
    desk.press("f")
    before = len(desk.process.scenes)
    for _ in range(500):
        desk.clock.advance(0.02)
        desk.tick()
    assert 10 <= len(desk.process.scenes) - before <= 21, "the figures too, which change all the time"
    before = len(desk.process.scenes)
    desk.window.refresh(replace(LIVE, stalled=True))
    assert len(desk.process.scenes) == before + 1, "what must not be overlooked at once"


def test_the_window_says_when_it_was_as_it_is_to_be_drawn() -> None:
    """So that what is drawn late can say how old it is by then."""
    desk = Desk()
    for _ in range(2):
        desk.clock.advance(1.0)
        desk.tick()
        assert desk.process.scenes[-1].time_ns == desk.clock.now_ns()


def test_an_image_that_is_new_again_is_shown_however_long_drawing_is_to_rest() -> None:
    """But no more than some times a second, where each image is old before the next one comes."""
    desk = Desk()
    desk.used, desk.process.took_s = 100.0, 10.0
    for _ in range(2):
        desk.clock.advance(1.0)
        desk.window.write(scenes.result(400, level=50))
        desk.window.refresh(scenes.OLD)
        desk.tick()
    desk.window.refresh(scenes.OLD)
    assert is_old(desk.process.scenes[-1].status)
    desk.clock.advance(0.1)
    desk.window.write(scenes.result(400, level=200))
    desk.tick()
    assert not is_old(desk.process.scenes[-1].status)
    before = len(desk.process.scenes)
    for turn in range(100):
        desk.clock.advance(0.01)
        desk.window.refresh(LIVE if turn % 2 else scenes.OLD)
    assert len(desk.process.scenes) - before <= 11


def test_a_window_that_waits_for_a_core_is_not_given_up_but_one_that_hangs() -> None:
    desk = Desk()
    desk.process.draws = False
    desk.window.write(scenes.result(400, level=50))
    desk.tick()
    for _ in range(60):
        desk.clock.advance(1.0)
        desk.process.used_s += 0.02
        assert desk.tick()
    desk.process.answer()
    desk.tick()
    assert desk.window.shown == 1

    def hangs() -> None:
        for _ in range(60):
            desk.clock.advance(1.0)
            desk.tick()

    with pytest.raises(SinkError, match="the window has not answered for 10 s"):
        hangs()


@pytest.mark.parametrize("key", ["f", "F"])
def test_a_key_does_its_action(key: str) -> None:
    desk = Desk()
    assert desk.press(key)
    assert desk.run.done == [("fidelity", {})]
    desk.window.refresh(LIVE)
    assert desk.process.scenes[-1].view.overlay
    assert desk.process.scenes[-1].view.said == "fidelity"


def test_keys_that_mean_nothing_and_actions_that_fail_end_nothing() -> None:
    desk = Desk()
    for code in (ord("z"), 65505, 1 << 20, 0, ord("b")):
        assert desk.press(code)
    assert desk.run.done == []
    assert desk.view.said == "broken: that cannot be"


def test_without_controls_f_switches_the_overlay_and_q_and_esc_stop() -> None:
    desk = Desk(controlled=False)
    desk.press("f")
    assert desk.window.view.overlay
    assert not desk.press("q")
    assert not Desk(controlled=False).press(ESC)


def test_the_option_overlay_is_where_controls_begin() -> None:
    assert Desk(overlay=True).view.overlay
    assert not Desk().view.overlay


def test_quitting_asks_first_while_something_is_recorded() -> None:
    desk = Desk()
    desk.run.recording = True
    assert desk.press("q"), "asked, and goes on"
    assert desk.view.asking
    assert desk.process.scenes[-1].view.asking
    assert desk.press(ESC), "no"
    assert not desk.view.asking
    assert desk.run.done == []
    assert desk.press("q")
    desk.run.controls.change(asking="")
    assert desk.press("q")
    assert desk.run.done == [], "somebody did something else meanwhile: asked again"
    assert desk.press("q"), "the action ends the run, and not the window"
    assert desk.run.done == [("quit", {})]


def test_a_question_that_goes_while_it_is_asked_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page may do something between the window's key and its look at what came of it."""
    desk = Desk()
    desk.run.recording = True
    press = desk.run.controls.press

    def and_then(*key: Any, **more: Any) -> bool:
        done = press(*key, **more)
        desk.run.controls.change(asking="")
        return done

    monkeypatch.setattr(desk.run.controls, "press", and_then)
    assert all(desk.press("q") for _ in range(3))
    assert desk.run.done == []


@pytest.mark.parametrize("key", ["", "f10"])
def test_a_key_that_quits_no_more_does_nothing(key: str) -> None:
    desk = Desk()
    desk.run.controls = desk.window.controls = Controls(desk.run, ACTIONS, {"quit": key})
    desk.run.recording = True
    for pressed in ("q", "Q", ESC, ESC)[: 2 if key else 4]:
        assert desk.press(pressed)
    assert desk.run.done == []
    assert not desk.view.asking
    if key:
        for _ in range(2):
            desk.press(F10)
        assert desk.run.done == [("quit", {})]


@pytest.mark.parametrize(("recording", "to"), [(False, "start"), (True, "stop")])
def test_a_recording_that_was_seen_ends_and_else_one_begins(recording: bool, to: str) -> None:
    """Whatever somebody else has begun or ended since."""
    desk = Desk()
    desk.run.controls = desk.window.controls = Controls(desk.run, [_RECORD])
    desk.window.refresh(replace(LIVE, recording=recording))
    desk.window.refresh(replace(LIVE, recording=recording))
    desk.process.said.append({"key": ord("r"), "repeated": False})
    desk.window.refresh(replace(LIVE, recording=not recording))
    assert desk.run.done == [("record", {"folder": "", "to": to})]


def test_what_is_held_written_or_noted_is_the_image_that_was_seen() -> None:
    number = Argument("number", int, "which", -1)
    named = ("freeze", "still", "note")
    keys = dict(zip(named, "123", strict=True))
    made = [replace(action(name, key=key), arguments=(number,)) for name, key in keys.items()]
    desk = Desk()
    desk.run.controls = desk.window.controls = Controls(desk.run, made)
    for key in keys.values():
        desk.press(key)
    desk.window.write(scenes.result())
    desk.window.refresh(LIVE)
    desk.window.refresh(LIVE)
    for key in keys.values():
        desk.press(key)
    desk.process.draws = False  # what comes is not seen yet
    newer = scenes.result()
    desk.window.write(replace(newer, frame=replace(newer.frame, number=8)))
    desk.clock.advance(1.0)
    desk.window.refresh(LIVE)
    for key in keys.values():
        desk.press(key)
    told = [(name, {"number": which}) for which in (-1, 7, 7) for name in named]
    assert desk.run.done == told


def test_a_key_that_is_held_neither_answers_its_own_question_nor_switches_back() -> None:
    desk = Desk()
    desk.run.recording = True
    assert desk.press("q")
    assert all(desk.press("q", repeated=True) for _ in range(20))
    assert desk.view.asking, "a question is asked, and open"
    desk.press(" ")
    for _ in range(5):
        desk.press(" ", repeated=True)
    assert desk.view.frozen
    desk.press("+")
    for _ in range(3):
        desk.press("+", repeated=True)
    assert desk.run.done == [("nearer", {})] * 4, "what goes on while its key is held"


def test_esc_that_is_held_leaves_one_thing_alone() -> None:
    desk = Desk()
    desk.press(F1)
    assert desk.press(ESC)
    assert all(desk.press(ESC, repeated=True) for _ in range(5))
    assert not desk.view.help
    other = Desk(controlled=False)
    assert other.press("q", repeated=True)
    assert other.press(ESC, repeated=True)


def test_esc_leaves_what_covers_the_image_and_then_quits() -> None:
    desk = Desk()
    desk.press(F1)
    desk.press("x")
    assert (desk.view.help, desk.view.full_screen) == (True, True)
    assert desk.press(ESC)
    assert (desk.view.help, desk.view.full_screen) == (False, True)
    assert desk.press(ESC)
    assert not desk.view.full_screen
    desk.press(ESC)
    assert desk.run.done[-1] == ("quit", {})


def test_a_key_is_for_the_window_that_has_it_but_the_end_is_for_all() -> None:
    keyboard = Keyboard()
    left, right = Desk(keyboard), Desk(keyboard)
    left.press("f")
    assert right.tick()
    assert right.run.done == []
    left.window.controls = None
    assert not left.press("q")
    assert not right.tick()


def test_of_several_streams_that_which_is_not_recorded_beside_one_that_is_says_so() -> None:
    keyboard = Keyboard()
    left, right = (Desk(keyboard, index=index) for index in range(2))

    def unrecorded(*recorded: bool) -> list[bool]:
        for _ in range(2):
            for desk, each in zip((left, right), recorded, strict=True):
                desk.clock.advance(1.0)
                desk.window.refresh(replace(LIVE, recording=each))
        return [desk.process.scenes[-1].unrecorded for desk in (left, right)]

    assert unrecorded(False, False) == [False, False]
    assert unrecorded(True, False) == [False, True]
    assert unrecorded(True, True) == [False, False]
    assert unrecorded(False, True) == [True, False]
    right.window.close()
    left.clock.advance(1.0)
    left.tick()
    assert not left.process.scenes[-1].unrecorded


def test_closing_a_window_ends_only_its_own() -> None:
    keyboard = Keyboard()
    left, right = Desk(keyboard), Desk(keyboard)
    left.process.said.append({"closed": True})
    assert not left.tick()
    assert right.tick()


def shown(desk: Desk, result: Result) -> None:
    desk.window.write(result)
    desk.window.refresh(LIVE)
    desk.window.refresh(LIVE)  # the answer


def test_a_click_on_the_alarm_acknowledges_it() -> None:
    desk = Desk()
    desk.window.write(scenes.result(400))
    desk.window.refresh(ALARM)
    desk.window.refresh(ALARM)
    assert desk.process.scenes[-1].key_of("acknowledge") == "a", "which the alarm says"
    desk.point(LEFT_DOWN, 200, 30)
    assert desk.run.done == [("acknowledge", {})]


def test_what_is_acknowledged_is_what_was_shown() -> None:
    """Not what came since, nor what was never drawn."""
    desk = Desk()

    def told(text: str) -> Status:
        return replace(LIVE, alarm=text, alarms=(text, "another"))

    def press() -> None:
        desk.process.said.append({"key": ord("u"), "repeated": False})
        desk.window.refresh(told("second"))

    desk.run.controls = Controls(desk.run, [_ACKNOWLEDGE])
    desk.window.controls = desk.run.controls
    desk.process.draws = False
    desk.window.write(scenes.result(400))
    desk.window.refresh(told("first"))
    press()
    assert desk.run.done == [], "nothing is on the window yet"
    assert desk.view.said == "there is no alarm"
    desk.process.answer()
    press()
    assert desk.run.done == [("acknowledge", {"alarm": "first"})]
    desk.process.answer()
    desk.window.refresh(told("second"))
    press()
    desk.process.said.append({"mouse": [LEFT_DOWN, 200, 30, 0]})
    desk.window.refresh(told("third"))
    assert desk.run.done[1:] == [("acknowledge", {"alarm": "second"})] * 2, "by key and by a click"


def test_the_mouse_acts_on_what_was_drawn() -> None:
    desk = Desk()
    desk.press("w")
    shown(desk, scenes.result(400))
    desk.point(LEFT_DOWN, 201, 100, 1)
    desk.point(MOVE, 100, 100, 1)
    desk.point(LEFT_UP, 100, 100)
    assert desk.run.done[-1] == ("wipe", {"value": 0.25})
    desk.point(WHEEL, 300, 300, 120 << 16)
    assert [name for name, _ in desk.run.done[-2:]] == ["zoom", "centre"]
    assert desk.view.zoom == 1.25
    assert desk.view.centre[0] > 0.5


def test_before_an_image_the_mouse_does_nothing() -> None:
    desk = Desk()
    desk.tick()
    desk.point(WHEEL, 300, 300, 120 << 16)
    assert desk.run.done == []


def test_an_alarm_is_acknowledged_by_a_click_before_an_image_is_there() -> None:
    desk, alarmed = Desk(), replace(LIVE, alarm="first", alarms=("first",))
    desk.run.controls = Controls(desk.run, [_ACKNOWLEDGE])
    desk.window.controls = desk.run.controls
    desk.window.refresh(alarmed)
    desk.window.refresh(alarmed)
    for x, y in ((200, 399), (200, 30)):
        desk.process.said.append({"mouse": [LEFT_DOWN, x, y, 0]})
        desk.window.refresh(alarmed)
    assert desk.run.done == [("acknowledge", {"alarm": "first"})]


def test_a_key_of_the_time_before_the_image_does_its_action() -> None:
    """Pressed while the source was opened it was lost, without a word."""
    listening = Listening()
    listening.said.append({"key": ord("w"), "repeated": False})
    desk = Desk(listening=listening)
    assert desk.run.done == []
    desk.tick()
    assert [name for name, _ in desk.run.done] == ["wipe-on"]


def test_a_frozen_image_stays_while_others_come_and_its_age_grows() -> None:
    desk = Desk()
    shown(desk, scenes.result(400, level=200))
    desk.press(" ")
    frozen = desk.process.scenes[-1]
    assert frozen.view.frozen
    assert frozen.result is desk.run.controls.shown
    count = len(desk.process.scenes)
    for _ in range(50):
        desk.window.write(scenes.result(400, level=90))
        desk.window.refresh(LIVE)
    assert len(desk.process.scenes) == count, "nothing new is to be drawn"
    before = frozen.age_ns
    desk.clock.advance(0.2)
    desk.window.refresh(LIVE)
    last = desk.process.scenes[-1]
    assert last.result is frozen.result
    assert before is not None
    assert last.age_ns == before + 200_000_000
    desk.press(" ")
    desk.window.refresh(LIVE)
    assert desk.process.scenes[-1].result is not frozen.result
    assert desk.process.scenes[-1].age_ns is None


def test_only_what_changed_is_drawn_and_old_images_are_not() -> None:
    """While one is drawn the others replace each other; without anything new it is drawn ten times a second."""
    desk = Desk()
    desk.process.draws = False
    for level in range(10):
        desk.window.write(scenes.result(400, level=level))
        desk.window.refresh(LIVE)
    assert len(desk.process.scenes) == 1
    desk.process.answer()
    desk.window.refresh(LIVE)
    assert len(desk.process.scenes) == 2
    assert cast(Result, desk.process.scenes[-1].result).image[0, 0] == 9
    desk.process.draws = True
    desk.process.answer()
    for _ in range(20):
        desk.clock.advance(0.005)
        desk.window.refresh(LIVE)
    assert len(desk.process.scenes) <= 4
    assert desk.window.close() == "window: 2 results shown"


@pytest.mark.parametrize("changed", [{"stalled": True}, {"alarm": "the disk is full"}])
def test_what_must_be_seen_at_once_is_drawn_at_once(changed: dict[str, Any]) -> None:
    desk = Desk()
    shown(desk, scenes.result(400))
    count = len(desk.process.scenes)
    desk.window.refresh(LIVE)
    assert len(desk.process.scenes) == count
    desk.window.refresh(replace(LIVE, **changed))
    assert len(desk.process.scenes) == count + 1


def test_what_was_said_goes_after_a_few_seconds() -> None:
    desk = Desk()
    desk.press("f")
    desk.window.refresh(LIVE)
    for _ in range(3):
        desk.clock.advance(1.0)
        desk.window.refresh(LIVE)
    assert desk.process.scenes[-1].view.said == "fidelity"
    desk.clock.advance(module.SAID_NS / 1e9)
    desk.window.refresh(LIVE)
    desk.window.refresh(LIVE)
    assert desk.process.scenes[-1].view.said == desk.view.said == ""


def test_help_has_what_the_keys_do_and_is_told_them_only_then() -> None:
    desk = Desk()
    desk.tick()
    assert desk.process.scenes[-1].actions == ()
    desk.press(F1)
    desk.window.refresh(LIVE)
    last: Scene = desk.process.scenes[-1]
    assert [each["name"] for each in last.actions] == list(desk.run.controls.actions)


def test_the_map_is_looked_at_now_and_then_while_it_is_to_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[tuple[int, int]] = []

    def joined(width: int, height: int) -> Any:
        looks.append((width, height))
        return scenes.result(400).image

    listening, clock, run = Listening(), ManualClock(), Run()
    place = WindowPlacement(opened=cast(WindowProcess, listening))
    window = DisplayWindow(options=SinkOptions(place=place), clock=clock)
    window.controls = run.controls
    for turn in range(12):
        if turn == 2:
            run.controls.map = joined
            run.controls.change(mosaic=True)
        if turn == 10:
            run.controls.change(mosaic=False)
        clock.advance(0.1)
        window.refresh(LIVE)
    seen = [scene.map is not None for scene in listening.scenes]
    assert seen[:2] == [False] * 2
    assert seen[-1] is False
    assert sum(seen) > 4
    assert looks == [(160, 400)] * 2
    run.controls.close()
    assert run.controls.map is None
