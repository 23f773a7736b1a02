"""The page in a real Chromium says of a picture what holds for that picture, and of a run what holds for that run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from browser_view import ACTIONS, Shown, noting, numbered, result_of, showing, status
from chromium import Page
from pages import LIVE, READ, Running
from support import until

from clesr.pipeline.controls import Action, Argument, Controls
from clesr.pipeline.display.compose import compose
from clesr.pipeline.display.view_state import Contrast, Mode
from clesr.pipeline.frame import Fidelity
from clesr.pipeline.sinks.browser.door import Door
from clesr.pipeline.sinks.browser.sink import BrowserSink
from clesr.pipeline.sinks.browser.site import Site
from clesr.pipeline.sinks.placement import WindowPlacement
from clesr.pipeline.sinks.registry import SinkOptions

pytestmark = pytest.mark.slow
BAR = "document.querySelector('#figures').textContent"
STATE = "document.querySelector('.stage')?.dataset.state"
NOTE_WORDS = (
    "(() => { window.written = []; const write = CanvasRenderingContext2D.prototype.fillText; "
    "CanvasRenderingContext2D.prototype.fillText = function (words, ...more) { window.written.push(words); "
    "return write.call(this, words, ...more); }; })()"
)
AMBER = (
    "(() => { const c = document.querySelector('.picture'); const d = c.getContext('2d').getImageData(0, 0, c.width, "
    "c.height).data; for (let i = 0; i < d.length; i += 4) if (d[i] === 255 && d[i + 1] === 184 && d[i + 2] === 77) "
    "return true; return false; })()"
)


@pytest.mark.parametrize("ends", ["by itself", "killed"])
def test_a_run_that_begins_anew_has_nothing_of_the_one_before(tab: Callable[[], Page], ends: str) -> None:
    """The page waits for it, also after an end, and keeps neither the image nor what was told of it."""
    page = tab()
    with showing() as shown:
        port = shown.sink.site.port
        page.open(shown.url)
        shown.show(3)
        shown.subject.controls.change(frozen=True, mode=Mode.BICUBIC)
        shown.sink.refresh(status(recording=True, recording_s=5.0, alarm="the disk is full"))
        page.wait(f"{STATE} === 'frozen' && {BAR}.includes('REC') && {BAR}.includes('bicubic')")
        server = shown.sink.site._server
        assert server is not None
        if ends == "killed":
            server.close()
            page.wait("document.querySelector('.state').innerText.includes('NO CONNECTION')")
    if ends == "by itself":
        page.wait("document.querySelector('.state').innerText.includes('ENDED')")
        assert "REC" not in page.run(BAR)
        assert "frames/s" not in page.run("document.body.innerText")
    site = Site(Door(listen=f"127.0.0.1:{port}"))
    sink = BrowserSink(options=SinkOptions(place=WindowPlacement("stream 0", 0, 1), site=site))
    try:
        page.wait(f"{STATE} === 'wait'", 60)
        assert "is being opened" in page.run("document.querySelector('.state').innerText")
        assert page.run(BAR) == "WAITING"
        assert page.run("document.querySelector('.alarm').hidden")
        pixels = (
            "(() => { const c = document.querySelector('.picture'); return c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data.some((value, i) => i % 4 < 3 && value > 0); })()"
        )
        assert not page.run(pixels), "the image of the earlier run is gone"
        shown = Shown(sink)
        until(lambda: shown.show(4) or page.run(LIVE))  # type: ignore[func-returns-value]
        page.open("about:blank")
    finally:
        sink.close()
    page.errors.clear()  # of tries while there was no run


ALARMS = {"short": "RECORDING ENDED: the disk is full", "long": ("RECORDING ENDED: no room. " * 40)[:1000]}
BOXES = """['.alarm', '.alarm button', '.state', '.image'].map((each) => {
  const { left, right, top, bottom } = document.querySelector(each).getBoundingClientRect();
  return { left, right, top, bottom };
})"""


@pytest.mark.parametrize("wide", [1280, 390])
@pytest.mark.parametrize("alarm", ALARMS)
@pytest.mark.parametrize("state", ["frozen", "dead"])
def test_an_alarm_covers_nothing(page: Page, running: Running, alarm: str, state: str, wide: int) -> None:
    text = ALARMS[alarm]
    page.size(wide, 844 if wide == 390 else 800, touch=wide == 390)
    running.shown.subject.controls.change(frozen=state == "frozen")
    running.status = {"alarm": text, "alarms": (text,), "stalled": state == "dead"}
    page.wait(f"{STATE} === '{state}' && document.querySelector('.alarm').offsetParent")
    page.run("scrollTo(0, 0)")
    bar, button, said, image = page.run(BOXES)
    assert bar["bottom"] <= image["top"] <= said["top"]
    assert said["bottom"] <= image["bottom"]
    assert image["bottom"] - image["top"] > 200
    assert bar["top"] <= button["top"]
    assert button["bottom"] <= bar["bottom"]
    assert button["right"] <= bar["right"]
    end = (
        "(() => { const bar = document.querySelector('.alarm'); bar.scrollTop = bar.scrollHeight; "
        "return bar.firstElementChild.getBoundingClientRect().bottom <= bar.getBoundingClientRect().bottom; })()"
    )
    assert page.run(end), "all of it can be read"


def test_the_age_fits_into_each_of_several_images(tab: Callable[[], Page]) -> None:
    with showing(streams=2) as shown:
        page = tab()
        page.size(1280, 800)
        page.open(shown.url)
        shown.sink.write(result_of(numbered(1), 1))
        shown.sink.refresh(status(stalled=True))
        page.wait(f"{STATE} === 'dead'")
        inside = (
            "(() => { const old = document.querySelector('.state b'); old.textContent = '119 min old'; "
            "const words = document.createRange(); words.selectNodeContents(old); const [a, b] = "
            "[words, old.closest('.state')].map((each) => each.getBoundingClientRect()); "
            "return a.width > 100 && a.left >= b.left && a.right <= b.right; })()"
        )
        assert page.run(inside)
        page.open("about:blank")


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        (Mode.SR, set()), (Mode.BICUBIC, {"bicubic"}), (Mode.RAW, {"raw"}), (Mode.WIPE, {"bicubic", "SR"}),
        (Mode.SIDE, {"bicubic", "SR"}), (Mode.RAW_SIDE, {"raw", "SR"}),
    ],
)  # fmt: skip
def test_each_image_that_is_not_sr_has_its_name(
    page: Page, running: Running, mode: Mode, names: set[str]
) -> None:
    page.run(NOTE_WORDS)
    running.shown.subject.controls.change(mode=mode)
    page.wait(f"{BAR}.includes('{'LIVE' if mode is Mode.SR else mode}')")
    page.run("window.written = []")
    number = running.number
    page.wait(f"Number(document.querySelector('.hud').textContent.match(/frame (\\d+)/)[1]) > {number + 2}")
    assert set(page.run("window.written")) == names


def test_what_is_said_of_a_picture_is_not_ahead_of_it(
    page: Page, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view comes as a text, the picture later: on a slow network by seconds."""
    free = threading.Event()
    free.set()

    def slow(*arguments: Any) -> Any:
        free.wait(60)
        return compose(*arguments)

    monkeypatch.setattr("clesr.pipeline.sinks.browser.sink.compose", slow)
    controls = running.shown.subject.controls
    controls.change(mode=Mode.BICUBIC)
    page.wait(f"{BAR}.includes('bicubic')")
    page.run(NOTE_WORDS)
    free.clear()
    try:
        controls.change(mode=Mode.WIPE, wipe=0.25)
        page.wait("document.querySelector('#do-mode').value === 'wipe'")
        page.run("window.written = []")
        page.size(1200, 800)  # which draws it again
        page.wait("window.written.length")
        assert set(page.run("window.written")) == {"bicubic"}
        assert "bicubic" in page.run(BAR)
    finally:
        free.set()
    page.wait(f"{BAR}.includes('wipe')")
    assert "SR" in page.run("window.written")


