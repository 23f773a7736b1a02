"""What a page gets, and when: the newest picture at its own pace, what the stream says, answers to its actions."""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from browser_view import (
    ACTIONS,
    Seen,
    Shown,
    ask_and_never_read,
    decoded,
    looking,
    number_in,
    numbered,
    page_ms,
    result_of,
    showing,
    status,
)
from support import ManualClock, until

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import SinkError
from clesr.pipeline.display.view_state import ViewState
from clesr.pipeline.sinks.browser import server, viewer
from clesr.pipeline.sinks.browser.feed import USUAL
from clesr.pipeline.sinks.browser.viewer import ON_THE_WAY
from clesr.pipeline.status import State

SECOND = 10**9


@pytest.fixture
def shown() -> Iterator[Shown]:
    with showing() as made:
        yield made


def test_a_page_is_told_what_it_looks_at_before_any_picture(shown: Shown) -> None:
    with looking(shown.url) as looker:
        assert looker.text("hello")["actions"] == shown.subject.controls.describe()
        assert looker.texts["hello"]["quality"] == USUAL
        assert looker.text("view")["mode"] == "sr"
        assert looker.text("status")["state"] == "running"


def test_a_picture_says_what_it_shows(shown: Shown) -> None:
    image = numbered(321)
    begun = SYSTEM.now_ns()
    result = result_of(image, 321, fidelity=41.5)
    shown.sink.write(result)
    with looking(shown.url) as looker:
        looker.send(quality=0)
        seen = looker.picture()
        while seen.header["quality"]:
            seen = looker.picture()
    assert np.array_equal(seen.image, image)
    late_ms = page_ms(result.frame.time_ns) - seen.header["captured_ms"]
    assert 0 <= late_ms <= (SYSTEM.now_ns() - begun) / 1e6, (
        "older by no more than the way of the page's own time"
    )
    expected = {
        "number": 321,
        "outcome": "upscaled",
        "fidelity": 41.5,
        "scale": 2,
        "shape": [64, 64],
        "model": "fast",
    }
    assert {name: seen.header[name] for name in expected} == expected


def test_a_page_gets_no_picture_before_it_has_said_its_time(shown: Shown) -> None:
    """Its age would be a guess."""
    shown.show(1)
    with looking(shown.url, says_time=False) as looker:
        for number in range(3):
            shown.sink.refresh(status(alarm=str(number)))
            while looker.texts.get("status", {}).get("alarm") != str(number):
                assert isinstance(looker.next(), str)
        looker.send(now=0)
        assert looker.picture().header["number"] == 1


def test_changing_the_quality_gives_a_still_image_again(shown: Shown) -> None:
    shown.show(9)
    with looking(shown.url) as looker:
        assert looker.picture().header["quality"] == USUAL
        for quality in (0, 50, 97):
            looker.send(quality=quality)
            seen = looker.picture()
            assert (seen.header["quality"], number_in(seen.image)) == (quality, 9)


def test_no_more_pictures_are_on_their_way_than_were_acknowledged(shown: Shown) -> None:
    with looking(shown.url) as looker:
        seen: list[Seen] = []
        for number in range(1, 40):
            shown.show(number)
            if len(seen) < ON_THE_WAY:
                seen.append(looker.picture(ack=False))
        shown.sink.refresh(status(alarm="until here"))
        looker.text("status")
        while looker.texts["status"]["alarm"] != "until here":
            assert isinstance(looker.next(), str), "a picture came that nobody had room for"
        looker.send(ack=seen[0].header["id"])
        assert looker.picture(ack=False).header["number"] == 39  # the newest: what was between is gone


def test_a_slow_page_holds_up_no_other_and_is_never_behind(shown: Shown) -> None:
    with looking(shown.url) as fast, looking(shown.url) as slow:
        held: list[Seen] = []
        for number in range(1, 101):
            shown.show(number)
            assert fast.picture().header["number"] == number
            if number % 20 == 1 and number > 1:  # draws one picture while the other draws twenty
                slow.send(ack=held[-1].header["id"] if held else 0)
            if number % 20 == 1:
                held.append(slow.picture(ack=False))
        behind = [seen.header["number"] for seen in held]
        assert behind[0] == 1
        assert all(number >= 20 * index - 19 for index, number in enumerate(behind))


