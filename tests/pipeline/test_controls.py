"""The registry of actions: arguments, keys, one at a time, and the view that goes on whatever an action does."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import check_line
from support import ManualClock, until

from clesr.engines.common.errors import ClesrError, UsageError
from clesr.pipeline.controls import Action, Argument, Controls
from clesr.pipeline.messages import naming, stream_name

ARGUMENTS = (
    Argument("position", float, "where", 0.5, minimum=0, maximum=1),
    Argument("count", int, "how many", 1, minimum=-3, maximum=10**6),
    Argument("on", bool, "whether", False),
    Argument("text", str, "words", "", maximum=20),
    Argument("mode", str, "which", "a", choices=("a", "b")),
)


def echo(subject: list[dict[str, Any]], **arguments: Any) -> Mapping[str, Any]:
    subject.append(arguments)
    return {"said": "done", **arguments}


def controls(*actions: Action[Any], **more: Any) -> Controls[Any]:
    return Controls([], (Action("echo", "Repeat.", echo, ARGUMENTS, key="e", quick=True), *actions), **more)


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.just(10**400)
    | st.just("9" * 5000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from([a.name for a in ARGUMENTS]) | st.text(), ANY_JSON, max_size=4))
def test_arguments_of_any_kind_are_of_their_kind_or_refused_in_a_line(arguments: dict[str, Any]) -> None:
    made = controls()
    try:
        told = made.call("echo", arguments)
    except UsageError as error:
        check_line(error)
        return
    assert set(told) == {"said", *(argument.name for argument in ARGUMENTS)}
    assert isinstance(told["position"], float | int)
    assert 0 <= told["position"] <= 1
    assert isinstance(told["count"], int)
    assert isinstance(told["on"], bool)
    assert told["mode"] in ("a", "b")
    assert isinstance(told["text"], str)
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize("quick", [True, False])
def test_what_an_action_says_is_of_its_own_stream(quick: bool) -> None:
    """Pages and the control socket have one thread for all streams."""

    def tell(_subject: object) -> Mapping[str, Any]:
        return {"stream": stream_name.get()}

    with naming("right"):
        made = controls(Action("tell", "Say whose it is.", tell, key="s", quick=quick))
    with naming("left"):
        assert made.call("tell") == {"stream": "right"}
        assert stream_name.get() == "left"


@pytest.mark.parametrize("arguments", [[1], "x", 7, [["position", 1]]])
def test_arguments_that_are_no_names_and_values_are_refused(arguments: Any) -> None:
    with pytest.raises(UsageError, match="give names and values"):
        controls().call("echo", arguments)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"position": math.nan}, "position is nan; give a number from 0 to 1"),
        ({"position": 2}, "position is 2; give a number from 0 to 1"),
        ({"count": 1.5}, "count is 1.5; give a whole number from -3"),
        ({"count": True}, "count is True"),
        ({"on": 1}, "on is 1; give on or off"),
        ({"text": "x" * 21}, "give a text of at most 20 characters"),
        ({"mode": ["a"]}, "mode is a list; give one of a, b"),
        ({"other": 1}, "echo has no argument 'other'; it takes position"),
    ],
)
def test_what_is_refused_says_the_value_and_what_is_allowed(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        controls().call("echo", given)
    assert words in str(refused.value)


def test_words_of_a_command_line_are_values_too() -> None:
    told = controls().call("echo", {"position": "0.25", "count": "7", "on": "on", "text": "7"})
    assert (told["position"], told["count"], told["on"], told["text"]) == (0.25, 7, True, "7")


def test_a_key_does_its_action_and_others_nothing() -> None:
    made = controls()
    assert made.press("e")
    assert not made.press("x")
    assert len(made.subject) == 1
    assert made.view.said == "done"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"echo": "o"}, "the key 'o' stands for echo and for other; give one of them another"),
        ({"nothing": "n"}, "a key is given to 'nothing', which is no action; there are echo, other"),
        ({"echo": "ctrl-x"}, "'ctrl-x' is no key for echo; give a character, or one of space"),
        ({"echo": "\x07"}, "is no key for echo"),
    ],
)
def test_keys_that_cannot_be_are_refused_in_a_line(keys: dict[str, str], words: str) -> None:
    other: Action[Any] = Action("other", "Other.", echo, key="o")
    with pytest.raises(UsageError) as refused:
        controls(other, keys=keys)
    assert words in str(refused.value)


def test_a_capital_is_a_key_of_its_own_or_else_the_small_letter() -> None:
    other: Action[Any] = Action("other", "Other.", echo, key="o")
    made = controls(other, keys={"other": "E"})
    assert [made.meant_by(key) for key in ("e", "E", "o", "O")] == ["echo", "other", None, None]
    assert controls(keys={"echo": "e"}).meant_by("E") == "echo"
    assert controls(keys={"echo": "E"}).meant_by("e") is None
    assert made.press("E")


def test_keys_can_be_exchanged_and_taken_away() -> None:
    other: Action[Any] = Action("other", "Other.", echo, key="o")
    assert controls(other, keys={"echo": "o", "other": "space"}).keys == {"o": "echo", "space": "other"}
    assert controls(other, keys={"other": ""}).keys == {"e": "echo"}


class Gate:
    """An action that waits until ``opened``."""

    def __init__(self, then: Callable[[], Mapping[str, Any] | None] = lambda: {"said": "late"}) -> None:
        self.opened, self.begun, self.then = threading.Event(), threading.Event(), then
        self.most, self._now, self._lock = 0, 0, threading.Lock()

    def __call__(self, subject: Any) -> Mapping[str, Any] | None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self.begun.set()
        assert self.opened.wait(30)
        with self._lock:
            self._now -= 1
        return self.then()


def test_an_action_that_hangs_is_told_and_holds_up_neither_views_nor_quick_actions() -> None:
    gate = Gate()
    made = controls(Action("hang", "Hang.", gate, key="h"), wait_s=0.05)
    with pytest.raises(ClesrError, match=r"^hang has not ended within 0\.05 s; it goes on"):
        made.call("hang")
    with pytest.raises(ClesrError, match=r"^hang was not begun: hang has not ended yet; try again later$"):
        made.call("hang")
    assert made.press("h")
    assert "was not begun" in made.view.said
    assert made.call("echo")["said"] == "done"
    assert made.change(zoom=2.0).zoom == 2.0
    gate.opened.set()
    until(lambda: made.view.said == "late")
    assert gate.most == 1


def test_an_action_that_breaks_after_its_time_is_told_in_the_view() -> None:
    def fails() -> None:
        raise OSError("the disk is gone\nand more")

    gate = Gate(fails)
    made = controls(Action("hang", "Hang.", gate), wait_s=0.01)
    with pytest.raises(ClesrError, match="has not ended"):
        made.call("hang")
    gate.opened.set()
    until(lambda: made.view.said == "hang: the disk is gone")
    with pytest.raises(OSError, match="the disk is gone"):
        Controls(None, (Action("now", "Now.", lambda _: fails()),)).call("now")


def test_actions_that_wait_are_done_one_at_a_time() -> None:
    gate = Gate()
    made = controls(Action("wait", "Wait.", gate), wait_s=30)
    threads = [threading.Thread(target=made.call, args=("wait",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert gate.begun.wait(30)
    gate.opened.set()
    for thread in threads:
        thread.join(30)
    assert gate.most == 1


def test_an_action_may_call_others() -> None:
    def both(subject: Any) -> Mapping[str, Any]:
        made.call("inner")
        return made.call("echo")

    made = controls(Action("both", "Both.", both), Action("inner", "Inner.", lambda _: {"said": "in"}))
    assert made.call("both")["said"] == "done"


def test_a_question_is_open_for_five_seconds_or_until_another_action() -> None:
    clock = ManualClock()
    ask: Action[Any] = Action("ask", "Ask.", lambda _: {"asking": "sure?"}, key="a", quick=True)
    made = controls(ask, clock=clock)
    made.press("a")
    clock.advance(4.9)
    assert made.view.asking == "sure?"
    clock.advance(0.2)
    assert made.view.asking == ""
    made.press("a")
    made.press("e")
    assert made.view.asking == ""


def _ask(_subject: Any, sure: bool) -> Mapping[str, Any]:
    return {"said": "done"} if sure else {"asking": "sure?"}


def test_a_question_is_answered_by_who_was_asked() -> None:
    ask: Action[Any] = Action(
        "ask", "Ask.", _ask, (Argument("sure", bool, "whether", False),), key="a", quick=True
    )
    made = controls(ask)
    assert "asking" in made.call("ask", by="one")
    assert "asking" in made.call("ask", by="another")
    assert "asking" in made.call("ask", by="one"), "the question is another's now"
    assert made.press("a", by="one")
    assert made.view.said == "done"
    assert "asking" in made.call("ask", by="one"), "answered, it is asked anew"
    assert made.call("ask", {"sure": True}, by="another")["said"] == "done"


def test_what_a_question_did_not_name_is_asked_anew() -> None:
    """Quitting ended also a recording that somebody else began in the seconds before it was confirmed."""

    def quit(going: Any, sure: bool) -> Mapping[str, Any]:
        return {"said": "done"} if sure else {"asking": f"{', '.join(going)} is recorded"}

    made = controls(
        Action("quit", "End.", quit, (Argument("sure", bool, "whether", False),), "q", quick=True)
    )
    made.subject.append("left")
    assert made.call("quit")["asking"] == "left is recorded"
    made.subject.append("right")
    assert made.call("quit")["asking"] == "left, right is recorded"
    assert made.call("quit")["said"] == "done"


def test_what_is_seen_is_that_of_the_call_however_late_the_turn_comes() -> None:
    gate, told = Gate(), []
    look: Action[Any] = Action(
        "look", "Look.", lambda _, seen: told.append(seen), seen=lambda subject: subject[-1]
    )
    made = controls(Action("wait", "Wait.", gate), look, wait_s=60)
    made.subject.append("first")
    threads = [threading.Thread(target=made.call, args=(name,)) for name in ("wait", "look")]
    threads[0].start()
    assert gate.begun.wait(30)
    looked = threading.Event()
    seen = made.actions["look"].seen
    assert seen is not None

    def look_and_tell(subject: Any) -> Any:
        found = seen(subject)
        looked.set()
        return found

    made.actions["look"] = replace(made.actions["look"], seen=look_and_tell)
    threads[1].start()
    assert looked.wait(30)
    made.subject.append("second")
    gate.opened.set()
    for thread in threads:
        thread.join(30)
    assert told == ["first"]


def test_view_and_held_image_are_of_one_moment() -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def thaw(_subject: Any) -> None:
        made.shown = None
        begun.set()
        assert goes_on.wait(30)
        made.change(frozen=False)

    made = controls(Action("thaw", "Thaw.", thaw, quick=True))
    made.shown = cast(Any, "held")
    made.change(frozen=True)
    found: list[Any] = []
    threads = [
        threading.Thread(target=made.call, args=("thaw",)),
        threading.Thread(target=lambda: found.append(made.seen)),
    ]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    threads[1].join(0.1)
    goes_on.set()
    for thread in threads:
        thread.join(30)
    ((view, shown),) = found
    assert (view.frozen, shown) == (False, None)


def test_what_a_run_lacks_for_an_action_is_told_before_and_where_it_is_done() -> None:
    lacking = "no map; start with --map"
    done: list[str] = []
    action: Action[Any] = Action(
        "map", "A map.", lambda subject: done.append("map"), key="m", missing=lambda subject: lacking
    )
    made = controls(action)
    assert {each["name"]: each["missing"] for each in made.describe()} == {"echo": "", "map": lacking}
    with pytest.raises(UsageError, match=lacking):
        made.call("map")
    assert made.press("m")
    assert made.view.said == f"map: {lacking}"
    lacking = ""
    made.call("map")
    assert done == ["map"]
    made.close()
    assert made.describe()[1]["missing"] == ""


def test_an_action_that_cannot_say_what_it_lacks_ends_no_view() -> None:
    def broken(_subject: object) -> str:
        raise RuntimeError("no answer of the camera\nat all")

    made = controls(Action("map", "A map.", lambda subject: None, key="m", missing=broken))
    assert made.describe()[1]["missing"] == "no answer of the camera"
    with pytest.raises(UsageError, match=r"^no answer of the camera$"):
        made.call("map")
    assert made.press("m")
    assert made.view.said == "map: no answer of the camera"


def test_what_describes_the_actions_is_json_with_all_that_a_page_needs() -> None:
    described = json.loads(json.dumps(controls().describe(), allow_nan=False))
    assert [action["name"] for action in described] == ["echo"]
    assert described[0]["key"] == "e"
    assert [argument["kind"] for argument in described[0]["arguments"]] == [
        "float",
        "int",
        "bool",
        "str",
        "str",
    ]
    assert described[0]["arguments"][4]["choices"] == ["a", "b"]