def _judged(number: int) -> Any:
    image = numbered(0, 256)
    lr = image[::2, ::2]
    bad = np.array(lr)
    bad[40:80, 40:80] = 120
    return result_of(image, number, check=Fidelity(40.0, None, 28.0, (32, 48), 36.0, bad))


def test_what_the_window_says_of_a_picture_the_page_says_too(page: Page, running: Running) -> None:
    controls = running.shown.subject.controls
    running.held = True
    controls.change(
        hud="off", zoom=2.0, contrast=Contrast.FIXED, levels=(20.0, 200.0), lookup_table="fire", overlay=True
    )
    running.shown.sink.write(_judged(60_000))
    page.wait(f"{BAR}.includes('BELOW LIMIT')")
    told = page.run(BAR)
    assert all(words in told for words in ("zoom 2.0x", "contrast 20 to 200", "colours fire"))
    controls.change(zoom=1.0)
    page.wait(AMBER)  # corners around the tile
    legend = "document.querySelector('.legend')"
    page.wait(f"{legend}.offsetParent && {legend}.querySelector('img').naturalWidth")
    assert "grey levels" in page.run(f"{legend}.textContent")
    assert "and more" in page.run(f"{legend}.textContent")
    controls.change(mode=Mode.BICUBIC)  # of which nothing was judged
    page.wait(f"!{BAR}.includes('BELOW LIMIT') && {legend}.hidden")
    assert not page.run(AMBER)


