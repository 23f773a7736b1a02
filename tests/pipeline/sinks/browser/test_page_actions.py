"""Every action of clesr on the page in a real Chromium, by mouse and by key, on a stream that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bundles import draw_bundle
from chromium import Page
from operated import Stage, on_stage
from support import ScriptedSource, until

from clesr.pipeline.controls import REQUIRED, Action
from clesr.pipeline.operator.registry import all_actions
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.verify import verify
from clesr.pipeline.sinks.browser.door import Door
from clesr.pipeline.sinks.browser.sink import BrowserSink
from clesr.pipeline.sinks.browser.site import Site
from clesr.pipeline.sinks.mosaic import MosaicFile
from clesr.pipeline.sinks.registry import SinkOptions

pytestmark = pytest.mark.slow

ACTIONS = {action.name: action for action in all_actions()}
TURN = {
    "calibrate-cores": -2,
    "save-last": -1,
    "quit": 1,
}  # what others need, and what ends all; others in their order
ORDER = sorted(ACTIONS.values(), key=lambda action: TURN.get(action.name, 0))
TYPED: dict[str, dict[str, str]] = {
    "levels": {"low": "20", "high": "200"},
    "centre": {"x": "0.4", "y": "0.6"},
    "model": {"name": "other"},
    "exposure": {"value": "120"},
    "gain": {"value": "-3"},
    "region": {"x": "1", "y": "2", "width": "30", "height": "40"},
    "note": {"text": "a node"},
}
SEEN: dict[str, tuple[str, object]] = {
    "levels": ("levels", (20.0, 200.0)),
    "centre": ("centre", (0.4, 0.6)),
    "region": ("region", (1, 2, 30, 40)),
}
KEYS = {"space": " "}
ALARM = "something went wrong"
OWN = ("help", "full-screen")  # of the page, not of the stream


class Hand:
    """Does actions on the page of ``stage``; ``done`` has what became of those that reached the stream."""

    def __init__(self, page: Page, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.page, self.stage = page, stage
        self.done: list[tuple[str, object]] = []
        call = stage.operator.controls.call

        def spy(name: str, arguments: Mapping[str, object], by: object) -> dict[str, Any]:
            try:
                told = call(name, arguments, by)
            except Exception as error:
                self.done.append((name, error))
                raise
            self.done.append((name, None))
            return told

        monkeypatch.setattr(stage.operator.controls, "call", spy)

    def do(self, action: Action[Any], act: Callable[[], object]) -> None:
        """``act`` does ``action``, and nothing else."""
        if action.name == "acknowledge":
            self.stage.operator.recorder._segments.alarms.add(ALARM)
            self.page.wait("document.querySelector('.alarm').offsetParent")
        before = len(self.done)
        act()
        if action.name in OWN:
            self._look_at_the_page(action.name)
        else:
            if action.name == "quit":
                self.page.wait("document.querySelector('#sure').open")
                self.page.click("#sure .danger")
            until(lambda: len(self.done) > before)
        expected = [] if action.name in OWN else [(action.name, None)]
        assert self.done[before:] == expected or (action.long and "it goes on" in str(self.done[before:]))
        if action.long:
            until(lambda: not self.stage.operator.controls._turn_of(action).locked())

    def fill_and_click(self, action: Action[Any]) -> None:
        needed = {each.name for each in action.arguments if each.default is REQUIRED}
        assert needed <= TYPED.get(action.name, {}).keys(), f"type something for {action.name} in this test"
        folded = f"form:has(#do-{action.name}) details:not([open]) summary"
        if needed != TYPED.get(action.name, {}).keys() and self.page.run(
            f"!!document.querySelector('{folded}')"
        ):
            self.page.click(folded)
        for argument, text in TYPED.get(action.name, {}).items():
            self.page.run(f"document.querySelector('#do-{action.name}-{argument}').select()")
            self.page.type(text)
        self.page.click(f"#do-{action.name}")

    def _look_at_the_page(self, name: str) -> None:
        if name == "help":
            self.page.wait("document.querySelector('#help').open")
            self.page.press("Escape")
            self.page.wait("!document.querySelector('#help').open")
        else:
            self.page.wait("document.fullscreenElement && !document.querySelector('#panel').offsetParent")
            assert self.page.run("document.querySelector('#figures .chip').offsetParent !== null"), (
                "LIVE and REC stay"
            )
            self.page.press(ACTIONS[name].key)
            self.page.wait("document.fullscreenElement === null")


@contextmanager
def at_work(folder: Path, tab: Callable[[], Page], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hand]:
    flat = draw_bundle().show()
    maps = MosaicFile(f"mosaic:{folder}/map.ome.tif", share=1)
    sink = BrowserSink(options=SinkOptions(site=Site(Door(listen="127.0.0.1:0"))))
    url = sink.site.url
    monkeypatch.setattr(ScriptedSource, "adjust", lambda *_: None, raising=False)
    with on_stage(folder, sinks=[sink], maps=maps, retro_s=1.0, image_of=lambda _number: flat) as stage:
        page = tab()
        page.size(1280, 800)
        page.open(url)
        page.wait("document.querySelector('#do-quit')")
        yield Hand(page, stage, monkeypatch)
        page.open("about:blank")
        assert page.errors == []


def test_every_action_is_done_by_the_mouse(
    tab: Callable[[], Page], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with at_work(tmp_path, tab, monkeypatch) as hand:
        for action in ORDER:
            hand.do(action, partial(hand.fill_and_click, action))
            if action.name == "mosaic":
                hand.page.wait("document.querySelector('.map img').naturalWidth > 0")
                assert hand.page.run("document.querySelector('.map').offsetParent !== null")
            if action.name in SEEN:
                field, value = SEEN[action.name]
                assert getattr(hand.stage.operator.controls.view, field) == value
    (session,) = [path for path in tmp_path.glob("s*") if read_session(path).notes()]
    assert {note.text for note in read_session(session).notes()} == {"a node", f"alarm acknowledged: {ALARM}"}
    assert verify(session).complete
    assert (tmp_path / "map.ome.tif").exists()
    assert list(tmp_path.glob("*.cores"))
    assert list(tmp_path.glob("clesr-still-*.sr.png"))


def test_every_key_does_its_action(
    tab: Callable[[], Page], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with at_work(tmp_path, tab, monkeypatch) as hand:
        calibrate = ACTIONS["calibrate-cores"]
        hand.do(calibrate, partial(hand.fill_and_click, calibrate))
        hand.page.run("document.activeElement.blur()")
        for action in (each for each in ORDER if each.key):
            key = KEYS.get(action.key, action.key)
            hand.do(action, partial(hand.page.press, key))
