"""Mouse, keyboard and touch reach every control of the page in a real Chromium."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from browser_view import ACTIONS, Subject, noting
from chromium import Page
from pages import Running
from support import until

from clesr.engines.common.errors import ClesrError
from clesr.pipeline.controls import Action, Argument, Controls

pytestmark = pytest.mark.slow

ANSWERS = [each for each in ACTIONS if each.name not in ("freeze", "fail", "help", "full-screen")]
FIELDS = {"note": {"text": "a node"}, "region": {"x": "1", "y": "2", "width": "3", "height": "4"}}


def _fill_and_send(page: Page, name: str, send: Callable[[str], None]) -> None:
    """Put values into what an action asks for, and send it."""
    for argument, value in FIELDS.get(name, {}).items():
        page.run(f"document.querySelector('#do-{name}-{argument}').focus()")
        page.type(value)
    send(f"#do-{name}")
    if name == "quit":
        page.wait("document.querySelector('#sure').open")
        send("#sure .danger")


def _alarm(page: Page, running: Running) -> None:
    """An alarm is shown, which can be acknowledged."""
    running.status = {"alarm": "the disk is full", "alarms": ("the disk is full",)}
    page.wait("!document.querySelector('.alarm').hidden")


def test_every_action_is_reached_by_the_mouse(page: Page, running: Running) -> None:
    _alarm(page, running)
    for action in ANSWERS:
        if action.name in ("mode", "wipe", "zoom"):
            continue  # by their own tests: what is dragged and chosen
        _fill_and_send(page, action.name, page.click)
        until(lambda name=action.name: bool(running.asked(name)))  # type: ignore[misc]
    assert running.asked("note") == [{"text": "a node"}]
    assert running.asked("region") == [{"x": 1, "y": 2, "width": 3, "height": 4}]
    assert running.asked("quit") == [{"sure": False}], "nothing is recorded that could be ended"
    page.click("#do-fail")
    page.wait("document.querySelector('.said').textContent.includes('it cannot be done')")
    page.click("#do-freeze")
    page.wait("document.querySelector('.stage').dataset.state === 'frozen'")


def test_every_action_is_reached_by_the_keyboard_alone(page: Page, running: Running) -> None:
    """Each control gets the focus by Tab, and does its work by Enter, Space or an arrow."""
    _alarm(page, running)

    def tab_to(selector: str) -> None:
        for _ in range(200):
            if page.run(f"document.activeElement.matches({json.dumps(selector)})"):
                assert page.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
                return
            page.press("Tab")
        raise AssertionError(f"no Tab leads to {selector}")

    def send(selector: str) -> None:
        tab_to(selector)
        page.press("Enter")

    for action in ANSWERS:
        if action.name in ("mode", "wipe", "zoom"):
            tab_to(f"#do-{action.name}")
            page.press("ArrowRight" if action.name != "mode" else "ArrowDown")
        else:
            _fill_and_send(page, action.name, send)
        until(lambda name=action.name: bool(running.asked(name)))  # type: ignore[misc]
    tab_to("#tab-controls")
    page.press("ArrowRight")
    page.wait("!document.querySelector('#plots').hidden && document.querySelector('#plots').offsetParent")


def test_keys_are_those_of_the_actions(page: Page, running: Running) -> None:
    _alarm(page, running)
    page.run("document.activeElement.blur()")
    for key, name in (("b", "scale-bar"), ("s", "still"), ("a", "acknowledge"), ("A", "acknowledge")):
        before = len(running.asked(name))
        page.press(key)
        until(lambda: len(running.asked(name)) == before + 1)  # noqa: B023 - it is over before they change
    page.press(" ")
    page.wait("document.querySelector('.stage').dataset.state === 'frozen'")
    page.press("n")  # needs a text: the field gets the focus
    page.wait("document.activeElement.id === 'do-note-text' || document.activeElement.id === 'do-note'")
    page.run("document.querySelector('#do-note-text').focus()")
    page.press("h")  # is a letter there
    page.press("Escape")
    page.press("h")
    page.wait("document.querySelector('#help').open")
    words = page.run("document.querySelector('#help-body').textContent")
    assert all(action.help in words for action in ACTIONS)
    page.press("Escape")
    page.wait("!document.querySelector('#help').open")
    page.press("q")
    page.wait("document.querySelector('#sure').open")
    page.press("Escape")
    page.wait("!document.querySelector('#sure').open")
    assert running.asked("quit") == []


def test_the_pointer_moves_the_wipe_zooms_and_marks(page: Page, running: Running) -> None:
    page.run(
        "document.querySelector('#do-mode').value = 'wipe'; document.querySelector('#do-mode').onchange()"
    )
    until(lambda: running.shown.subject.controls.view.mode == "wipe")
    page.wait("document.querySelector('#figures').textContent.includes('wipe')")
    left, top, width, height = page.run(
        "(() => { const b = document.querySelector('.picture').getBoundingClientRect(); "
        "return [b.x, b.y, b.width, b.height]; })()"
    )
    side = min(width, height)
    x, y = left + (width - side) / 2, top + (height - side) / 2
    page.drag((x + 0.5 * side, y + 0.5 * side), (x + 0.25 * side, y + 0.5 * side))
    until(lambda: abs(running.shown.subject.controls.view.wipe - 0.25) < 0.01)
    page.drag((x + 0.25 * side, y + 0.5 * side), (x + 0.75 * side, y + 0.75 * side), shift=True)
    until(lambda: bool(running.asked("region")))
    assert running.asked("region")[-1] == {"x": 32, "y": 64, "width": 64, "height": 32}
    before = len(running.asked("region"))
    middle = (x + 0.5 * side, y + 0.7 * side)
    page.drag(middle, (middle[0] + 3, middle[1] + 3), shift=True)  # a shaky click
    page.press("b")
    until(lambda: len(running.asked("scale-bar")) == 1)
    assert len(running.asked("region")) == before, "marks nothing"
    running.shown.subject.controls.change(region=(32, 64, 64, 32))
    page.wait("!document.querySelector('.region').hidden")
    page.drag(middle, (middle[0] + 3, middle[1] + 3), shift=True)
    until(lambda: len(running.asked("region")) == before + 1)
    assert running.asked("region")[-1] == {"x": 0, "y": 0, "width": 0, "height": 0}, "takes it away"
    page.mouse("mouseWheel", x + side / 2, y + side / 2, deltaX=0, deltaY=-400)
    until(lambda: abs(running.shown.subject.controls.view.zoom - math.e) < 0.1)
    page.click(".picture", 1)
    page.click(".picture", 2)
    until(lambda: running.shown.subject.controls.view.zoom == 1)


def test_keys_are_actions_also_while_a_slider_or_a_list_has_the_focus(page: Page, running: Running) -> None:
    """Who has dragged a slider, or chosen by the mouse, still freezes by space and records by its key."""
    controls = running.shown.subject.controls
    frozen = "document.querySelector('.stage').dataset.state === 'frozen'"
    for field in ("wipe", "mode"):
        before = len(running.asked("still"))
        page.run(f"document.querySelector('#do-{field}').focus()")
        page.press("s")
        until(lambda: len(running.asked("still")) == before + 1)  # noqa: B023 - it is over before it changes
        assert page.run(f"document.activeElement.id === 'do-{field}'")
    assert controls.view.mode == "sr"
    page.press("ArrowDown")  # is the list's own
    until(lambda: controls.view.mode == "wipe")
    page.run("document.querySelector('#do-wipe').focus()")
    page.press(" ")
    page.wait(frozen)
    page.press("ArrowRight")
    until(lambda: bool(running.asked("wipe")))
    page.mouse("mousePressed", 1, 1, button="left", clickCount=1)
    page.mouse("mouseReleased", 1, 1, button="left", clickCount=1)
    page.run(
        "(() => { const list = document.querySelector('#do-mode'); list.focus(); list.value = 'bicubic'; "
        "list.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )
    until(lambda: controls.view.mode == "bicubic")
    page.press(" ")  # would open the list again
    page.wait(f"!({frozen})")


FROZEN = "document.querySelector('.stage').dataset.state === 'frozen'"


def _record(running: Running) -> None:
    """An action that begins and ends a recording as that of clesr does."""

    def record(subject: Subject, folder: str, to: str) -> Mapping[str, Any]:
        going = running.status.get("recording", False)
        subject.calls.append(("record", {"folder": folder, "to": to}))
        if folder and to != "start":
            raise ClesrError("a folder is for a recording that begins")
        running.status = {"recording": not going if not to else to == "start", "recording_s": 1.0}
        return {"said": "done"}

    which = Argument("to", str, "start or stop", "", choices=("", "start", "stop"))
    running.add(Action("record", "Record.", record, (Argument("folder", str, "name", ""), which), "r"))


def test_what_was_clicked_is_not_pressed_again_by_space_or_enter(page: Page, running: Running) -> None:
    """Who has begun a recording by the mouse freezes by space: the recording goes on."""
    _record(running)
    page.wait("document.querySelector('#do-record')")
    page.click("#do-record")
    page.wait("document.querySelector('#figures').textContent.includes('REC')")
    page.press(" ")
    page.wait(FROZEN)
    assert len(running.asked("record")) == 1
    page.press(" ")
    page.wait(f"!({FROZEN})")
    for pressed in (
        "#tab-plots",
        "#tab-controls",
        "#do-still",
        "details:has(#do-still-dicom) summary",
        "#do-still-dicom",
    ):
        page.click(pressed)
        for key in ("Enter", "s", " "):  # between them another key
            page.press(key)
        page.wait(FROZEN)
        page.press(" ")
        page.wait(f"!({FROZEN})")
    assert page.run("document.querySelector('#do-still-dicom').checked")
    assert len(running.asked("still")) == 6
    page.drag(*page.run(BUTTON_AND_PICTURE))  # pressed there, and let go elsewhere
    page.press(" ")
    page.wait(FROZEN)
    assert len(running.asked("still")) == 6
    page.press("Tab")  # goes on from there, and is the keyboard's
    assert page.run("document.activeElement.closest('#controls') !== null")


BUTTON_AND_PICTURE = """['#do-still', '.picture'].map((each) => {
  const { x, y, width, height } = document.querySelector(each).getBoundingClientRect();
  return [x + width / 2, y + height / 2];
})"""


def test_after_a_question_that_was_answered_by_the_mouse_space_freezes(page: Page, running: Running) -> None:
    page.click("#do-quit")
    page.wait("document.querySelector('#sure').open")
    page.click("#sure button")
    page.wait("!document.querySelector('#sure').open")
    page.press(" ")
    page.wait(FROZEN)
    assert not page.run("document.querySelector('#sure').open")


def test_the_record_button_ends_a_recording_whatever_is_typed(page: Page, running: Running) -> None:
    _record(running)
    page.wait("document.querySelector('#do-record-folder')")
    assert not page.run("document.querySelector('#do-record-to')"), "what is seen says that"
    page.run("document.querySelector('#do-record-folder').closest('details').open = true")
    page.click("#do-record-folder")
    page.type("findings")
    for recording in (True, False, True):
        page.click("#do-record")
        page.wait(
            f"document.querySelector('#figures').textContent.includes('REC') === {str(recording).lower()}"
        )
    assert [(each["folder"], each["to"]) for each in running.asked("record")] == [
        ("findings", "start"),
        ("", "stop"),
        ("findings", "start"),
    ]


def test_a_tick_box_takes_space_for_itself(page: Page, running: Running) -> None:
    arguments = (Argument("name", str, "name", ""), Argument("again", bool, "whether again", False))
    running.add(Action("store", "Store.", noting("store"), arguments))
    box = "document.querySelector('#do-store-again')"
    page.wait(box)
    page.run(f"{box}.closest('details').open = true; {box}.focus()")
    page.press(" ")
    page.wait(f"{box}.checked")
    assert not running.shown.subject.controls.view.frozen


def test_what_the_run_lacks_cannot_be_pressed_and_says_what_to_do(page: Page, running: Running) -> None:
    lacking = "no map is made; start with --mosaic FILE.ome.tif"
    depth = Argument("depth", int, "how deep", minimum=0, maximum=9)
    running.add(
        Action("map", "A map.", noting("map"), missing=lambda subject: lacking),
        Action("depth", "How deep.", noting("depth"), (depth,), missing=lambda subject: lacking),
    )
    for name in ("map", "depth"):
        page.wait(f"document.querySelector('#do-{name}')?.disabled")
        assert page.run(f"document.querySelector('#do-{name}').title") == lacking
    assert not page.run("document.querySelector('#do-still').disabled")
    words = page.run("document.querySelector('#controls').innerText")
    assert words.count(lacking) == 1, "it can be read, also by touch"
    assert f"Map, Depth: {lacking}" in words


def test_a_still_is_written_as_dicom_where_that_is_ticked(page: Page, running: Running) -> None:
    page.click("#do-still")
    until(lambda: running.asked("still") == [{"dicom": False}])
    page.run("document.querySelector('#do-still-dicom').closest('details').open = true")
    page.click("#do-still-dicom")
    page.click("#do-still")
    until(lambda: running.asked("still")[1:] == [{"dicom": True}])
    page.press("s")
    until(lambda: running.asked("still")[2:] == [{"dicom": True}])


def test_of_many_choices_in_a_row_the_last_one_counts(page: Page, running: Running) -> None:
    channel, go_on = running.shown.sink._channel, threading.Event()
    call = channel.call

    def slow(name: str, arguments: Mapping[str, object], by: object) -> Mapping[str, Any]:
        go_on.wait(60)
        return call(name, arguments, by)

    channel.call = slow
    choices = ["wipe", "bicubic", "raw", "side-by-side"] * 4
    page.run(
        f"for (const each of {json.dumps(choices)}) {{ const list = document.querySelector('#do-mode'); "
        "list.value = each; list.onchange(); }"
    )
    go_on.set()
    until(lambda: running.shown.subject.controls.view.mode == choices[-1])
    assert [each["mode"] for each in running.asked("mode")] == [choices[0], choices[-1]]
    page.wait(f"document.querySelector('#do-mode').value === '{choices[-1]}'")


def test_the_help_hides_no_news_and_holds_up_no_key(page: Page, running: Running) -> None:
    opened = "document.querySelector('#help').open"
    page.press("h")
    page.wait(opened)
    page.press("s")
    until(lambda: len(running.asked("still")) == 1)
    assert page.run(opened)
    top, bar = page.run(
        "[document.querySelector('#help').getBoundingClientRect().top, "
        "document.querySelector('#bar').getBoundingClientRect().bottom]"
    )
    assert top > bar + 60, "an alarm that waits can be read above it"
    _alarm(page, running)
    page.wait(f"!{opened}")
    page.press("h")
    page.wait(opened)
    page.press("a")
    until(lambda: running.asked("acknowledge") == [{"alarm": "the disk is full"}])
    running.status = {"stalled": True}
    page.wait(f"!{opened}")


SURE = "document.querySelector('#sure')"


def test_an_alarm_is_read_in_the_question_and_closes_it_not(page: Page, running: Running) -> None:
    """One after the other, and images that are late now and then: who wants to quit could not."""
    page.press("q")
    page.wait(f"{SURE}.open")
    for alarm in ("FRAMES ARE LACKING: 3", "FRAMES ARE LACKING: 7"):
        running.status = {"alarm": alarm, "alarms": (alarm,), "stalled": True}
        page.wait(f"{SURE}.innerText.includes('{alarm}') && {SURE}.innerText.includes('NO SIGNAL')")
        running.status = {}
        page.wait(f"!{SURE}.innerText.includes('{alarm}') && !{SURE}.innerText.includes('NO SIGNAL')")
    page.click("#sure .danger")
    until(lambda: len(running.asked("quit")) == 1)


def test_quitting_ends_what_the_question_named_and_else_asks_again(page: Page, running: Running) -> None:
    """Somebody else began a recording while the question was open: the server's own is asked."""
    own = "left is recorded; once more ends it and quits"

    def quit(subject: Subject, sure: bool) -> Mapping[str, Any]:
        subject.calls.append(("quit", {"sure": sure}))
        return {"said": "stopping"} if sure or not running.status else {"asking": own}

    running.shown.subject.controls = Controls(
        running.shown.subject,
        [replace(each, call=quit) if each.name == "quit" else each for each in ACTIONS],
    )
    running.shown.sink.controls = running.shown.subject.controls

    def answer(words: str) -> None:
        page.wait(f"{SURE}.open && {SURE}.innerText.includes({json.dumps(words)})")
        page.click("#sure .danger")

    def recorded(seconds: float) -> None:
        running.status = {"recording": True, "recording_s": seconds}
        page.wait(f"document.querySelector('#figures').textContent.includes('REC 00:{seconds:02.0f}')")

    page.press("q")
    page.wait(f"{SURE}.open")
    recorded(1)
    answer("for everybody")
    answer(own)
    asks, ends = {"sure": False}, {"sure": True}
    until(lambda: running.asked("quit") == [asks, asks, ends])
    recorded(9)
    page.press("q")
    page.wait(f"{SURE}.innerText.includes('A recording is running')")
    recorded(2)  # another one
    answer("A recording is running")
    page.wait(f"{SURE}.innerText.includes({json.dumps(own)})")
    page.press("Escape")
    page.press("q")
    page.wait(f"{SURE}.innerText.includes('A recording is running')")
    recorded(3)
    answer("A recording is running")
    until(lambda: running.asked("quit")[3:] == [asks, ends])
    page.press("q")
    page.wait(f"{SURE}.innerText.includes('A recording is running')")
    running.status = {"state": "running"}  # it ends, another one begins, and is the older one after a while
    page.wait("!document.querySelector('#figures').textContent.includes('REC')")
    recorded(4)
    answer("A recording is running")
    until(lambda: running.asked("quit")[5:] == [asks])