def test_the_view_is_told_and_drawn_also_while_frozen(shown: Shown) -> None:
    shown.sink.write(result_of(numbered(0xFFFF), 1))
    controls = shown.subject.controls
    controls.shown = result_of(numbered(0), 2)
    controls.change(frozen=True)
    shown.sink.refresh(status())
    with looking(shown.url) as looker:
        assert number_in(looker.picture().image) == 0
        shown.show(3)  # goes on behind the frozen one
        assert looker.call("mode", mode="bicubic")["said"] == "mode done"
        shown.sink.refresh(status())
        assert looker.text("view") | {"mode": "bicubic", "frozen": True} == looker.texts["view"]
        assert number_in(looker.picture().image) == 0
        controls.shown = None
        controls.change(frozen=False)
        shown.show(4)
        assert looker.picture().header["number"] == 4


def test_where_the_run_stands_is_told_when_it_changes(shown: Shown) -> None:
    with looking(shown.url) as looker:
        looker.text("status")
        for state in (State.DEGRADED, State.RUNNING, State.FAILED):
            shown.sink.refresh(status(state=state))
            assert looker.text("status")["state"] == state
        shown.sink.refresh(status(state=State.FAILED, alarm="RECORDING ENDED: the disk is full"))
        assert looker.text("status")["alarm"] == "RECORDING ENDED: the disk is full"


@pytest.mark.parametrize("action", [action.name for action in ACTIONS])
def test_each_action_is_called_by_the_socket(view: Shown, action: str) -> None:
    (described,) = [each for each in view.subject.controls.describe() if each["name"] == action]
    values = {"str": "sr", "int": 1, "float": 1.0, "bool": True}
    given = {each["name"]: values[each["kind"]] for each in described["arguments"]}
    before = view.subject.controls.view
    with looking(view.url) as looker:
        told = looker.call(action, **given)
    if action == "fail":
        assert told == {"id": 7, "error": "it cannot be done; try something else"}
    elif action == "freeze":
        assert view.subject.controls.view.frozen != before.frozen
    else:
        assert told == {"id": 7, "said": f"{action} done"}
        assert view.subject.calls[-1] == (action, given)


@pytest.fixture(scope="module")
def view() -> Iterator[Shown]:
    with showing() as made:
        yield made


def test_what_cannot_be_done_is_answered_in_one_line(view: Shown) -> None:
    with looking(view.url) as looker:
        for name, arguments in (
            ("nonsense", {}),
            ("wipe", {}),
            ("wipe", {"position": 2}),
            ("note", {"text": [1]}),
        ):
            told = looker.call(name, **arguments)
            assert told["error"]
            assert "\n" not in told["error"]


def test_before_there_are_controls_an_action_is_refused(shown: Shown) -> None:
    shown.sink.controls = None
    shown.sink.refresh(status())
    with looking(shown.url) as looker:
        assert "still being opened" in looker.call("freeze")["error"]
        shown.sink.controls = shown.subject.controls
        shown.sink.refresh(status())
        assert looker.text("hello")["actions"]


def test_a_page_that_never_reads_is_dropped_and_disturbs_nobody(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "TAKEN_S", 0.5)
    noise = np.random.default_rng(0).integers(0, 256, (2048, 2048), np.uint8)
    channel = shown.sink.site.channel(0)
    assert channel is not None
    with ask_and_never_read(shown.sink.site.port), looking(shown.url) as looker:
        until(lambda: len(channel.watchers) == 2)
        number = 0
        while len(channel.watchers) > 1:
            number += 1
            shown.sink.write(result_of(noise, number))
            assert looker.picture().header["number"] == number
        shown.sink.refresh(status())
        assert looker.text("status")


def test_actions_that_wait_hold_up_no_picture(shown: Shown) -> None:
    go_on = threading.Event()
    channel = shown.sink.site.channel(0)
    assert channel is not None
    channel.call = lambda _name, _arguments, _by: {"said": str(go_on.wait(60))}
    channel.waits = lambda _name: True
    with looking(shown.url) as looker:
        for number in range(viewer.MOST_CALLS + 1):
            looker.send(call="still", id=number)
        refused = looker.text("told")
        assert refused["id"] == viewer.MOST_CALLS
        assert "still at work" in refused["error"]
        shown.show(3)
        assert looker.picture().header["number"] == 3
        go_on.set()
        assert {looker.text("told")["id"] for _ in range(viewer.MOST_CALLS)} == set(range(viewer.MOST_CALLS))