def test_the_record_key_means_what_was_seen(page: Page, running: Running) -> None:
    """Somebody else may have begun or ended the recording meanwhile."""
    which = Argument("to", str, "start or stop", "", choices=("", "start", "stop"))
    record: Action[Any] = Action(
        "record", "Record.", noting("record"), (Argument("folder", str, "name", ""), which), "r"
    )
    running.add(record)
    page.wait("document.querySelector('#do-record')")
    page.press("r")
    until(lambda: running.asked("record") == [{"folder": "", "to": "start"}])
    running.status = {"recording": True, "recording_s": 1.0}
    page.wait(f"{BAR}.includes('REC')")
    page.click("#do-record")
    until(lambda: running.asked("record")[1:] == [{"folder": "", "to": "stop"}])


def test_what_is_held_written_or_noted_is_the_image_that_was_seen(
    page: Page, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer ones have come since, which are still being drawn."""
    number = Argument("number", int, "which", -1)
    named = {"still": "s", "note": "n", "freeze": " "}
    subject = running.shown.subject
    others = [each for each in ACTIONS if each.name not in named]
    made: list[Action[Any]] = [
        Action(name, name, noting(name), (number,), {" ": "space"}.get(key, key))
        for name, key in named.items()
    ]
    subject.controls = running.shown.sink.controls = Controls(subject, [*others, *made])
    page.wait("document.querySelector('#do-freeze')?.type === 'button'")
    free = threading.Event()

    def slow(*arguments: Any) -> Any:
        free.wait(60)
        return compose(*arguments)

    monkeypatch.setattr("clesr.pipeline.sinks.browser.sink.compose", slow)
    try:
        shown, before = -1, None
        while shown != before:  # what was drawn already comes
            before, shown = shown, page.run("new Promise((d) => setTimeout(d, 300)).then(() => " + READ + ")")
        until(lambda: running.number > shown + 5)
        for name, key in named.items():
            page.press(key)
            until(lambda: running.asked(name) == [{"number": shown}])  # noqa: B023 - it is over before they change
    finally:
        free.set()


def test_controls_show_what_the_run_does(page: Page, running: Running) -> None:
    """Not what this page chose last: a switch may fail, or somebody else have chosen."""
    scale = Argument("value", int, "which; 0 for the next", 0, choices=(0, 2, 4, 8))
    running.add(
        Action("scale", "How large.", noting("scale"), (scale,)),
        *(Action(name, f"{name}.", noting(name)) for name in ("temporal", "cores")),
    )
    running.status = {"scale": 4, "temporal": True, "cores": False}
    select = "document.querySelector('#do-scale-value')"
    page.wait(f"{select}?.value === '4'")
    assert page.run(f"[...{select}.options].map((each) => each.value)") == ["2", "4", "8"]
    pressed = (
        "['temporal', 'cores'].map((n) => document.querySelector(`#do-${n}`).getAttribute('aria-pressed'))"
    )
    page.wait(f"{pressed}.join() === 'true,false'")
    for times in (1, 2):  # the same choice can be tried again
        page.run(f"{select}.value = '8'; {select}.onchange()")
        until(lambda: running.asked("scale") == times * [{"value": 8}])  # noqa: B023 - it is over before it changes
        page.wait(f"{select}.value === '4'")
    running.status = {"scale": 8}
    page.wait(f"{select}.value === '8' && {pressed}.join() === 'false,false'")


def test_in_an_old_picture_nothing_is_measured(page: Page, running: Running) -> None:
    ruler = "document.querySelector('.ruler')"
    running.status = {"pixel_um": 1.0}
    running.shown.subject.controls.change(scale_bar=True)
    page.wait(f"!{ruler}.hidden")
    running.status = {"pixel_um": 1.0, "stalled": True}
    page.wait(f"{STATE} === 'dead' && {ruler}.hidden")
    running.status = {"pixel_um": 1.0}
    page.wait(f"{LIVE} && !{ruler}.hidden")
