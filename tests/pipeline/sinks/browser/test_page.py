"""The page in a real Chromium: what it shows, and whether that can mislead."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from browser_view import Subject, result_of, showing, status
from chromium import Page
from pages import LIVE, READ, Running
from session_runs import frames, make_run, record
from slow_network import slow_network
from support import ListSink, Step, until

from clesr.pipeline.alarms import LONGEST
from clesr.pipeline.frame import Outcome
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.sinks.browser.door import Door
from clesr.pipeline.sinks.browser.feed import encode
from clesr.pipeline.sinks.browser.sink import BrowserSink
from clesr.pipeline.sinks.browser.site import Site
from clesr.pipeline.sinks.browser.viewer import ON_THE_WAY
from clesr.pipeline.sinks.placement import WindowPlacement
from clesr.pipeline.sinks.registry import SinkOptions
from clesr.tools.common.runs import run_pipelines

pytestmark = pytest.mark.slow

BARS = (
    "[...document.querySelectorAll('.stage .alarm')]"
    ".map((bar) => bar.hidden ? '' : bar.innerText.trim().replace(/\\s+/g, ' ')).join('|')"
)


def test_the_canvas_shows_the_newest_frame(page: Page, running: Running) -> None:
    for _ in range(5):
        number = running.number
        page.wait(f"{READ} >= {number}")
        assert page.run(READ) <= running.number
    running.held = True
    page.wait(f"{READ} === {running.number}")


def test_a_lossless_picture_has_its_very_pixels(page: Page, running: Running) -> None:
    image = np.random.default_rng(3).integers(0, 256, (64, 64), np.uint8)
    page.run(
        "document.querySelector('#quality').value = '0'; document.querySelector('#quality').onchange({target: "
        "document.querySelector('#quality')})"
    )
    running.held = True
    until(lambda: bool(running.held))
    running.shown.sink.write(result_of(image, 60_000))
    page.wait("document.querySelector('.hud').textContent.includes('60000')")
    page.run(
        "Object.assign(document.querySelector('.picture').style, {width: '64px', height: '64px', flex: 'none'})"
    )
    page.wait("document.querySelector('.picture').width === 64")
    read = (
        "[...document.querySelector('.picture').getContext('2d').getImageData(0, 0, 64, 64).data]"
        ".filter((_, i) => i % 4 === 0)"
    )
    assert np.array_equal(np.array(page.run(read), np.uint8).reshape(64, 64), image)


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"stalled": True}, "dead", "NO SIGNAL"),
        ({"state": "failed", "message": "it broke"}, "dead", "it broke"),
        ({"state": "degraded", "message": "the engine hangs"}, "warning", "the engine hangs"),
    ],
)
def test_what_must_not_be_overlooked_is_seen(
    page: Page, running: Running, changed: dict[str, Any], kind: str, words: str
) -> None:
    running.status = changed
    page.wait(f"document.querySelector('.stage').dataset.state === '{kind}'")
    assert words in page.run("document.querySelector('.state').innerText")
    if kind == "dead":
        assert "grayscale" in page.run("getComputedStyle(document.querySelector('.picture')).filter")
        assert " old" in page.run("document.querySelector('.state b').textContent")
        size = "parseFloat(getComputedStyle(document.querySelector('.state b')).fontSize)"
        assert page.run(size) >= 34
    running.status = {}
    page.wait(LIVE)


def test_what_failed_is_said_of_a_frozen_image_and_of_a_switch(page: Page, running: Running) -> None:
    running.held = True
    bicubic = replace(result_of(np.zeros((64, 64), np.uint8), 70_000), outcome=Outcome.FAILED)
    running.shown.sink.write(bicubic)
    page.wait("document.querySelector('.hud').textContent.includes('70000')")
    page.press(" ")
    page.wait("document.querySelector('.stage').dataset.state === 'frozen'")
    assert "BICUBIC ONLY, image 70000" in page.run("document.querySelector('.state').innerText")
    running.status = {"switch_error": "x8 fast did not pass its self-test"}
    page.wait("document.querySelector('.hud').textContent.includes('did not pass its self-test')")


def test_a_key_that_is_held_does_its_action_once(page: Page, running: Running) -> None:
    page.press("s", held=5)
    page.press("b")
    until(lambda: len(running.asked("scale-bar")) == 1)  # and all before it
    assert len(running.asked("still")) == 1


def test_an_alarm_stays_until_it_is_acknowledged(page: Page, running: Running) -> None:
    text = "RECORDING ENDED: the disk is full"
    running.status = {"alarm": text, "alarms": (text, "ANOTHER")}
    page.wait("document.querySelector('.alarm').offsetParent")
    assert page.run("document.querySelector('.alarm').role") == "alert"
    page.click(".alarm button")
    until(lambda: running.asked("acknowledge") == [{"alarm": text}])
    assert "(and 1 more)" in page.run("document.querySelector('.alarm').textContent")
    assert "the disk is full" in page.run("document.querySelector('.alarm').textContent")
    running.status = {}
    page.wait("document.querySelector('.alarm').hidden")


def test_images_that_stop_coming_are_old_also_where_the_network_is_cut(page: Page, running: Running) -> None:
    page.send(
        "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
    )
    _cut(running)
    page.wait("document.querySelector('.state').innerText.includes('NO CONNECTION')")
    assert "frames/s" not in page.run("document.body.innerText")  # nothing that was true before
    assert "grayscale" in page.run("getComputedStyle(document.querySelector('.picture')).filter")
    page.wait("document.querySelector('.state b').textContent.match(/[1-9]\\.\\d s old/)")
    page.errors.clear()  # of tries while there was no network
    page.send(
        "Network.emulateNetworkConditions",
        offline=False,
        latency=0,
        downloadThroughput=-1,
        uploadThroughput=-1,
    )
    page.wait(LIVE)
    page.errors.clear()


@pytest.mark.parametrize("up_s", [0.0, 1.5])
def test_a_slow_network_makes_an_image_older_and_not_live(
    tab: Callable[[], Page], running: Running, up_s: float
) -> None:
    """Its way to the page counts, however long the way back is."""
    with slow_network(running.shown.sink.site.port) as network:
        page = tab()
        page.open(f"http://127.0.0.1:{network.port}")
        page.wait(f"document.querySelector('#do-quit') && {LIVE}", 60)
        network.down_s, network.up_s = 1.5, up_s
        page.wait(f"{READ} > {running.number + 1}", 120)  # which went the slow way
        numbers: set[int] = set()
        while len(numbers) < 3:
            number, state, old, age, grey = page.run(
                f"(() => {{ const stage = document.querySelector('.stage'); return [{READ}, stage.dataset.state, "
                "stage.querySelector('.state b').textContent, document.querySelector('#figures').textContent, "
                "stage.classList.contains('stale')]; })()"
            )
            numbers.add(number)
            assert state != "live"
            assert grey
            assert float(old.removesuffix(" s old")) >= 1.5
            assert float(age.rpartition("age ")[2].removesuffix(" s")) >= 1.5
        network.down_s = network.up_s = 0.0
        page.wait(LIVE, 60)
        page.open("about:blank")


def test_a_picture_that_is_long_under_way_is_shown(tab: Callable[[], Page], running: Running) -> None:
    """A network that brings a picture in seconds is no cut one."""
    with slow_network(running.shown.sink.site.port) as network:
        page = tab()
        page.open(f"http://127.0.0.1:{network.port}")
        page.wait(f"document.querySelector('#do-quit') && {LIVE}", 60)
        running.held = True
        noise = np.random.default_rng(1).integers(0, 256, (512, 512), np.uint8)
        (watcher,) = running.shown.sink._channel.watchers
        network.bytes_s = len(encode(noise, 90)) / 4
        running.shown.sink.write(result_of(noise, 60_000))
        page.wait("document.querySelector('.hud').textContent.includes('60000')", 60)
        assert watcher in set(running.shown.sink._channel.watchers)  # one connection brought it
        network.bytes_s = math.inf
        page.open("about:blank")


def test_a_computer_that_slept_takes_no_image_of_before_for_new(page: Page, running: Running) -> None:
    """The clock of an age stands still meanwhile, where that of the wall goes on."""
    (watcher,) = running.shown.sink._channel.watchers
    page.run(
        "(() => { const old = document.querySelector('.state b'); window.ages = []; new MutationObserver(() => "
        "window.ages.push(old.textContent)).observe(old, {childList: true}); const now = Date.now; "
        "Date.now = () => now() + 3000; })()"
    )
    until(lambda: watcher not in set(running.shown.sink._channel.watchers))
    page.wait(LIVE)
    ages = [age for age in page.run("window.ages") if age]
    assert ages
    assert all(float(age.removesuffix(" s old")) >= 3 for age in ages)


def _cut(running: Running) -> None:
    """Every connection ends without a word."""
    server = running.shown.sink.site._server
    assert server is not None

    def cut() -> None:
        for each in list(server._server.server_state.connections):
            each.transport.abort()

    server.soon(cut)


def test_a_cut_socket_comes_back_within_two_seconds(page: Page, running: Running) -> None:
    page.run(
        "window.cuts = []; new MutationObserver(() => { const s = document.querySelector('.stage').dataset.state; "
        "window.cuts.push([s, performance.now()]); }).observe(document.querySelector('.stage'), "
        "{attributes: true, attributeFilter: ['data-state']})"
    )
    for _ in range(3):
        page.run("window.cuts.length = 0")
        _cut(running)
        page.wait(f"window.cuts.some(([s]) => s === 'dead') && {LIVE}")
        begun, ended = page.run(
            "[window.cuts.find(([s]) => s === 'dead')[1], window.cuts.findLast(([s]) => s === 'live')[1]]"
        )
        assert ended - begun < 2000
    page.errors.clear()


def test_after_a_silent_cut_it_is_back_two_seconds_after_the_network_is(
    tab: Callable[[], Page], running: Running
) -> None:
    """What is tried meanwhile is never answered, nor refused."""
    with slow_network(running.shown.sink.site.port) as network:
        page = tab()
        page.open(f"http://127.0.0.1:{network.port}")
        page.wait(f"document.querySelector('#do-quit') && {LIVE}", 60)
        for tries in (
            1,
            4,
        ):  # at the worst of moments: when one has begun that is lost; the fourth may take long
            page.run(
                "(() => { const Plain = WebSocket; let left = "
                f"{tries}; window.begun = new Promise((done) => {{ window.WebSocket = class extends Plain {{ "
                "constructor(...a) { super(...a); left -= 1; if (!left) { window.WebSocket = Plain; "
                "setTimeout(done, 100); } } }; }); })()"
            )
            network.cut = True
            page.run("window.begun")
            network.cut = False
            begun = page.run("performance.now()")
            page.wait(LIVE)
            assert page.run("performance.now()") - begun < 2000
        page.open("about:blank")
    page.errors.clear()


def test_a_page_of_an_earlier_run_says_that_it_has_no_access(tab: Callable[[], Page]) -> None:
    """The run was started anew, with another token; the page said for ever that it tries again."""
    page, said = tab(), "document.querySelector('.state').innerText"
    with showing(token="the token of the first run") as shown:
        port = shown.sink.site.port
        page.open(shown.sink.site.url)
        page.wait("document.querySelector('.stage')?.dataset.state === 'wait'")
    with showing(door=Door(listen=f"127.0.0.1:{port}", token="the token of the second")) as shown:
        page.wait(f"{said}.includes('NO ACCESS')")
        assert "open the address that it tells" in page.run(said)
        page.open(shown.sink.site.url)
        page.wait("document.querySelector('.stage')?.dataset.state === 'wait'")
        page.open("about:blank")
    page.errors.clear()


def test_two_pages_one_of_them_slow(tab: Callable[[], Page], page: Page, running: Running) -> None:
    """While one draws a picture for as long as it likes, the other sees one after the other. The slow one is sent no
    more than it can draw, and then the newest."""
    slow = tab()
    slow.send(
        "Page.addScriptToEvaluateOnNewDocument",
        source="const draw = createImageBitmap; window.asked = window.drawn = window.left = 0; "
        "window.createImageBitmap = async (...a) => { window.asked += 1; "
        "while (!window.left) await new Promise((done) => setTimeout(done, 10)); "
        "window.left -= 1; window.drawn += 1; return draw(...a); };",
    )
    slow.open(running.shown.url)
    slow.wait("window.asked")
    for drawn in range(1, 4):
        shown = page.run(READ)
        for more in range(1, 6):
            page.wait(f"{READ} >= {shown + more}")
        assert slow.run("window.drawn") == drawn - 1
        slow.run("window.left = 1")
        slow.wait(f"window.drawn === {drawn} && window.asked > {drawn}")
    held = running.number
    slow.run(f"window.left = {ON_THE_WAY + 1}")
    slow.wait(f"{READ} >= {held}")
    slow.open("about:blank")


def test_a_session_plays_in_the_page_with_its_certificate(
    page: Page, running: Running, tmp_path: Path
) -> None:
    record(tmp_path / "examination", frames(range(30)))
    page.click("#tab-sessions")
    page.wait("document.querySelector('.session')")
    page.click(".session .buttons button:nth-child(2)")
    page.wait("document.querySelector('.verdict')?.textContent === 'COMPLETE'")
    page.click(".session .buttons button:nth-child(1)")
    page.wait("document.querySelectorAll('.stage').length === 2")
    page.wait("document.querySelector('.replay span').textContent === 'at its end'")
    assert page.run("[...document.querySelectorAll('.stage')].map((s) => s.dataset.state)") == [
        "live",
        "replay",
    ]
    page.click(".replay button:nth-of-type(3)")
    page.wait("document.querySelectorAll('.stage').length === 1")


def test_plots_and_pictures_by_touch_on_a_phone(page: Page, running: Running) -> None:
    page.size(390, 844, touch=True)
    page.wait("document.documentElement.scrollWidth <= 390")
    page.click("#tab-plots")
    page.wait("document.querySelector('#plots output').textContent.startsWith('now')")
    buttons = (
        "[...document.querySelectorAll('button')].filter((b) => b.offsetParent && b.closest('main, header'))"
    )
    assert page.run(f"{buttons}.every((b) => b.getBoundingClientRect().height >= 36)")


def test_several_streams_stand_side_by_side_or_alone(tab: Callable[[], Page]) -> None:
    with showing(streams=3) as shown:
        page = tab()
        page.size(1280, 800)
        page.open(shown.url)
        page.wait("document.querySelectorAll('#streams button').length === 4")
        seen = "[...document.querySelectorAll('.stage')].filter((s) => s.offsetParent).length"
        assert page.run(seen) == 3
        page.click("#streams button:nth-child(2)")
        assert page.run(seen) == 1
        pressed = "document.querySelector('#streams [aria-pressed=true]').textContent"
        assert page.run(pressed) == "stream 1"
        shown.sink.refresh(status(alarm="RECORDING ENDED", alarms=("RECORDING ENDED",)))  # of another
        page.wait(f"{seen} === 2 && document.querySelector('.stage .alarm').offsetParent")
        page.click(".stage")
        assert page.run(pressed) == "stream 0"
        shown.sink.refresh(status())
        page.wait(f"{seen} === 1 && {pressed} === 'stream 1'")
        page.click("#streams button:nth-child(4)")
        assert page.run(seen) == 3
        page.open("about:blank")


def test_which_of_several_streams_is_recorded_is_seen_in_each(tab: Callable[[], Page]) -> None:
    with showing(streams=2) as shown:
        page = tab()
        page.size(1280, 800)
        page.open(shown.url)
        other = shown.sink.site.channel(1)
        assert other is not None
        marks = "[...document.querySelectorAll('.stage .recording')].map((mark) => mark.innerText).join()"
        page.wait(f"document.querySelectorAll('.stage').length === 2 && {marks} === ','")
        shown.sink.refresh(status(recording=True, recording_s=187.0))
        page.wait(f"{marks} === 'REC 03:07,NOT RECORDED'")
        assert page.run(
            "[...document.querySelectorAll('.stage .recording .chip')].every((mark) => mark.offsetParent)"
        )
        mark, state = page.run(
            "['.recording', '.state'].map((each) => document.querySelectorAll(each)[1].getBoundingClientRect())"
            ".map(({ top, bottom }) => [top, bottom])"
        )
        assert mark[1] > mark[0]
        assert mark[1] <= state[0], "and covers no other word"
        other.post("status", msgspec.to_builtins(status(recording=True, recording_s=5.0)) | {"outages": ""})
        page.wait(f"{marks} === 'REC 03:07,REC 00:05'")
        page.open("about:blank")


def test_a_page_that_is_there_before_the_run_waits_for_all_of_it(tab: Callable[[], Page]) -> None:
    """While cameras and the engine are opened there is a connection, and the streams come one after the other."""
    site = Site(Door(listen="127.0.0.1:0"))
    page = tab()
    with ExitStack() as opened:
        for index in range(2):
            place = WindowPlacement(f"stream {index}", index, 2)
            sink = BrowserSink(options=SinkOptions(place=place, site=site))
            opened.callback(sink.close)
            if not index:
                page.open(site.url)
            count = f"document.querySelectorAll('.stage').length === {index + 1}"
            page.wait(f"{count} && document.querySelector('.stage').dataset.state === 'wait'")
            states = page.run(
                "new Promise((done) => { const stage = document.querySelector('.stage'), seen = []; "
                "new MutationObserver(() => seen.push(stage.dataset.state)).observe(stage, {attributes: true}); "
                "setTimeout(() => done(seen), 3000); })"
            )
            assert "dead" not in states
            assert "is being opened" in page.run("document.querySelector('.state').innerText")
        page.open("about:blank")


NAMED = "[role=img], canvas, img, button, select, input, textarea, a, summary, dialog[open], [role=tabpanel]"
NAMELESS = f"""(() => {{
  window.nameless = [];
  const nameOf = (each) => {{
    const ids = (each.getAttribute("aria-labelledby") ?? "").split(" ");
    const labels = [...(each.labels ?? []), ...ids.map((id) => document.getElementById(id))];
    return [each.ariaLabel, each.alt, each.textContent, ...labels.map((label) => label?.textContent)].join("").trim();
  }};
  new MutationObserver(() => {{
    for (const each of document.querySelectorAll("{NAMED}")) {{
      if (!nameOf(each)) window.nameless.push(each.outerHTML);
    }}
  }}).observe(document, {{ subtree: true, childList: true, attributes: true }});
}})()"""


def test_everything_has_its_name_from_its_making(
    tab: Callable[[], Page], running: Running, tmp_path: Path
) -> None:
    """Looked at after every change of the page, by what a screen reader may say meanwhile."""
    record(tmp_path / "examination", frames(range(3)))
    page = tab()
    page.size(1280, 800)
    page.send("Page.addScriptToEvaluateOnNewDocument", source=NAMELESS)
    page.open(running.shown.url)
    page.wait(f"document.querySelector('#do-quit') && {LIVE}")
    page.click("#tab-plots")
    page.click("#tab-sessions")
    page.wait("document.querySelector('.session')")
    page.click(".session .buttons button:nth-child(1)")
    page.wait("document.querySelector('.replay span').textContent === 'at its end'")
    page.press("?")
    page.wait("document.querySelector('#help').open")
    assert page.run("[...new Set(window.nameless)]") == []
    page.open("about:blank")


@pytest.mark.parametrize("state", ["live", "frozen", "alarm", "help", "plots", "sessions", "phone", "cut"])
def test_axe_finds_no_serious_violation(page: Page, running: Running, tmp_path: Path, state: str) -> None:
    axe = files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    if state == "frozen":
        page.press(" ")
        page.wait("document.querySelector('.stage').dataset.state === 'frozen'")
    elif state == "alarm":
        running.status = {"alarm": "RECORDING ENDED", "recording": True, "stalled": True}
        page.wait("document.querySelector('.alarm').offsetParent")
    elif state == "help":
        page.press("h")
    elif state in ("plots", "sessions"):
        record(tmp_path / "examination", frames(range(3)))
        shutil.copytree(tmp_path / "examination", tmp_path / "damaged")
        (tmp_path / "damaged" / "session.json").write_text("{")
        page.click(f"#tab-{state}")
        page.wait("document.querySelector('.session') || !document.querySelector('#plots').hidden")
    elif state == "phone":
        page.size(390, 844, touch=True)
    elif state == "cut":
        running.shown.sink.close()
        page.wait("document.querySelector('.stage').dataset.state === 'dead'")
    page.run(f"(() => {{ {axe}; }})()")
    found = page.run(
        "axe.run().then((r) => r.violations.map((v) => [v.impact, v.id, v.nodes.map((n) => n.html)]))"
    )
    assert [each for each in found if each[0] in ("serious", "critical")] == []


def test_an_alarm_of_a_stream_that_ends_is_shown_once_and_can_be_acknowledged(
    tab: Callable[[], Page],
) -> None:
    """Beside the stream that goes on; also on a page that is opened later."""
    alarm, seen = f"RECORDING ENDED: {'x' * LONGEST}"[:LONGEST], list[str]()
    handed = f"right: {alarm}"[:LONGEST]

    def ending() -> Iterator[Step]:
        yield from frames(range(2))
        page.wait(f"{BARS} === '|'")  # both streams are there
        right.alarms.add(alarm)
        page.wait(f"{BARS} === {json.dumps(f'|{alarm} Acknowledge')}")

    def lasting() -> Iterator[Step]:
        yield from frames(range(2))
        until(lambda: right.alarms.handed_over)
        for _ in range(2):
            page.wait(f"{BARS} === {json.dumps(f'{handed} Acknowledge|')}")
            page.wait("document.querySelectorAll('.stage')[1].dataset.state === 'dead'")
            page.open(site.url)
        assert left.alarms.acknowledge() == handed
        page.wait(f"{BARS} === '|'")
        seen.append(handed)
        page.open("about:blank")

    def run_of(index: int, script: Iterator[Step]) -> Pipeline:
        sink = BrowserSink(options=SinkOptions(place=WindowPlacement(f"stream {index}", index, 2), site=site))
        sink.controls = Subject().controls
        return make_run(script, sinks=[sink])[0]

    page, site = tab(), Site(Door(listen="127.0.0.1:0"))
    left, right = run_of(0, lasting()), run_of(1, ending())
    page.size(1280, 800)
    page.open(site.url)
    run_pipelines({"left": (left, None), "right": (right, None)})
    assert seen == [handed], (left.error, right.error)


@pytest.mark.parametrize("broken", ["compose", "_address_of"])
def test_a_page_that_broke_says_so_and_shows_what_is_true(
    tab: Callable[[], Page], broken: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever of it broke: the stream goes on, is recorded, and has alarms that are acknowledged there."""
    seen = list[str]()
    look = "document.querySelector('.stage').dataset.state"
    recorded = "document.querySelector('#figures').innerText.includes('REC')"

    def fail(*_arguments: object) -> None:
        raise MemoryError("no memory for the picture")

    def script() -> Iterator[Step]:
        yield from frames(range(2))
        page.wait("document.querySelector('.stage')")
        page.wait(recorded)
        run.alarms.add("RECORDING ENDED: the disk is full")
        monkeypatch.setattr(f"clesr.pipeline.sinks.browser.sink.{broken}", fail)
        controls.map = lambda width, height: np.zeros((height, width), np.uint8)
        controls.change(mosaic=True)
        yield from frames(range(2, 4))
        page.wait(f"{look} === 'dead' && document.querySelector('.state').innerText.includes('FAILED')")
        assert "no memory" in page.run("document.querySelector('.state').innerText")
        page.wait(f"{BARS}.includes('and 1 more') && {recorded}")
        run.stop_recording()
        yield from frames(range(4, 6))
        page.wait(f"!{recorded}")
        while run.alarms.acknowledge():
            pass
        page.wait(f"{BARS} === ''")
        seen.append("all")

    page, site = tab(), Site(Door(listen="127.0.0.1:0"))
    sink = BrowserSink(options=SinkOptions(site=site))
    controls = Subject().controls
    sink.controls = controls
    run = make_run(script(), sinks=[sink, ListSink("keeps")])[0]
    run.start_recording(tmp_path / "s")
    page.open(site.url)
    with pytest.raises(Exception, match="no memory for the picture"):
        run.run()
    assert seen == ["all"]
    page.open("about:blank")
