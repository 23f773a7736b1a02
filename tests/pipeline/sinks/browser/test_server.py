"""The browser's server over real sockets: who gets in, what one connection may cost, and what is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser_view import Looker, Shown, looking, showing
from certificates import make_certificate, trusting
from heard import hear
from support import until
from websockets.exceptions import ConnectionClosed, InvalidStatus

from clesr.engines.common.errors import SinkError
from clesr.pipeline.sinks.browser import connections, server, viewer
from clesr.pipeline.sinks.browser.app import page_files
from clesr.pipeline.sinks.browser.door import Door
from clesr.pipeline.sinks.browser.site import Site

TOKEN = "a token of the user's own"
ROUTES = (
    "/", "/app.js", "/style.css", "/streams", "/sessions", "/sessions/a/certificate", "/sessions/a/zip",
    "/sessions/a/files/raw.mkv", "/nothing",
)  # fmt: skip
SOCKETS = ("/streams/0", "/streams/9", "/sessions/a/replay", "/nothing")


@pytest.fixture(scope="module")
def view() -> Iterator[Shown]:
    """A stream for tests that leave nothing behind in it."""
    with showing() as shown:
        yield shown


def asking(shown: Shown, **options: Any) -> httpx.Client:
    return httpx.Client(base_url=shown.url, verify=False, **options)


def raw(shown: Shown, data: bytes, seconds: float = 20.0) -> bytes:
    """What the server answers to ``data`` before it closes."""
    with socket.create_connection(("127.0.0.1", shown.sink.site.port), seconds) as connection:
        connection.sendall(data)
        return received(connection)


def received(connection: socket.socket) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            answer += piece
    return answer


def refused_socket(url: str, path: str, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as raised, looking(url, path, **options):
        pass
    return raised.value.response.status_code


def test_without_the_token_every_route_and_socket_is_401() -> None:
    with showing(token=TOKEN) as shown, asking(shown) as browser:
        for route in ROUTES:
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
                assert browser.request(method, route).status_code == 401, (method, route)
        assert browser.get("/?token=wrong").status_code == 401
        assert browser.get(f"/streams?token={TOKEN}").status_code == 401  # the page alone takes it
        for path in SOCKETS:
            assert refused_socket(shown.url, path) == 401


def test_the_token_becomes_a_cookie_and_leaves_the_address() -> None:
    with showing(token=TOKEN) as shown, asking(shown) as browser:
        first = browser.get("/", params={"token": TOKEN})
        assert (first.status_code, first.headers["location"]) == (303, "/")
        for route in ("/", "/app.js", "/streams"):
            assert browser.get(route).status_code == 200
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        with looking(shown.url, additional_headers={"Cookie": cookie}) as looker:
            assert looker.text("hello")["title"] == "stream 0"


def test_every_answer_has_the_headers_that_protect_the_page(view: Shown) -> None:
    with showing(token=TOKEN) as closed, asking(view) as browser, asking(closed) as stranger:
        answers = [browser.get(route) for route in ROUTES]
        answers += [browser.post("/"), stranger.get("/"), stranger.get(f"/?token={TOKEN}")]
    assert {answer.status_code for answer in answers} == {200, 303, 401, 404, 405}
    for answer in answers:
        policy = dict(
            part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_other_sites_pages_are_refused(view: Shown) -> None:
    evil = "http://evil.example"
    assert httpx.get(f"{view.url}/streams", headers={"Origin": evil}).status_code == 403
    assert httpx.get(view.url, headers={"Host": "evil.example"}).status_code == 421
    assert refused_socket(view.url, "/streams/0", origin=evil) == 403
    assert refused_socket(view.url, "/sessions/a/replay", origin="null") == 403
    assert refused_socket(view.url, "/streams/0", additional_headers={"Sec-Fetch-Site": "cross-site"}) == 403
    with looking(view.url, origin=view.url) as looker:
        looker.text("hello")


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/....//etc/passwd", "//etc/passwd",
        "/..%5c..%5cwindows", "/%252e%252e/passwd", "/app.js%00.html", "/__init__.py", "/../app.py", "/.",
        "/sessions/../../x/zip", "/sessions/%2e%2e/zip", "/sessions/..%2f..%2fetc/files/passwd", "/sessions//zip",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_page(view: Shown, path: str) -> None:
    answer = raw(view, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"root:" not in answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"\0\xff" * 400,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000,
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10485760\r\n\r\n" + b"x" * 65536,
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n" + b"x" * 65536,
    ],
)
def test_what_nobody_may_send_is_refused_at_once(view: Shown, request_bytes: bytes) -> None:
    answer = raw(view, request_bytes)
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 413", b"")  # cut off while it was still sending
    assert httpx.get(view.url).status_code == 200


def test_a_message_of_10_mb_is_refused(view: Shown) -> None:
    with looking(view.url) as looker:
        with contextlib.suppress(ConnectionClosed):
            looker.socket.send("x" * 10_000_000)
        with pytest.raises(ConnectionClosed) as closed:
            looker.text("nothing that there is")
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009


@pytest.fixture(params=["plain", "TLS"])
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Door:
    """Without and with encryption."""
    if request.param == "plain":
        return Door(listen="127.0.0.1:0")
    key = str(make_certificate(tmp_path / "localhost.pem"))
    return Door(listen="127.0.0.1:0", certificate=key, key=key)


def test_connections_that_say_nothing_give_way_to_who_asks(door: Door) -> None:
    """They come by hundreds and do not go; over TLS they do not even begin it."""
    said = hear()
    with showing(door=door) as shown, _page(shown) as looker, contextlib.ExitStack() as held:
        place = ("127.0.0.1", shown.sink.site.port)
        silent = [held.enter_context(socket.create_connection(place, 60)) for _ in range(200)]
        for connection in silent[: -connections.CONNECTIONS]:
            assert received(connection) == b""  # given up, the oldest first
        assert _answers(shown)
        shown.show(5)
        assert looker.picture().header["number"] == 5  # who is in is not disturbed
    told = [line for line in said if "cut off" in line]
    assert 1 <= len(told) <= 5, "a line now and then, however many are cut off"


def test_pages_beyond_the_limit_are_told_to_come_later_and_room_comes_back(door: Door) -> None:
    with showing(door=door) as shown:
        with contextlib.ExitStack() as held:
            for _ in range(connections.CONNECTIONS):
                held.enter_context(_page(shown)).text("hello")
            for _ in range(3):
                assert httpx.get(shown.url, verify=False).status_code == 503
        until(lambda: _answers(shown))


def test_a_handshake_that_does_not_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HANDSHAKE_S", 0.1)
    key = str(make_certificate(tmp_path / "localhost.pem"))
    with showing(door=Door(listen="127.0.0.1:0", certificate=key, key=key)) as shown:
        for words in (b"", b"\x16\x03\x01\x02\x00\x01"):
            assert raw(shown, words) == b""


def test_where_no_handle_is_free_it_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    said, none_free = hear(), [OSError(errno.EMFILE, os.strerror(errno.EMFILE))]

    class Listener(socket.socket):
        def accept(self) -> Any:
            if none_free:
                raise none_free.pop()
            return super().accept()

    def listen(door: Door) -> socket.socket:
        return Listener(fileno=server_listen(door).detach())

    server_listen = server.listen
    monkeypatch.setattr(server, "listen", listen)
    monkeypatch.setattr(connections, "SCARCE_S", 0.05)
    with showing() as shown:
        assert _answers(shown)
    assert [line for line in said if "takes no connection (Too many open files)" in line]


def _page(shown: Shown) -> contextlib.AbstractContextManager[Looker]:
    """A page that looks on, whether encrypted or not."""
    return looking(shown.url, ssl=trusting() if shown.url.startswith("https") else None)


def _answers(shown: Shown) -> bool:
    try:
        return httpx.get(shown.url, verify=False, timeout=20).status_code == 200
    except httpx.TransportError:
        return False


def test_who_does_not_say_what_it_wants_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.1)
    whole, part = b"GET /streams HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET / HT"
    with showing() as shown:
        for words in (b"", part, whole[:-2]):
            assert raw(shown, words) == b""
        with socket.create_connection(("127.0.0.1", shown.sink.site.port), 20.0) as connection:
            connection.sendall(whole)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            connection.sendall(part)  # of another request in the same connection
            assert b"HTTP/1.1" not in received(connection)


def test_a_page_that_sends_too_much_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "BURST", 50.0)
    monkeypatch.setattr(viewer, "MESSAGES_S", 0.0)
    with showing() as shown, looking(shown.url) as looker:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(60):
                looker.send(quality=90)
        assert _closed(looker) == viewer.POLICY


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", "7", '{"ack": 1}', '{"ack": -1}', '{"quality": 91}', '{"who": 1}', '{"ack": "1"}',
     '{"now": -1}', '{"now": 1e999}', '{"now": "1"}',
     '{"call": 7}', '{"é中": 1}', '{"call": "' + "é" * 200 + '"}', '{"id": ' + "9" * 5000 + "}",
     '{"call": "freeze", "arguments": []}', "[" * 60_000,
     '{"arguments": {"a": ' + "[" * 100 + "]" * 100 + "}}"],
)  # fmt: skip
def test_messages_of_another_form_cut_the_page_off(view: Shown, text: str) -> None:
    with looking(view.url) as looker:
        looker.socket.send(text)
        assert _closed(looker) == viewer.POLICY


@pytest.mark.parametrize("index", ["1", "9999", "9" * 5000, "-1", "a", "%C2%B2"])
def test_numbers_of_streams_that_are_none(view: Shown, index: str) -> None:
    said = hear()
    assert refused_socket(view.url, f"/streams/{index}") == 403
    assert said == []


def _closed(looker: Looker) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        looker.text("nothing that there is")
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_nothing_is_left_when_it_ends() -> None:
    before = set(threading.enumerate())
    with contextlib.ExitStack() as held:
        with showing() as shown:
            looker = held.enter_context(looking(shown.url))
            held.enter_context(socket.create_connection(("127.0.0.1", shown.sink.site.port)))
            shown.show(1)
            looker.picture(ack=False)
            port = shown.sink.site.port
        assert _closed(looker) == viewer.ENDED
        assert "ended" in looker.texts
    until(lambda: set(threading.enumerate()) <= before)
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_signals_stay_whose_they_were() -> None:
    import signal

    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with showing():
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_usual_port_gives_way_and_a_given_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("clesr.pipeline.sinks.browser.door.PORT", port)
        with showing(door=Door()) as shown:
            assert shown.sink.site.port != port
        with (
            pytest.raises(SinkError, match=f"127.0.0.1:{port}"),
            showing(door=Door(listen=f"127.0.0.1:{port}")),
        ):
            pass


def test_the_address_is_told_once_with_its_token() -> None:
    said = hear()
    with showing(door=Door(listen="0.0.0.0:0")) as shown:
        httpx.get(f"http://127.0.0.1:{shown.sink.site.port}/?token=wrong")
        url = shown.sink.site.url
    assert [line for line in said if "open in a browser" in line] == [f"open in a browser: {url}"]
    assert "token=" in url
    assert [line for line in said if "not encrypted" in line]


def test_uvicorn_says_nothing_by_itself(capfd: pytest.CaptureFixture[str]) -> None:
    said = hear()
    logging.getLogger("clesr").setLevel(logging.DEBUG)
    with showing() as shown:
        raw(shown, b"nonsense\r\n\r\n")
    assert [line for line in said if "Invalid HTTP request" in line]
    assert capfd.readouterr() == ("", "")


def test_with_a_certificate_all_is_encrypted(tmp_path: Path) -> None:
    key = make_certificate(tmp_path / "localhost.pem")
    certificate = key.with_suffix(".crt")
    trusted = trusting(certificate)
    door = Door(listen="127.0.0.1:0", token=TOKEN, certificate=str(certificate), key=str(key))
    with showing(door=door) as shown, httpx.Client(base_url=shown.url, verify=trusted) as browser:
        first = browser.get("/", params={"token": TOKEN})
        assert "Secure" in first.headers["set-cookie"]
        assert browser.get("/").status_code == 200
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        headers = {"Cookie": cookie}
        with looking(shown.url, ssl=trusted, origin=shown.url, additional_headers=headers) as looker:
            looker.text("hello")
        with pytest.raises(httpx.TransportError):
            httpx.get(shown.url.replace("https", "http"))


def test_the_page_comes_from_the_package_and_asks_no_other_host(view: Shown) -> None:
    files = page_files()
    assert {"index.html", "app.js", "style.css"} <= files.keys()
    for name, content in files.items():
        assert b"http://" not in content, name
        assert b"https://" not in content, name
    with asking(view) as browser:
        for name, content in files.items():
            assert browser.get(f"/{name}").content == content
        assert browser.get("/").content == files["index.html"]


def test_a_site_without_streams_has_no_server() -> None:
    site = Site(Door())
    assert site.titles == []
    site.soon(lambda: pytest.fail("there is no thread for it"))


@pytest.mark.parametrize(
    ("error", "level"), [(ValueError("odd"), "WARNING"), (asyncio.CancelledError("cut"), "DEBUG")]
)
def test_what_is_cut_off_when_the_run_ends_is_no_warning(
    error: BaseException, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "clesr.pipeline.sinks.browser.server")
    info = type(error), error, None
    server.Forward().handle(logging.LogRecord("uvicorn", logging.ERROR, "", 0, "Exception in ASGI", (), info))
    assert [record.levelname for record in caplog.records] == [level]