def test_actions_that_wait_hold_up_none_that_do_not(shown: Shown) -> None:
    """Not those of the page that waits, nor another's, however many wait."""
    go_on = threading.Event()
    channel = shown.sink.site.channel(0)
    assert channel is not None
    channel.call = lambda name, _arguments, _by: {"said": str(name == "freeze" or go_on.wait(60))}
    channel.waits = lambda name: name != "freeze"
    with looking(shown.url) as one, looking(shown.url) as other, looking(shown.url) as third:
        for page in (one, other, third):
            for number in range(viewer.MOST_CALLS):
                page.send(call="still", id=number + 10)
        for page in (one, other, third):
            assert page.call("freeze")["id"] == 7, "answered first"
        go_on.set()
        for page in (one, other, third):
            assert {page.text("told")["id"] for _ in range(viewer.MOST_CALLS)} == set(
                range(10, viewer.MOST_CALLS + 10)
            )


def test_of_two_pages_each_is_asked(shown: Shown) -> None:
    asked: list[object] = []
    channel = shown.sink.site.channel(0)
    assert channel is not None

    def call(_name: str, _arguments: object, by: object) -> dict[str, Any]:
        asked.append(by)
        return {}

    channel.call = call
    with looking(shown.url) as one, looking(shown.url) as other:
        for page in (one, other, one):
            page.call("quit")
    assert asked[0] is asked[2] is not asked[1]


def test_no_answer_is_left_out_and_who_reads_none_is_cut_off(shown: Shown) -> None:
    """A page waits for each of its answers."""
    channel = shown.sink.site.channel(0)
    assert channel is not None
    page = viewer.Viewer(cast(Any, None), channel, cast(Any, None))
    for number in range(viewer.MOST_ANSWERS):
        page._answer(number, {"said": "done"})
    with pytest.raises(viewer.RuleBroken, match="answers are not read"):
        page._begin("still", viewer.Message())
    told = [json.loads(cast(str, page._next()))["told"]["id"] for _ in range(viewer.MOST_ANSWERS)]
    assert told == list(range(viewer.MOST_ANSWERS))


def test_a_second_picture_is_sent_when_the_first_is_nearly_drawn(shown: Shown) -> None:
    """Sent at once it would wait for the first, and be so much older when it is drawn."""
    channel, clock = shown.sink.site.channel(0), ManualClock()
    assert channel is not None
    page = viewer.Viewer(cast(Any, None), channel, cast(Any, None), clock=clock)
    picture: Any = SimpleNamespace(
        drawing=SimpleNamespace(facts={}, time_ns=None), shape=(2, 2), quality=90, data=b"12"
    )

    async def look() -> None:
        assert page._has_room()
        for number in range(1, 20):
            page._cut(picture)
            clock.advance(0.05)
            page._take(viewer.Message(ack=number))
            assert page._has_room()
            clock.advance(0.3)  # the source pauses
        page._cut(picture)
        clock.advance(0.05 - viewer.LEAD_NS / 1e9 - 0.001)
        assert not page._has_room()
        clock.advance(0.002)
        assert page._has_room()
        page._cut(picture)
        clock.advance(60)
        assert not page._has_room(), "two at most"

    asyncio.run(look())


def test_several_streams_are_apart_on_one_server() -> None:
    with showing(streams=2) as shown, looking(shown.url, "/streams/1") as other, looking(shown.url) as first:
        assert other.text("hello")["title"] == "stream 1"
        assert first.text("hello")["title"] == "stream 0"
        shown.show(5)
        assert first.picture().header["number"] == 5
        shown.sink.close()
        assert first.text("ended")
        assert other.text("status")  # goes on


def test_a_picture_that_cannot_be_drawn_is_an_error_of_the_sink(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_result: object, _view: ViewState) -> None:
        raise ValueError("what is that")

    monkeypatch.setattr("clesr.pipeline.sinks.browser.sink.compose", fail)
    with looking(shown.url):
        shown.show(1)

        def broken() -> bool:
            try:
                return not shown.sink.refresh(status())
            except SinkError as error:
                return "what is that" in str(error)

        until(broken)


def test_closing_tells_how_much_was_shown(shown: Shown) -> None:
    shown.show(1)
    shown.show(2)
    assert shown.sink.close() == "browser: 2 results for the page"
    assert shown.sink.close() == "browser: 2 results for the page"


def test_the_map_is_told_while_it_is_to_be_seen(shown: Shown) -> None:
    controls = shown.subject.controls
    controls.map = lambda width, height: np.full((height, width), 77, np.uint8)
    with looking(shown.url) as looker:
        controls.change(mosaic=True)
        shown.sink.refresh(status())
        address = looker.text("map")
        kind, data = address.split(",")
        assert kind == "data:image/png;base64"
        assert (decoded(b64decode(data)) == 77).all()
        controls.change(mosaic=False)
        shown.sink.refresh(status())
        while looker.text("map") is not None:
            pass
