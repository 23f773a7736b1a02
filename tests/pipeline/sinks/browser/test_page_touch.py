"""Fingers on the page in a real Chromium: on telephones and tablets every control is there, and the picture obeys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from browser_view import Subject
from chromium import Page
from pages import Running
from session_runs import frames, record
from support import until

from clesr.pipeline.controls import Action, Argument

pytestmark = pytest.mark.slow

Point = tuple[float, float]
SIZES = [(390, 844), (360, 640), (667, 375), (844, 390), (1024, 768)]
SMALLEST = 40  # CSS pixels of what a finger hits
TARGETS = """(() => {
  const all = [...document.querySelectorAll('button, a, select, input, summary, .picture')];
  const seen = all.filter((e) => e.checkVisibility() && !e.disabled);
  return seen.flatMap((e) => {
    e.scrollIntoView({ block: 'center', behavior: 'instant' });
    const { x, y, width, height } = e.getBoundingClientRect();
    const hit = document.elementFromPoint(x + width / 2, y + height / 2);
    const inside = x >= 0 && x + width <= innerWidth;
    const good = Math.min(width, height) >= SMALLEST && inside && (e === hit || e.contains(hit));
    return good ? [] : [[e.id || e.textContent || e.className, width, height, hit?.id || hit?.className]];
  });
})()""".replace("SMALLEST", str(SMALLEST))
FREE = """[...Array(innerHeight).keys()].filter((y) => [...Array(innerWidth / 20 - 2 | 0).keys()].some((x) => {
  const hit = document.elementFromPoint(20 * (x + 1), y);
  return hit && !hit.matches('.picture') && !hit.closest('#bar');
})).length"""  # rows of pixels where there is something else
PICTURE = """(() => {
  const { x, y, width, height } = document.querySelector('.picture').getBoundingClientRect();
  const side = Math.min(width, height);
  return [x + (width - side) / 2, y + (height - side) / 2, side];
})()"""


def _touch(page: Page, kind: str, *points: Point) -> None:
    touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
    page.send("Input.dispatchTouchEvent", type=kind, touchPoints=touches)


def _move(page: Page, begin: tuple[Point, ...], end: tuple[Point, ...]) -> None:
    """Move fingers that are down from ``begin`` to ``end``."""
    for share in (0.25, 0.5, 0.75, 1.0):
        moved = (
            (ax + (bx - ax) * share, ay + (by - ay) * share)
            for (ax, ay), (bx, by) in zip(begin, end, strict=True)
        )
        _touch(page, "touchMove", *moved)


def _drag(page: Page, begin: Point, end: Point) -> None:
    _touch(page, "touchStart", begin)
    _move(page, (begin,), (end,))
    _touch(page, "touchEnd")


@pytest.fixture
def phone(page: Page) -> Page:
    """A telephone."""
    page.size(390, 844, touch=True)
    page.wait("innerWidth === 390 && document.querySelector('.picture').width > 300")
    return page


@pytest.fixture
def at(phone: Page) -> Callable[[float, float], Point]:
    """A place on the picture, by shares of its width and height."""
    left, top, side = phone.run(PICTURE)
    return lambda x, y: (left + x * side, top + y * side)


@pytest.mark.parametrize(("wide", "high"), SIZES)
def test_a_finger_hits_every_control(
    page: Page, running: Running, tmp_path: Path, wide: int, high: int
) -> None:
    record(tmp_path / "session", frames(range(5)))
    running.status = {"alarm": "the disk is full", "alarms": ("the disk is full",)}
    page.size(wide, high, touch=True)
    page.wait("!document.querySelector('.alarm').hidden && matchMedia('(pointer: coarse)').matches")
    page.click("#tab-sessions")
    page.wait("document.querySelector('.session details')")
    for tab in ("sessions", "plots", "controls"):
        page.click(f"#tab-{tab}")
        page.run("for (const each of document.querySelectorAll('details')) each.open = true")
        assert page.run(TARGETS) == []
    assert page.run("document.documentElement.scrollWidth") <= wide
    for button in ("#do-quit", "#help-button"):
        page.click(button)
        page.wait("document.querySelector('dialog[open]')")
        inside = page.run(
            "[...document.querySelectorAll('dialog[open], dialog[open] button')].map((e) => e.getBoundingClientRect())"
            ".every((b) => b.left >= 0 && b.right <= innerWidth && b.top >= 0 && b.bottom <= innerHeight)"
        )
        assert inside, button
        page.click("dialog[open] button")
        page.wait("!document.querySelector('dialog[open]')")


@pytest.mark.parametrize(("wide", "high"), SIZES)
def test_a_finger_finds_a_place_that_scrolls_beside_the_picture(page: Page, wide: int, high: int) -> None:
    """On the picture it scrolls nothing."""
    page.size(wide, high, touch=True)
    page.wait(f"innerWidth === {wide} && document.querySelector('.picture').height > 100")
    picture = "document.querySelector('.image').scrollIntoView"
    for scroll in (
        "scrollTo(0, 0)",
        *(f"{picture}({{block: '{end}'}})" for end in ("start", "center", "end")),
    ):
        page.run(scroll)
        assert page.run(FREE) >= SMALLEST, scroll


def test_a_finger_drags_the_edge_of_a_wipe_and_marks_a_region_where_it_rested(
    phone: Page, running: Running, at: Callable[[float, float], Point]
) -> None:
    controls = running.shown.subject.controls
    controls.change(mode="wipe")
    phone.wait("document.querySelector('#figures').textContent.includes('wipe')")
    _drag(phone, at(0.5, 0.5), at(0.25, 0.25))
    until(lambda: abs(controls.view.wipe - 0.25) < 0.01)
    _drag(phone, at(0.6, 0.8), at(0.6, 0.2))  # elsewhere: nothing
    _touch(phone, "touchStart", at(0.5, 0.5))
    phone.wait("document.querySelector('.picture.marking')")
    _move(phone, (at(0.5, 0.5),), (at(0.75, 0.75),))
    phone.wait("!document.querySelector('.region').hidden")
    _touch(phone, "touchEnd")
    until(lambda: running.asked("region") == [{"x": 64, "y": 64, "width": 32, "height": 32}])
    controls.change(region=(64, 64, 32, 32))
    phone.wait("!document.querySelector('.picture.marking') && !document.querySelector('.region').hidden")
    _touch(phone, "touchStart", at(0.6, 0.6))  # it rests, and trembles: that is no mark
    phone.wait("document.querySelector('.picture.marking')")
    x, y = at(0.6, 0.6)
    _touch(phone, "touchMove", (x + 7, y + 7))
    _touch(phone, "touchEnd")
    until(lambda: running.asked("region")[1:] == [{"x": 0, "y": 0, "width": 0, "height": 0}])
    assert phone.run("[scrollX, scrollY, visualViewport.scale]") == [0, 0, 1], "the page stays where it is"


def _centre(subject: Subject, x: float, y: float) -> Mapping[str, Any]:
    subject.controls.change(centre=(x, y))
    return {}


def test_two_fingers_zoom_where_they_are_and_one_moves_the_image(
    phone: Page, running: Running, at: Callable[[float, float], Point]
) -> None:
    running.add(Action("centre", "Where.", _centre, (Argument("x", float, "x"), Argument("y", float, "y"))))
    controls = running.shown.subject.controls
    phone.wait("document.querySelector('#do-centre')")
    narrow, wide = (at(0.2, 0.25), at(0.3, 0.25)), (at(0.05, 0.25), at(0.45, 0.25))
    _touch(phone, "touchStart", narrow[0])
    _touch(phone, "touchStart", *narrow)
    _move(phone, narrow, wide)
    _touch(phone, "touchEnd")
    until(lambda: controls.view.zoom == pytest.approx(4, abs=0.1))
    until(lambda: controls.view.centre == pytest.approx((0.3125, 0.3125), abs=0.01))
    phone.wait("document.querySelector('#figures').textContent.includes('zoom 4')")
    _drag(phone, at(0.5, 0.5), at(0.25, 0.5))
    until(lambda: controls.view.centre == pytest.approx((0.375, 0.3125), abs=0.01))
    for _ in range(2):
        _touch(phone, "touchStart", at(0.5, 0.5))
        _touch(phone, "touchEnd")
    until(lambda: controls.view.zoom == 1)
    assert running.asked("region") == []
    assert phone.run("[scrollX, scrollY, visualViewport.scale]") == [0, 0, 1]
