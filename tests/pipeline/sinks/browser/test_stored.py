"""Recorded sessions over HTTP: their list, certificates, downloads and replays."""

from __future__ import annotations

import io
import logging
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from browser_view import Shown, looking, showing
from session_runs import frames, noise, record
from starlette.requests import Request
from support import until
from waits import joined
from websockets.exceptions import InvalidStatus

from clesr.pipeline.session.sessions import SessionListing
from clesr.pipeline.sinks.browser import app, threads

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

        def images(
            self, _name: str, _which: str, _go_on: object
        ) -> Iterator[tuple[float, Any, dict[str, Any]]]:
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


def _request(url: str, path: str) -> socket.socket:
    """A connection on which ``path`` was asked for."""
    connection = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 60)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


class Tape(io.RawIOBase):
    """A file without an end, of which a piece comes when ``turn`` is set."""

    def __init__(self) -> None:
        self.begun, self.turn = threading.Event(), threading.Event()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.begun.set()
        assert self.turn.wait(60)
        return len(buffer)


@pytest.mark.parametrize("path", ["zip", "files/raw.mkv"])
@pytest.mark.parametrize("reads", [True, False])
def test_a_download_that_nobody_waits_for_is_closed_in_silence(
    path: str, reads: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it ends while a piece is read: that was a warning, and its file stayed open."""
    tape, left = Tape(), threading.Event()

    class Stored:
        def files(self, _name: str) -> dict[str, int]:
            return {"raw.mkv": 1}

        def open(self, _name: str, _file: str) -> io.BufferedReader:
            return io.BufferedReader(tape)

    class Noting(app.Download):
        async def __call__(self, *arguments: Any) -> None:
            try:
                await super().__call__(*arguments)
            finally:
                left.set()

    monkeypatch.setattr(app, "Download", Noting)
    sessions: Any = Stored()
    with showing(sessions=sessions) as shown:
        with _request(shown.url, f"/sessions/a/{path}"):
            assert tape.begun.wait(60)
            if not reads:
                tape.turn.set()  # until it waits for a client that takes nothing
        assert left.wait(60)
        tape.turn.set()
        until(lambda: tape.closed)
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []


def test_a_download_rests_as_drawing_does(
    browser: httpx.Client, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """On a machine without a core to spare it took a whole one from a live engine."""
    took: list[float] = []

    class Pace:
        def __init__(self, share: float) -> None:
            assert share < 0.1

        def drew(self, took_s: float) -> None:
            took.append(took_s)

        def rest_s(self) -> float:
            rests.append(len(took))
            return 0.0

    rests: list[int] = []
    monkeypatch.setattr(app, "DrawingPace", Pace)
    assert browser.get(f"/sessions/{NAME}/zip").content
    assert rests == list(range(1, len(took) + 1))
    assert len(took) > len(list((folder / NAME).iterdir()))
    assert min(took) > 0


def test_certificates_whose_askers_have_left_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked next waited for all of them."""
    begun, go_on, made, left = threading.Event(), threading.Event(), list[str](), list[Request]()
    wait = app._end_of

    class Slow:
        def certificate(self, name: str, _advance: Callable[[int], None]) -> dict[str, Any]:
            made.append(name)
            begun.set()
            assert go_on.wait(60)
            return {"name": name}

    async def end_of(request: Request) -> None:
        await wait(request)
        left.append(request)

    monkeypatch.setattr(app, "_end_of", end_of)
    sessions: Any = Slow()
    with showing(sessions=sessions) as shown:
        for name in "abcd":
            with _request(shown.url, f"/sessions/{name}/certificate"):
                assert begun.wait(60)
        until(lambda: len(left) == 4)
        go_on.set()
        assert httpx.get(f"{shown.url}/sessions/e/certificate", timeout=60).json() == {"name": "e"}
    assert made == ["a", "e"]


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


def test_a_replay_that_hangs_ends_with_its_page_or_begins_anew() -> None:
    begun, ended = list[str](), list[str]()

    class Hanging:
        def names(self) -> list[str]:
            return ["a"]

        def images(self, _name: str, which: str, go_on: Callable[[], None]) -> Iterator[Any]:
            begun.append(which)
            try:
                while which == "sr":
                    go_on()
                yield 0.0, noise(1), {"number": 1}
            finally:
                ended.append(which)

    sessions: Any = Hanging()
    with showing(sessions=sessions) as shown:
        with looking(shown.url, "/sessions/a/replay") as looker:
            until(lambda: begun == ["sr"])
            looker.send(call="images", arguments={"which": "raw"}, id=1)
            assert looker.picture().header["number"] == 1
            looker.send(call="images", arguments={"which": "sr"}, id=1)
            until(lambda: begun == ["sr", "raw", "sr"])
        until(lambda: ended == ["sr", "raw", "sr"])


def test_sessions_that_cannot_be_read_hold_up_no_action_and_no_end_of_a_replay() -> None:
    """Their disk is another one, and does not answer."""
    go_on, begun = threading.Event(), threading.Semaphore(0)
    ended = threading.Event()

    class Hanging:
        def names(self) -> list[str]:
            return ["a"]

        def images(self, _name: str, _which: str, go_on: Callable[[], None]) -> Iterator[Any]:
            try:
                while True:
                    go_on()
                    yield 0.0, noise(1), {"number": 1}
            finally:
                ended.set()

        def describe(self) -> list[dict[str, Any]]:
            begun.release()
            assert go_on.wait(60)
            return []

    sessions: Any = Hanging()
    with showing(sessions=sessions) as shown, ExitStack() as asking:
        with looking(shown.url, "/sessions/a/replay") as replay:
            assert replay.picture().header["number"] == 1
            for _ in range(threads.MOST):
                asking.enter_context(_request(shown.url, "/sessions"))
                assert begun.acquire(timeout=60)
        assert ended.wait(30)
        with looking(shown.url) as looker:
            assert looker.call("still")["said"] == "still done"
        go_on.set()


def _ask(url: str) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/sessions/a/certificate", timeout=60)


def test_without_sessions_the_page_is_told_so() -> None:
    with showing() as shown:
        assert httpx.get(f"{shown.url}/streams").json() == {"streams": ["stream 0"], "sessions": False}
        assert httpx.get(f"{shown.url}/sessions").status_code == 404
        assert _refusal(shown, "/sessions/a/replay") == 403
