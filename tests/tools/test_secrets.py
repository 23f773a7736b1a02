"""No secret of an address stands in a line, a summary, a session, or an export of it."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import cv2
import pytest
from commands import Run, one_line
from recordings import drifting
from waits import joined

from clesr.engines.common.text import SHORTEST

MARK = "Hunter2"
LIVE = ("--scale", 2, "--model", "nearest", "--display", "none")
SECRETS = [
    f"a@/{MARK}",
    f"a?:{MARK}#b",
    MARK,
    f"a/{MARK}",
    f"a:{MARK}@b",
    f"a#{MARK}",
    f"%25{MARK}",
    f"{MARK} x",
]
SOME = [pytest.param(secret, marks=[pytest.mark.slow] * (index > 0)) for index, secret in enumerate(SECRETS)]


class Camera(http.server.BaseHTTPRequestHandler):
    """Motion JPEG to everybody who has the password, until the other side goes away."""

    def do_GET(self) -> None:
        if MARK not in self.path:
            self.send_error(403)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        image = cv2.imencode(".jpg", drifting(1, (48, 64))[0])[1].tobytes()
        part = (
            b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(image)
            + image
            + b"\r\n"
        )
        try:
            for _ in range(500):
                self.wfile.write(part)
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def camera() -> Iterator[str]:
    """Host and port of a camera."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"127.0.0.1:{web.server_port}"
        web.shutdown()
        joined(thread)


@pytest.fixture
def closed() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def everything(folder: Path) -> bytes:
    """All names and bytes in ``folder``."""
    return b"".join(
        str(path).encode() + (path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")
    )


@pytest.mark.parametrize(
    "place", ["{host}/live?user=joe&password={secret}", "joe:{secret}@{host}/live?x={secret}"]
)
def test_what_is_recorded_from_a_camera_with_a_password(
    place: str, camera: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    address = "http://" + place.format(host=camera, secret=quote(f"x@{MARK}/y", safe=""))
    options = ("--frames", 5, "--record", "s", "--summary", "sum.json", "--output", "sr.mkv")
    code, out, err = run("clesr-live", "--source", address, *LIVE, *options)
    assert code == 0, err
    assert json.loads((tmp_path / "sum.json").read_text())["source"] == f"http://{camera}/live?..."
    said = out + err
    for words in (
        ("verify", "s", "--json", "certificate.json"),
        ("info", "s"),
        ("export", "s", "-o", "s.mp4", "--keep-metadata"),
        ("export", "s", "-o", "s.ome.tif", "--keep-metadata"),
        ("replay", "s", "--display", "none", "--pace", "max"),
        ("info", address),
        ("export", address, "-o", "e.png", "--frame", 1),
        ("export", address, "-o", "e.mp4", "--what", "sr"),
    ):
        said += "".join(run("clesr", *words)[1:])
    assert MARK not in said
    assert MARK.encode() not in everything(tmp_path)


@pytest.mark.parametrize("secret", SOME)
@pytest.mark.parametrize("scheme", ["rtsp", "http", "rtmp", "tcp", "srt", "ftp", "zmq+tcp"])
def test_what_fails_says_no_secret(scheme: str, secret: str, closed: int, run: Run) -> None:
    for address in (
        f"{scheme}://joe:{secret}@127.0.0.1:{closed}/x",
        f"{scheme}://127.0.0.1:{closed}/x?password={secret}",
        f"left={scheme}://joe:{secret}@127.0.0.1:{closed}/x y?token={secret}",
    ):
        code, out, err = run("clesr-live", "--source", address, *LIVE, "--seconds", 0.2, "--debug")
        assert code in (0, 1, 2)
        assert MARK not in out + err


@pytest.mark.parametrize("secret", SOME)
@pytest.mark.parametrize("scheme", ["zmq+tcp", "zmq+ipc", "igtl", "ftp", "http"])
def test_nor_do_outputs(scheme: str, secret: str, run: Run) -> None:
    for address in (
        f"{scheme}://joe:{secret}@nowhere.invalid:1",
        f"{scheme}://127.0.0.1:1?password={secret}",
    ):
        for option in ("--send", "--output"):
            code, out, err = run(
                "clesr-live", "--source", "demo:?size=32", *LIVE, "--frames", 1, option, address
            )
            assert code in (1, 2)
            assert MARK not in out + err


def test_two_streams_of_one_name_or_output(run: Run) -> None:
    streams = [word for _ in range(2) for word in ("--source", f"left=rtsp://joe:{MARK}@camera/x")]
    code, _, err = run("clesr-live", *streams, *LIVE)
    assert code == 2
    assert MARK not in one_line(err)
    streams = [word for name in "ab" for word in ("--source", f"{name}=demo:")]
    code, _, err = run(
        "clesr-live",
        *streams,
        *LIVE,
        "--send",
        f"zmq+tcp://joe:{MARK}@x",
        "--send",
        f"zmq+tcp://joe:{MARK}@x",
    )
    assert code == 2
    assert MARK not in one_line(err)


def test_the_name_of_a_stream_has_no_part_of_a_password() -> None:
    from clesr.tools.common.naming import name_streams

    for secret in SECRETS:
        for address in (f"rtsp://joe:{secret}@camera/live", f"http://camera/live?key={secret}"):
            assert MARK not in "".join(name_streams([address]))


ADDRESS = f"rtsp://joe:{MARK}@127.0.0.1:1/x?token={MARK}"


@pytest.mark.parametrize(
    "text",
    [
        f'[live]\nsource = ["{ADDRESS}", [1]]',
        f'[live]\noutput = {{ "{ADDRESS}" = 1 }}',
        f'[live]\nscale = "{ADDRESS}"',
        f'[live]\n"{ADDRESS}" = 1',
        f'[live]\n"{"x" * 58}{ADDRESS}" = 1',
        f'"{ADDRESS}" = 1',
        f'["{ADDRESS}"]',
        f'[live]\nsource = "{ADDRESS}"\nsource = "{ADDRESS}"',
        f'[live]\nsource = "{ADDRESS}',
    ],
)
def test_nor_do_settings(text: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text)
    code, out, err = run("clesr-live", "--config", tmp_path / "a.toml", *LIVE, "--debug")
    assert code == 2
    assert MARK not in out + err
    assert MARK[:SHORTEST] not in out + err


@pytest.mark.parametrize("name", ["SOURCE", "SCALE", "OUTPUT", "SEND", "MODEL", "SUMMARY", "ROI"])
def test_nor_does_the_environment(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"CLESR_LIVE_{name}", ADDRESS)
    code, out, err = run("clesr-live", *LIVE, "--seconds", 0.1, "--debug")
    assert code in (0, 1, 2)
    assert MARK not in out + err


def test_nor_does_a_cluster_from_the_environment(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("CLESR_UPSCALE_CLUSTER", f"ray://joe:{MARK}@nowhere.invalid:1")
    code, out, err = run("clesr", "upscale", tmp_path, "-o", tmp_path / "o", "--debug")
    assert code in (1, 2)
    assert MARK not in out + err
