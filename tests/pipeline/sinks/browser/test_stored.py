"""Recorded sessions over HTTP: their list, certificates, downloads and replays."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from browser_view import Shown, looking, showing
from session_runs import frames, noise, record
from support import until
from waits import joined
from websockets.exceptions import InvalidStatus

from clesr.pipeline.session.sessions import SessionListing
from clesr.pipeline.sinks.browser import app

NAME = "ünïcode & new"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sessions")
    record(folder / NAME, frames(range(5)))
    (folder.parent / "secret").write_text("root:")
    return folder


@pytest.fixture(scope="module")
def view(folder: Path) -> Iterator[Shown]:
    with showing(sessions=SessionListing(folder)) as shown:
        yield shown


@pytest.fixture
def browser(view: Shown) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=view.url, verify=False) as client:
        yield client


def test_sessions_are_listed(browser: httpx.Client) -> None:
    (session,) = browser.get("/sessions").json()
    assert (session["name"], session["totals"]["captured"]) == (NAME, 5)


def test_a_certificate_is_made_when_it_is_asked_for(browser: httpx.Client) -> None:
    found = browser.get(f"/sessions/{NAME}/certificate").json()
    assert (found["holds"], found["complete"], found["session"]) == (True, True, NAME)


def test_a_session_comes_as_a_zip_file(browser: httpx.Client, folder: Path) -> None:
    answer = browser.get(f"/sessions/{NAME}/zip")
    assert (
        answer.headers["content-disposition"]
        == "attachment; filename*=UTF-8''%C3%BCn%C3%AFcode%20%26%20new.zip"
    )
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}
    assert found == {f"{NAME}/{path.name}": path.read_bytes() for path in (folder / NAME).iterdir()}


def test_its_files_come_one_by_one(browser: httpx.Client, folder: Path) -> None:
    for path in (folder / NAME).iterdir():
        assert browser.get(f"/sessions/{NAME}/files/{path.name}").content == path.read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "none/zip", "%2e%2e/zip", "..%2fsecret/zip", f"{NAME}/files/none", f"{NAME}/files/..%2f..%2fsecret",
        f"{NAME}/files/%2e%2e", "none/certificate", f"{NAME}/files/raw.mkv%00", f"{NAME}%2fraw.mkv/zip",
    ],
)  # fmt: skip
def test_nothing_else_is_there(browser: httpx.Client, path: str) -> None:
    answer = browser.get(f"/sessions/{path}")
    assert answer.status_code == 404
    assert "root:" not in answer.text


def test_a_session_plays_at_its_pace_to_its_end(view: Shown) -> None:
    with looking(view.url, f"/sessions/{quote(NAME)}/replay") as looker:
        looker.send(quality=0)
        seen = []
        while not looker.texts.get("playing", {}).get("over"):
            if not isinstance(got := looker.next(), str):
                seen.append(got)
                looker.send(ack=got.header["id"])
        numbers = [got.header["number"] for got in seen if got.header["quality"] == 0]
        assert numbers == sorted(numbers)
        assert looker.texts["hello"] == {"session": NAME}
        looker.send(call="images", arguments={"which": "raw"}, id=1)
        last = looker.picture()
        while not (last.header["number"] == 4 and last.header["shape"] == [12, 18]):
            last = looker.picture()
        assert np.array_equal(last.image, noise(4))


def test_a_replay_waits_where_it_is_paused() -> None:
    class Endless:
        """A session without an end, one image each millisecond."""

        begun = 0

        def names(self) -> list[str]:
            return ["endless"]

        def images(self, _name: str, _which: str) -> Iterator[tuple[float, Any, dict[str, Any]]]:
            self.begun += 1
            for number in range(10**6):
                yield number / 1000, noise(number % 7), {"number": number}

    sessions: Any = Endless()
    with showing(sessions=sessions) as shown, looking(shown.url, "/sessions/endless/replay") as looker:
        looker.picture()
        assert looker.call("pause")["paused"] is True
        (replay,) = shown.sink.site.replays
        before = replay.feed.version
        assert looker.call("seek")["error"]
        assert replay.feed.version <= before + 1
        assert looker.call("pause")["paused"] is False
        until(lambda: replay.feed.version > before + 1)
        assert sessions.begun == 1
        looker.call("restart")
        until(lambda: sessions.begun == 2)


def test_only_so_many_play_at_once(view: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "REPLAYS", 1)
    path = f"/sessions/{quote(NAME)}/replay"
    with looking(view.url, path) as looker:
        looker.text("hello")
        assert _refusal(view, path) == 403
    until(lambda: not view.sink.site.replays)
    with looking(view.url, path) as looker:
        looker.text("hello")


def _refusal(view: Shown, path: str) -> int:
    with pytest.raises(InvalidStatus) as raised, looking(view.url, path):
        pass
    return raised.value.response.status_code


def test_a_session_that_is_not_there_does_not_play(view: Shown) -> None:
    for name in ("none", "..%2fsecret", "%2e%2e"):
        assert _refusal(view, f"/sessions/{name}/replay") == 403


def test_a_certificate_that_nobody_waits_for_is_given_up() -> None:
    begun, ended = threading.Event(), threading.Event()

    class Slow:
        def certificate(self, _name: str, advance: Callable[[int], None]) -> dict[str, Any]:
            begun.set()
            try:
                while True:
                    advance(1)
            finally:
                ended.set()

    sessions: Any = Slow()
    with showing(sessions=sessions) as shown:
        asking = threading.Thread(target=_ask, args=(shown.url,))
        asking.start()
        assert begun.wait(60)
    assert ended.wait(60)
    joined(asking)


def _ask(url: str) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/sessions/a/certificate", timeout=60)


def test_without_sessions_the_page_is_told_so() -> None:
    with showing() as shown:
        assert httpx.get(f"{shown.url}/streams").json() == {"streams": ["stream 0"], "sessions": False}
        assert httpx.get(f"{shown.url}/sessions").status_code == 404
        assert _refusal(shown, "/sessions/a/replay") == 403
