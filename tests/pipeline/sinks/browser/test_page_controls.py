"""Mouse, keyboard and touch reach every control of the page in a real Chromium."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from browser_view import ACTIONS
from chromium import Page
from pages import Running
from support import until

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
    assert running.asked("quit") == [{"sure": True}]
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
    page.mouse("mouseWheel", x + side / 2, y + side / 2, deltaX=0, deltaY=-400)
    until(lambda: abs(running.shown.subject.controls.view.zoom - np.e) < 0.1)
    page.click(".picture", 1)
    page.click(".picture", 2)
    until(lambda: running.shown.subject.controls.view.zoom == 1)
